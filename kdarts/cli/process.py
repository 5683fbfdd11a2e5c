"""Starting TensorFlow without its greetings.

Runs a command of kdarts in a process of its own, which gives its memory back and ends with the one that began it.

    python -m kdarts.cli.process VERB [--flags]

is `kdarts VERB [--flags]`, which ends as soon as its standard input does. Its parent holds the other end of that pipe
and writes nothing; the system closes it however the parent ends, so that no orphan goes on in a folder that the parent,
started again, takes up.
"""

import contextlib
import os
import pathlib
import subprocess
import sys
import threading


def start_tensorflow() -> None:
    """Imports TensorFlow and lets it look for devices with standard error closed.

    At this point it writes about CPU features and missing GPU drivers, which would bury the one line that a mistake
    deserves. What goes wrong still raises; `TF_CPP_MIN_LOG_LEVEL=0` in the environment lets everything through.
    """
    if os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3") == "0" or "tensorflow" in sys.modules:
        return
    with hushed():
        import tensorflow as tf

        tf.config.list_physical_devices()


@contextlib.contextmanager
def hushed():
    """Closes standard error to libraries that write there from C++, whatever Python's logging says."""
    if os.environ.get("TF_CPP_MIN_LOG_LEVEL") == "0":
        yield
        return
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


_ORPHANED = 129
"""The exit code of a child whose parent is gone."""


def run_kdarts(words: list[str], **choices) -> int:
    """Runs `kdarts WORDS`, also where kdarts is not installed.

    Args:
        words: the command line after `kdarts`.
        **choices: more arguments of `subprocess.run`.

    Returns:
        Its exit code, as of `exit_code`; below 0 if it was killed.
    """
    root = pathlib.Path(__file__).resolve().parents[2]
    # The commands of a tuning's worker are searches of their own, not workers.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("KERASTUNER_")}
    environment["PYTHONPATH"] = os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])
    reading, writing = os.pipe()
    command = [sys.executable, "-m", "kdarts.cli.process", *words]
    try:
        return subprocess.run(command, stdin=reading, env=environment, check=False, **choices).returncode
    finally:
        os.close(reading)
        os.close(writing)


def _end_with_parent() -> None:
    while os.read(0, 1):
        pass
    os._exit(_ORPHANED)


if __name__ == "__main__":
    from kdarts.cli.main import script

    threading.Thread(target=_end_with_parent, daemon=True).start()
    script()
