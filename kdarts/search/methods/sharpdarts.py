"""sharpDARTS: Faster and More Accurate Differentiable Architecture Search (Hundt, Jain, Hager 2019).

- SharpSepConv (figure 3): two depthwise separable convolutions, the first of which takes stride and dilation, with
  c_mid channels between them: as many as the output has, four times as many (flood) or 32 (choke). All convolutions of
  the space (table 1) are such; `--space=sharpsepconv` has DARTS' own candidates in that form.
- Max-W (section 4.3, Eq. 3): out = sum over i of (1 - w_max + w_i) op_i(x) with w = softmax(α) and w_max the greatest
  of the edge, which passes whole. DARTS' w_i op_i(x) tends to what has the largest gradient, small operations early on.
  The program's gradient goes through w_max (`--mixing=max_w_stopped`: not). A genotype comes of w, as in DARTS.
- Cosine power annealing (section 3.2, Eq. 2): η_min + (η_max - η_min) (p^(c + 1) - p) / (p^2 - p) with
  c = (1 + cos(π t / T)) / 2; p = 2 on CIFAR-10, after a climb of 5 epochs (`kdarts/search/schedules.py`).
- Recipe (paper, its program): first order; 60 epochs; weights by SGD 0.025 → 1e-4; α by Adam 3e-4. The published cells
  were searched without Max-W and by the plain cosine 0.025 → 0.001 in batches of 32; with Max-W the program later took
  120 epochs, cutout and AutoAugment.

MultiChannelNet: sharpDARTS' HyperCuboid (Hundt, Jain, Hager 2019, sections 4.1 and 4.3).

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

SHARPDARTS = register_method(
    DARTS.override(
        space="sharpdarts",
        mixing="max_w",
        schedule="cosine_power",
        power=2.0,
        final_learning_rate=1e-4,
        learning_rate_warmup=5,
        epochs=60,
    ).named("sharpdarts", "sharpDARTS, Hundt et al. 2019")
)


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
