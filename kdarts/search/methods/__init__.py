"""A page for each paper. Importing them makes their methods known."""

import importlib
import pkgutil

for _page in pkgutil.iter_modules(__path__):
    importlib.import_module(f"kdarts.search.methods.{_page.name}")
