"""Starts a command of kdarts in a process of its own, which gives its memory back, as the studies and benchmarks do."""

import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent


def run_kdarts(words: list[str], **choices) -> int:
    """Runs `kdarts WORDS`, also where kdarts is not installed.

    Args:
        words: the command line after `kdarts`.
        **choices: more arguments of `subprocess.run`.

    Returns:
        Its exit code; 2 for what the user got wrong, which it has said in a line.
    """
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    return subprocess.run([sys.executable, "-m", "kdarts", *words], env=environment, check=False, **choices).returncode
