"""`kdarts VERB [--flags]`."""

import importlib
import os
import sys

from kdarts import __version__
from kdarts.cli.command import Command, exit_code, help_text, naming_flags
from kdarts.cli.configuration import configuration_kept
from kdarts.genotypes.errors import choice

_COMMANDS = {
    "auto": ("auto", "AUTO"),
    "search": ("search", "SEARCH"),
    "tune": ("tune", "TUNE"),
    "train": ("train", "TRAIN"),
    "evaluate": ("serve", "EVALUATE"),
    "predict": ("serve", "PREDICT"),
    "export": ("serve", "EXPORT"),
    "info": ("inspect", "INFO"),
    "deepen": ("inspect", "DEEPEN"),
    "distance": ("inspect", "DISTANCE"),
    "draw": ("inspect", "DRAW"),
    "toy": ("inspect", "TOY"),
    "benchmark": ("benchmark", "BENCHMARK"),
    "report": ("inspect", "REPORT"),
    "bench": ("bench", "BENCH"),
    "methods": ("catalogue", "METHODS"),
    "spaces": ("catalogue", "SPACES"),
}
"""For each verb the module of `kdarts.cli` and the name of its `Command` there."""

VERBS = tuple(_COMMANDS)

_KEPT = ("auto", "search", "tune", "train", "benchmark")
"""The commands that save their state as they go."""


def command_of(verb: str) -> Command:
    """Returns the command of a verb; raises `KdartsError` with the known verbs if there is none."""
    module, name = _COMMANDS[choice("command", verb, VERBS)]
    return getattr(importlib.import_module(f"kdarts.cli.{module}"), name)


def _overview() -> str:
    lines = ["kdarts: differentiable neural architecture search", "", "usage: kdarts COMMAND [--flags]", ""]
    lines += [f"  {verb:10}{command_of(verb).summary}" for verb in VERBS]
    lines += ["", "kdarts COMMAND --help lists a command's flags; --flagfile=FILE reads flags from a file."]
    return "\n".join(lines)


def _run(arguments: list[str]) -> int | None:
    if not arguments or arguments[0] in ("help", "--help", "-h"):
        print(_overview())
        return 0 if arguments else 2
    if arguments[0] == "--version":
        print(__version__)
        return 0
    command = command_of(arguments[0])
    values = command.parse(arguments)
    if values.help:
        print(help_text(arguments[0], command))
        return 0
    with naming_flags(values), configuration_kept():
        return command.run(values)


def main(arguments: list[str] | None = None) -> int:
    """Runs one command, by default that of this process, and returns its exit code (see `exit_code`)."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        return exit_code("kdarts", lambda: _run(words), goes_on=words[0] in _KEPT if words else False)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def script() -> None:
    """Runs the console script."""
    sys.exit(main())
