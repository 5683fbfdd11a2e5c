"""`--preset`: the sizes and rates of a paper, or small ones for the built-in digits; a line tells what they change."""

from absl import flags

from kdarts.cli.command import entitle
from kdarts.cli.process import is_child

PRESETS = ("paper", "small")


def define(values: flags.FlagValues, changes: str) -> None:
    """Declares `--preset`; `changes` says what a small one has otherwise."""
    text = f"values of the options that are not given: paper, those of the paper, or small: {changes}; a "
    text += "line then lists them; "
    text += "default: small for the built-in digits, paper for all other data"
    flags.DEFINE_enum("preset", None, PRESETS, text, flag_values=values)
    entitle(values, "Data", ["preset"])


def usual(values: flags.FlagValues) -> str:
    """Returns the preset of a data set where none is given."""
    return "small" if "dataset" in values and values.dataset == "digits" else "paper"


def is_small(values: flags.FlagValues) -> bool:
    """Returns whether the preset of a command is the small one; commands without `--preset` have the usual one."""
    given = values.preset if "preset" in values else None
    return (given or usual(values)) == "small"


def flag(values: flags.FlagValues) -> dict:
    """Returns `--preset` for a command that follows, unless it has its default."""
    return {"preset": values.preset} if values.preset and values.preset != usual(values) else {}


def tell(changes: dict[str, tuple]) -> None:
    """Prints a line on what a small preset changes, by name the paper's value and its own; in a child nothing."""
    if changes and not is_child():
        text = ", ".join(f"{name} {_text(before)} → {_text(after)}" for name, (before, after) in changes.items())
        print(f"preset small: {text}; --preset=paper keeps the paper's values", flush=True)


def _text(value) -> str:
    return f"{value:g}" if isinstance(value, float) else ",".join(value) if isinstance(value, list) else str(value)
