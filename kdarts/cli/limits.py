"""`--memory_limit` and `--data_service`: what a run may take, and who prepares its data."""

import contextlib
import re
from collections.abc import Callable

from absl import flags

from kdarts.genotypes.errors import KdartsError


def define_data_service(values: flags.FlagValues) -> None:
    """`--data_service`."""
    text = "HOST:PORT of a tf.data service with one worker, which then prepares the same batches in the same order"
    flags.DEFINE_string("data_service", None, text, flag_values=values)


def define_memory_limit(values: flags.FlagValues) -> None:
    """`--memory_limit`."""
    text = "refuse a search that would take more memory by its forecast, such as 8GB or 900MB, and say what would fit"
    flags.DEFINE_string("memory_limit", None, text, flag_values=values)


def megabytes(values: flags.FlagValues) -> float | None:
    """`--memory_limit` in 10^6 bytes; None if it is unset."""
    text = values.memory_limit
    if text is None:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(MB|GB)", text, re.IGNORECASE)
    if found is None or not float(found[1]):
        raise KdartsError(f"--memory_limit={text}: needs a number and MB or GB, such as 8GB or 900MB")
    return float(found[1]) * (1000 if found[2].upper() == "GB" else 1)


@contextlib.contextmanager
def refusing(workdir):
    """Around a search: if it is refused for its memory, the folder is left to the smaller one that may follow."""
    from kdarts.run.forecast import TooLarge

    try:
        yield
    except TooLarge:
        workdir.disclaim()
        raise


class _With:
    """Flags of which some have another value."""

    def __init__(self, values: flags.FlagValues, **changed):
        self.__dict__.update(changed, _values=values)

    def __contains__(self, name):
        return name in self._values

    def __getattr__(self, name):
        return getattr(self._values, name)


def thriftier(values: flags.FlagValues, search, build: Callable) -> dict[str, Callable]:
    """What makes the same search with less memory, by the flag that asks for it; `build(values, method)` makes one."""
    method, others = search.method, {}
    if not values.recompute:
        others["--recompute"] = lambda: build(_With(values, recompute=True), method)
    if values.precision == "float32":
        others["--precision=mixed_bfloat16"] = lambda: build(_With(values, precision="mixed_bfloat16"), method)
    if method.partial_channels == 1:
        others["--partial_channels=4"] = lambda: build(values, method.override(partial_channels=4))
    return others
