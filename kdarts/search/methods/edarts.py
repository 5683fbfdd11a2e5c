"""eDARTS: Operation and Topology Aware Fast Differentiable Architecture Search (Siddiqui, Kyrkou, Theocharides).

- Pre-specified topology (sections III-B, IV-D): node i reads two inputs P(i) that are fixed beforehand. So α has 8 rows
  in place of 14, and a derived cell is the best operation but `none` of each:

      x_i = Σ_{j ∈ P(i)} Σ_o softmax(α^(j,i))_o o(x_j)

  The paper does not say which topology it found best. Here every node reads the cell's two inputs, `--topology=0`, as
  in PC-DARTS' normal cell, the best of those that the paper compares (Table III).
- Operation attention (sections III-A, IV-C): constants w_o by operation. The paper does not say when they are added;
  here after each update of α,

      α ← Adam(α, ∇α L_valid) + w

  which is as much as two steps of Adam's rate and just outweighs what skip connections can gain; once, or as an offset,
  it would be lost in 50 updates (`--attention_mode`).
- α moves once an epoch (section III-C), after its last step, on the last batches. The order is DARTS' second.
- 2,500 images for the weights and 2,500 for α (section IV-B): `--train_examples=2500 --valid_examples=2500`.
- A shallow supernet (sections III-A, IV-E), 5 cells of 16 channels. Else DARTS' recipe.
- Spaces SS1 to SS8 (Table I) are `--space=ss1` and on.
"""

from kdarts.search.method import register_method
from kdarts.search.methods.darts import DARTS

ATTENTION = (
    ("sep_conv_3x3", 0.0006),
    ("sep_conv_5x5", 0.0004),
    ("dil_conv_5x5", -0.0006),
    ("dil_conv_3x3", -0.0004),
)

EDARTS = register_method(
    DARTS.override(order="second", topology="0", attention=ATTENTION, update="epoch", cells=5).named(
        "edarts", "eDARTS, Siddiqui et al."
    )
)
