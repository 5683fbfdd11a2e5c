"""TensorFlow's threads, and the workdir that the processes of one run on several hosts share."""

import contextlib
import os
import shutil
import tempfile

import tensorflow as tf

from kdarts.genotypes.errors import KdartsError
from kdarts.search.replicas import is_chief
from kdarts.training.workdir import Workdir


def configure_threads(cores: int | None = None) -> None:
    """Configures TensorFlow's threads for a search on a CPU: many operations at once, each on few threads.

    A supernet consists of many small independent operations, and splitting each over all cores costs more time than it
    saves. Call this once, before TensorFlow computes anything. With a GPU it has no effect.

    Args:
        cores: The number of cores to use. Defaults to `None`: all that this process may run on.

    Raises:
        KdartsError: If TensorFlow has already computed something.
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


@contextlib.contextmanager
def run_together(strategy: tf.distribute.Strategy, workdir: Workdir):
    """A context around a run, which yields the folder that this process reads and writes.

    For the first process, the chief, this is `workdir`. Every other process has a temporary copy of it, so that it
    restores the same state, makes the same decisions and writes nothing into `workdir`. At the end of the context the
    processes wait for each other, because a process that ends early stops the others.

    Args:
        strategy: See `make_strategy`.
        workdir: The folder of the run, on a file system that all hosts see.

    Raises:
        KdartsError: If only some of the processes see the folder.
    """
    if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy) or strategy.num_replicas_in_sync == 1:
        yield workdir
        return
    with contextlib.ExitStack() as stack:
        seen_by = _count(strategy, workdir.path.is_dir())
        if 0 < seen_by < strategy.num_replicas_in_sync:
            raise KdartsError(f"workdir {str(workdir.path)!r}: all hosts need to see it, on one file system")
        folder = workdir
        if not is_chief(strategy):
            folder = Workdir(stack.enter_context(tempfile.TemporaryDirectory(prefix="kdarts-")))
            if seen_by:
                ignored = shutil.ignore_patterns("events")  # TensorBoard's files, which no process reads.
                shutil.copytree(workdir.path, folder.path, ignore=ignored, dirs_exist_ok=True)
        _count(strategy, True)  # The chief changes nothing before the others have their copies.
        yield folder
        _count(strategy, True)


def _count(strategy: tf.distribute.Strategy, value: bool) -> int:
    """Returns the number of replicas whose process calls it with True. It returns once all processes have called it."""

    def sum_over_replicas():
        return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, tf.cast(value, tf.int32))

    total = tf.function(lambda: strategy.run(sum_over_replicas), autograph=False)()
    return int(strategy.experimental_local_results(total)[0])
