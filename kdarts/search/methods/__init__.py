"""A page for each paper. Importing them makes their methods known."""

import importlib

PAGES = (
    *("beta_darts", "darts", "darts_minus", "darts_plus", "dartspd", "ddarts", "drnas", "edarts", "fairdarts"),
    *("fairnas", "gdas", "i_darts", "kdarts", "oles", "pcdarts", "pdarts", "random", "reinmax", "sharpdarts"),
    *("snas", "spos"),
)

for _page in PAGES:
    importlib.import_module(f"kdarts.search.methods.{_page}")
