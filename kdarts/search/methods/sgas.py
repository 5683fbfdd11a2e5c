"""SGAS: Sequential Greedy Architecture Search (Li, Qian, Delgadillo, Müller, Thabet, Ghanem; CVPR 2020).

- With π = softmax(α) and q the same without `none`, made to sum to 1, an edge has the importance S_EI = 1 − π_none, the
  certainty S_SC = 1 − H(q) / ln 7 and the stability S_SS, the mean over the last 4 epochs of Σ min(q, q_old).
- Criterion 1 is n(S_EI) n(S_SC), criterion 2 is that times n(S_SS), where n takes the least of all edges to 0 and the
  greatest to 1.
- After epochs 10, 15, ..., 45 of 50, or in proportion, the undecided edge of the greatest criterion of each cell keeps
  its strongest operation but `none`, which then runs unweighted (`sgas`); a node with two decided edges loses its
  others. So the supernet ends as the network that is derived.
- Otherwise DARTS in first order. The authors add 8 images to the batch at each decision; here it stays.
"""

from kdarts.search.method import register_method
from kdarts.search.methods.darts import DARTS

SGAS = register_method(DARTS.override(masks="sgas").named("sgas", "SGAS, Li et al., CVPR 2020"))
