"""Starting TensorFlow without its greetings."""

import contextlib
import os
import sys


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
