"""SmoothDARTS: Stabilizing DARTS via Perturbation-based Regularization (Chen and Hsieh; ICML 2020).

- The weights descend the training loss at perturbed mixing weights, p + δ with |δ| ≤ ε for every one of them, so that
  the loss is flat around p and stays low when the architecture is derived. α descends the validation loss at p itself.
- SDARTS-RS: δ is uniform noise, drawn in each step. It costs nothing.
- SDARTS-ADV: δ is where the training loss is greatest, by 7 steps of projected gradient ascent on the same
  batch; a step costs about five times that of DARTS. The authors' ascent normalises by running statistics, this one by
  those of the batch, as the pass does that follows.
- ε grows from 0.03 to 0.3, by epochs. What leaves 0 to 1 is cut off, and an edge keeps the sum of its weights.
- Otherwise DARTS in first order. The authors search DARTS' space without `none`.
"""

from kdarts.search.method import register_method
from kdarts.search.methods.darts import DARTS

SDARTS_RS = register_method(
    DARTS.override(perturbation="random").named("sdarts_rs", "SmoothDARTS with random noise, Chen and Hsieh, ICML 2020")
)
SDARTS_ADV = register_method(
    DARTS.override(perturbation="adversarial").named(
        "sdarts_adv", "SmoothDARTS with adversarial noise, Chen and Hsieh, ICML 2020"
    )
)
