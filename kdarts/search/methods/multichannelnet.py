"""MultiChannelNet: sharpDARTS' HyperCuboid (Hundt, Jain, Hager 2019, sections 4.1 and 4.3).

- Differentiable hyperparameter grid search: HC = (γ, d_n, d_r, p), here γ = 4 x 4 filters before and after a step (32
  to 256), d_n = 4 layers, d_r = 2 strides in each, p = 2 operations, SharpSepConv and a maximum that changes channels.
  (The text says 3 x 3 x 2; its program, its published paths and their 14 nodes say 4 x 2 x 2.) The steps follow one
  another, and at each the state of o filters is the sum of all transitions to it.
- All transitions of a step compete in one softmax. Max-W (Eq. 3): output_i = (1 − max(w) + w_i) op_i(input_i), with the
  maximum over the step; the gradient flows through it, as in the program.
- Derived network: the path from image to logits with the greatest sum of w (the program's longest path).
- Recipe: 60 epochs (120 in the program later on), batch 48, DARTS' optimizers, first order; the weights' rate by
  cosine power annealing, p = 2, 0.025 → 1e-4, after a climb of 5 epochs. Not built: the program skips operations while
  w is below 1/32², whose weights then stand still.
"""

from kdarts.search.method import register_method
from kdarts.search.methods.darts import DARTS

MULTICHANNELNET = register_method(
    DARTS.override(
        space="multichannelnet",
        mixing="max_w",
        discretization="best_path",
        schedule="cosine_power",
        power=2.0,
        final_learning_rate=1e-4,
        learning_rate_warmup=5,
        epochs=60,
        batch_size=48,
        channels=32,
        cells=8,
    ).named("multichannelnet", "sharpDARTS' HyperCuboid, Hundt et al. 2019")
)
