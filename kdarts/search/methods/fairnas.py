"""FairNAS: Rethinking Evaluation Fairness of Weight Sharing Neural Architecture Search (Chu et al., ICCV 2021).

- Strict fairness: a step trains as many paths as there are operations, on the same images. On each edge they take the
  operations in a random order, each once; their gradients are summed, and the weights move once (Algorithm 1). So after
  t steps each operation of each edge was trained t times, where of single random paths the numbers spread as √t.
- Then as SPOS; the authors' evolution has several aims (NSGA-II), this one the accuracy, and the best of each size are
  kept beside the best of all.
"""

from kdarts.search.method import register_method
from kdarts.search.methods.spos import SPOS

FAIRNAS = register_method(SPOS.override(sampling="fair_paths").named("fairnas", "FairNAS, Chu et al., ICCV 2021"))
