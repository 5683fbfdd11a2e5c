"""Where kdarts lies, and its commands in processes of their own, as the studies and benchmarks start them."""

import pathlib

from kdarts.cli.process import run_kdarts

__all__ = ["ROOT", "run_kdarts"]

ROOT = pathlib.Path(__file__).resolve().parent.parent
