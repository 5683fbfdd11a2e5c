"""Processes and devices: a quiet TensorFlow, commands in processes of their own, and the flags of several devices.

`python -m kdarts.cli.process VERB [--flags]` runs `kdarts VERB [--flags]` until it ends, or until its standard input
closes. Its parent holds the other end of that pipe. The system closes it however the parent ends, so that no orphan
keeps working in a folder that the parent needs again.
"""

import contextlib
import functools
import json
import os
import pathlib
import subprocess
import sys
import threading

from absl import flags

from kdarts.cli.command import titled
from kdarts.cli.configuration import configure
from kdarts.genotypes.errors import KdartsError


def check_backend() -> None:
    """Raises `KdartsError` where Keras is set to compute by another library than TensorFlow."""
    name = os.environ.get("KERAS_BACKEND")
    where = f"KERAS_BACKEND={name}"
    if not name:
        settings = pathlib.Path(os.environ.get("KERAS_HOME", "~/.keras")).expanduser() / "keras.json"
        try:
            name = json.loads(settings.read_text("utf-8")).get("backend")
        except (OSError, ValueError, AttributeError, RuntimeError):
            name = None
        where = f"{settings}: backend {name}"
    if name not in (None, "tensorflow"):
        raise KdartsError(f"{where}: the commands compute with TensorFlow; set KERAS_BACKEND=tensorflow")


def start_tensorflow() -> None:
    """Imports TensorFlow and lets it look for devices with standard error closed.

    It writes about CPU features and missing GPU drivers there, which would hide the one line of an error message.
    Errors still raise; with `TF_CPP_MIN_LOG_LEVEL=0` in the environment, standard error stays open. Keras gets its own
    defaults, whatever a `keras.json` or an earlier command in this process set: a command always computes alike.

    Raises:
        KdartsError: as of `check_backend`.
    """
    check_backend()
    if os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3") != "0" and "tensorflow" not in sys.modules:
        with hushed():
            import tensorflow as tf

            tf.config.list_physical_devices()
    configure()


@contextlib.contextmanager
def hushed():
    """A context that closes standard error to libraries, also where they write from C++ and logging cannot help."""
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
"""The exit code of a child whose parent has ended."""


def run_kdarts(words: list[str], **choices) -> int:
    """Runs `kdarts WORDS`, also if kdarts is not installed, and returns its exit code, below 0 if it was killed.

    `choices` are more arguments of `subprocess.run`.
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


def core_shares(jobs: int):
    """Returns an initializer for a pool of `jobs` threads, which divides the cores among them.

    A thread's share holds for the processes that it starts, too. With one job, or fewer cores than jobs, all share all.
    """
    lock, places = threading.Lock(), list(range(jobs))
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []

    def take():
        with lock:
            place = places.pop()
        if jobs > 1 and len(cores) >= jobs:
            os.sched_setaffinity(0, cores[place::jobs])

    return take


def is_child() -> bool:
    """Returns whether another command has started this process by `run_kdarts`."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return spec is not None and spec.name == "kdarts.cli.process"


def _end_with_parent() -> None:
    while os.read(0, 1):
        pass
    os._exit(_ORPHANED)


@titled("Computation")
def define(values: flags.FlagValues) -> None:
    """Declares `--strategy` and `--sync_batch_norm`."""
    text = "replicas that share each batch: none, one on each GPU of this machine, or on those of the machines that "
    text += "TF_CONFIG names (the same command on each)"
    flags.DEFINE_enum("strategy", "default", ["default", "mirrored", "multi_worker"], text, flag_values=values)
    text = "batch normalisation over the examples of all replicas together, instead of each replica's own"
    flags.DEFINE_bool("sync_batch_norm", False, text, flag_values=values)


def together(values: flags.FlagValues) -> bool:
    """Returns whether replicas normalise together; False for commands without these flags."""
    return "sync_batch_norm" in values and values.sync_batch_norm


def strategy(values: flags.FlagValues):
    """Returns the `tf.distribute` strategy of the flags. Call it first before TensorFlow computes anything.

    Raises `KdartsError` for flags that do not go together (also see `make_strategy`).
    """
    name = values.strategy if "strategy" in values else "default"
    if name != "default" and values.jit_compile:
        raise KdartsError(f"--jit_compile: not with --strategy={name}, whose replicas wait for one another")
    return _made(name)


@functools.cache
def _made(name: str):
    from kdarts.search.replicas import make_strategy

    return make_strategy(name)


def check(values: flags.FlagValues, name: str, batch_size: int) -> None:
    """Raises `KdartsError` if a batch, of the flag `name`, cannot be divided among the replicas."""
    count = strategy(values).num_replicas_in_sync
    if batch_size % count:
        raise KdartsError(f"{name}={batch_size}: needs a multiple of {count}, the replicas that share a batch")


def is_first(values: flags.FlagValues) -> bool:
    """Returns whether this process is the one that writes files and reports the result."""
    from kdarts.search.replicas import is_chief

    return is_chief(strategy(values))


def run_on(values: flags.FlagValues, workdir):
    """Returns the context `run_together` for the strategy of the flags."""
    from kdarts.training.distribution import run_together

    return run_together(strategy(values), workdir)


if __name__ == "__main__":
    from kdarts.cli.main import script

    threading.Thread(target=_end_with_parent, daemon=True).start()
    script()
