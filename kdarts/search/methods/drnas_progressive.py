"""DrNAS with progressive learning (Chen, Wang, Cheng, Tang, Hsieh; ICLR 2021, section 4.2), for DARTS' space.

- Halfway every edge keeps the 4 operations of the largest α; α of the others becomes 0, and they weigh 0 in all that is
  drawn from then on (`progressive`): what is left of a Dirichlet draw, made to sum to 1, is a Dirichlet draw of what is
  left. The weights and α go on as they are.
- In each half the weights alone are trained for the first 10 of 25 epochs. Their rate falls from 0.1 to 0 over both.
- The authors let one of 6 channels through the candidates in the first half and one of 4 in the second, and copy
  channels in between; here all go through, in DARTS' supernet of 8 cells and 16 channels (theirs: 20 and 36).
- Otherwise as `drnas`.
"""

from kdarts.search.method import register_method
from kdarts.search.methods.drnas import DRNAS

DRNAS_PROGRESSIVE = register_method(
    DRNAS.override(
        masks="progressive",
        epochs=50,
        warmup_epochs=10,
        learning_rate=0.1,
        final_learning_rate=0.0,
        arch_learning_rate=6e-4,
    ).named("drnas_progressive", "DrNAS with progressive learning, Chen et al., ICLR 2021")
)
