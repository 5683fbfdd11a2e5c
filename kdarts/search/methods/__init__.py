"""A page for each paper. Importing them makes their methods known."""

import importlib

PAGES = (
    *("beta_darts", "darts", "darts_minus", "darts_plus", "dartspd", "ddarts", "edarts", "fairdarts", "gaea", "gdas"),
    *("i_darts", "kdarts", "lambda_darts", "pcdarts", "pdarts", "r_darts", "random", "sdarts", "sharpdarts", "snas"),
)

for _page in PAGES:
    importlib.import_module(f"kdarts.search.methods.{_page}")
