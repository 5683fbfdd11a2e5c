"""How TensorFlow shares the processor."""

import os

import tensorflow as tf

from kdarts.genotypes.errors import KdartsError


def configure_threads(cores: int | None = None) -> None:
    """Sets TensorFlow's threads for a search on a CPU: many operations at once, each on few threads.

    A supernet is many small independent operations; to split each over all cores costs more than it gives. Call it
    once, before TensorFlow has computed anything. With a GPU it changes nothing.

    Args:
        cores: to use; None: all that this process may run on.

    Raises:
        KdartsError: if TensorFlow has already been started.
    """
    cores = cores or len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else cores or os.cpu_count() or 1
    if tf.config.list_physical_devices("GPU"):
        return
    inter = min(cores, 4)
    try:
        tf.config.threading.set_inter_op_parallelism_threads(inter)
        tf.config.threading.set_intra_op_parallelism_threads(max(1, cores // inter))
    except RuntimeError:
        raise KdartsError("configure_threads must be called before TensorFlow computes anything") from None
