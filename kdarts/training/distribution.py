"""How TensorFlow shares the processor.

What the processes of one run on several machines share: the folder of the first, and its end.
"""

import contextlib
import io
import os
import pathlib
import tarfile
import tempfile

import numpy as np
import tensorflow as tf

from kdarts.genotypes.errors import KdartsError
from kdarts.search.replicas import is_chief
from kdarts.training.workdir import Workdir


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


@contextlib.contextmanager
def run_together(strategy: tf.distribute.Strategy, workdir: Workdir):
    """Around a run: yields the folder that this process reads and writes.

    That of the first process, the chief, is `workdir` itself. Each other has a temporary copy of it, so that it goes on
    from the same state, decides as the chief does, and leaves nothing. At the end they wait for one another: a process
    that leaves early takes the others with it.

    Args:
        strategy: as of `make_strategy`.
        workdir: of the run; processes need not see the same disk.
    """
    if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy) or strategy.num_replicas_in_sync == 1:
        yield workdir
        return
    with contextlib.ExitStack() as stack:
        state = _from_chief(strategy, _packed(workdir.path) if is_chief(strategy) else b"")
        if not is_chief(strategy):
            folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kdarts-")))
            with tarfile.open(fileobj=io.BytesIO(state)) as archive:
                archive.extractall(folder, filter="data")
            workdir = Workdir(folder)
        yield workdir
        _from_chief(strategy, b"")


def _packed(folder: pathlib.Path) -> bytes:
    """A folder's files but TensorBoard's, as an archive; an empty one if there is none."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        if folder.is_dir():
            archive.add(folder, ".", filter=lambda entry: None if entry.name.endswith("events") else entry)
    return content.getvalue()


def _from_chief(strategy, content: bytes) -> bytes:
    """The chief's `content`, in every process."""
    length = int(_sum(strategy, np.array([len(content)], np.int32))[0])
    padded = np.zeros(-(-length // 4) * 4, np.uint8)
    padded[: len(content)] = np.frombuffer(content, np.uint8)
    return _sum(strategy, padded.view(np.int32)).tobytes()[:length]


def _sum(strategy, numbers: np.ndarray) -> np.ndarray:
    """The sum over all processes."""

    def of_replica():
        context = tf.distribute.get_replica_context()
        first = context.replica_id_in_sync_group % len(strategy.extended.worker_devices) == 0
        return context.all_reduce(tf.distribute.ReduceOp.SUM, tf.where(first, numbers, tf.zeros_like(numbers)))

    summed = tf.function(lambda: strategy.run(of_replica), autograph=False)()
    return strategy.experimental_local_results(summed)[0].numpy()
