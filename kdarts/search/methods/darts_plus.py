"""DARTS+: Improved Differentiable Architecture Search with Early Stopping (Liang et al., 2019).

- DARTS, which ends once a cell has two skip connections or more (criterion 1, `--stop=skips`), before the supernet
  falls for them; or once α's ranking of the operations with weights has held for 10 epochs (criterion 2,
  `--stop=ranking`).
- Neither counts before epoch 10 (`--stop_from`), ours: at the start α is noise, whose cells have skips by chance.
"""

from kdarts.search.method import register_method
from kdarts.search.methods.darts import DARTS

DARTS_PLUS = register_method(
    DARTS.override(stop="skips", stop_window=10).named("darts_plus", "DARTS+, Liang et al. 2019")
)
