"""The flags of a run on several devices, and what they come to."""

import functools

from absl import flags

from kdarts.cli.command import titled
from kdarts.genotypes.errors import KdartsError


@titled("Computation")
def define(values: flags.FlagValues) -> None:
    """`--strategy` and `--sync_batch_norm`."""
    flags.DEFINE_enum(
        "strategy",
        "default",
        ["default", "mirrored", "multi_worker"],
        "replicas that share each batch: none, one on each GPU of this machine, or on those of the machines that "
        "TF_CONFIG names (the same command on each)",
        flag_values=values,
    )
    text = "normalise by the moments of all replicas' examples together, in place of each replica's own"
    flags.DEFINE_bool("sync_batch_norm", False, text, flag_values=values)


def together(values: flags.FlagValues) -> bool:
    """Whether replicas normalise together; not for commands without these flags."""
    return "sync_batch_norm" in values and values.sync_batch_norm


def strategy(values: flags.FlagValues):
    """The `tf.distribute` strategy that the flags ask for; to be asked for before TensorFlow computes anything.

    Raises:
        KdartsError: as of `make_strategy`, or if the flags do not go together.
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
    """Raises `KdartsError` for a batch, the flag `name`, that does not divide among the replicas."""
    count = strategy(values).num_replicas_in_sync
    if batch_size % count:
        raise KdartsError(f"{name}={batch_size}: needs a multiple of {count}, the replicas that share a batch")


def is_first(values: flags.FlagValues) -> bool:
    """Whether this process is the one that leaves files and says what was found."""
    from kdarts.search.replicas import is_chief

    return is_chief(strategy(values))


def run_on(values: flags.FlagValues, workdir):
    """As of `run_together`."""
    from kdarts.training.distribution import run_together

    return run_together(strategy(values), workdir)
