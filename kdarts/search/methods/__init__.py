"""A page for each paper. Importing them makes their methods known."""

import importlib

PAGES = (
    *("blank_pt", "darts_pt", "zero_cost_pt"),
    *("beta_darts", "darts", "darts_minus", "darts_plus", "dartspd", "ddarts", "edarts", "fairdarts", "gdas"),
    *("i_darts", "kdarts", "pcdarts", "pdarts", "random", "sharpdarts", "snas"),
)

for _page in PAGES:
    importlib.import_module(f"kdarts.search.methods.{_page}")
