"""A command of the command line, its help, and the exit code and the one-line message of a failure."""

import contextlib
import errno
import functools
import re
import sys
import textwrap
from collections.abc import Callable
from dataclasses import dataclass

from absl import flags

from kdarts.genotypes.errors import KdartsError, handed_on
from kdarts.training.workdir import InUse

IN_USE = 75
"""The exit code if another process uses the folder: the same command may succeed later (EX_TEMPFAIL)."""


def exit_code(program: str, run: Callable[[], int | None]) -> int:
    """Runs a program and returns its exit code, where an error is one line on standard error, after its name.

    The code is what `run` returns or 0; 2 for anything that the user got wrong, `IN_USE` if another process uses the
    folder, and 130 after an interruption.
    """
    try:
        return run() or 0
    except (KdartsError, flags.Error) as error:
        print(f"{program}: {' '.join(str(error).split())}", file=sys.stderr)
        return IN_USE if isinstance(error, InUse) else 2
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        print(f"{program}: {error.filename or 'output'}: cannot be written ({error.strerror})", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"{program}: interrupted; the same command goes on from the last saved state", file=sys.stderr)
        return 130
    except Exception as error:
        line = handed_on(error)
        if line is None:
            raise
        print(f"{program}: {line}", file=sys.stderr)
        return 2


_FIRST = re.compile(r"(\w+)(?: ([^\s']\S*?))?(?=[:;] )")
_PAIR = re.compile(r"(?<!unknown )(?<![-\w])(\w+)(?:[ =]'([^']*)'|=(?=\w))")


def in_flags(message: str, values: flags.FlagValues) -> str:
    """Returns a message of the library, which names arguments, with the flags of a command in their place.

    `sampling 'random': …` becomes `--sampling=random: …`, `threshold 2: …` at the beginning `--threshold=2: …`, and
    `needs paths=2` becomes `needs --paths=2`. Names that are not in `values` stay.
    """

    def flag(match):
        name, value = match.groups()
        return f"--{name}={value or ''}" if name in values else match[0]

    first = _FIRST.match(message)
    if first is not None and first[1] in values:
        message = f"--{first[1]}{'' if first[2] is None else f'={first[2]}'}{message[first.end() :]}"
    return _PAIR.sub(flag, message)


@contextlib.contextmanager
def naming_flags(values: flags.FlagValues):
    """A context in which a `KdartsError` of the library names flags (see `in_flags`)."""
    try:
        yield
    except KdartsError as error:
        error.args = (in_flags(str(error), values),)
        raise


def titled(title: str):
    """Decorates a function that declares flags on the `FlagValues` in its arguments: the help lists them under `title`.

    Flags that already have a title keep it.
    """

    def decorate(define):
        @functools.wraps(define)
        def declare(*args, **choices):
            [values] = [each for each in args if isinstance(each, flags.FlagValues)]
            before = set(values)
            define(*args, **choices)
            entitle(values, title, [name for name in values if name not in before])

        return declare

    return decorate


def entitle(values: flags.FlagValues, title: str, names) -> None:
    """Puts flags under a title of the help, unless they have one."""
    known = {flag.name for flags_of in _titles(values).values() for flag in flags_of}
    for name in names:
        if name not in known:
            values.register_flag_by_module(_TITLE + title, values[name])


_TITLE = "title: "
"""The prefix of a title, which absl keeps like the name of the module that declares a flag."""


def _titles(values: flags.FlagValues) -> dict[str, list[flags.Flag]]:
    """Returns the flags under each title."""
    modules = values.flags_by_module_dict()
    return {name.removeprefix(_TITLE): found for name, found in modules.items() if name.startswith(_TITLE)}


@dataclass(frozen=True)
class Command:
    """One verb of the command line.

    Attributes:
        summary: one line.
        define: declares its flags.
        run: runs it; `values.arguments` are the words that are not flags.
        arguments: these words in the usage line.
        count: the number of these words; with `more` the smallest number.
        example: a command line for the help.
    """

    summary: str
    define: Callable[[flags.FlagValues], None]
    run: Callable[[flags.FlagValues], None]
    arguments: str = ""
    count: int = 0
    example: str = ""
    more: bool = False

    def values(self) -> flags.FlagValues:
        """Returns its flags, not parsed yet. Each command has its own, not absl's global ones."""
        values = flags.FlagValues()
        flags.DEFINE_bool("help", False, "show this help", flag_values=values)
        self.define(values)
        return values

    def parse(self, argv: list[str]) -> flags.FlagValues:
        """Parses `argv`, whose first word is the command. Raises `KdartsError` for too many or too few words."""
        values = self.values()
        # An abbreviation of `--help` or the single-dash form would otherwise be an unknown flag.
        rest = values([argv[0], *("--help" if word == "-h" else word for word in argv[1:])])[1:]
        if not values.help and (len(rest) < self.count or (len(rest) > self.count and not self.more)):
            given = f", got {' '.join(rest)!r}" if rest else ""
            raise KdartsError(f"usage: kdarts {argv[0]} {self.arguments}[--flags]{given}; see --help")
        object.__setattr__(values, "arguments", rest)
        return values


def help_text(verb: str, command: Command) -> str:
    """Returns the help of a command: usage, an example, and the flags under their titles, those of a method last."""
    lines = [command.summary, "", f"usage: kdarts {verb} {command.arguments}[--flags]"]
    if command.example:
        lines.append(f"   e.g. {command.example}")
    values = command.values()
    titles = _titles(values)
    known = {flag.name for found in titles.values() for flag in found}
    groups = {"Flags": [values[name] for name in values if name not in known], **titles}
    for title in sorted(groups, key=lambda title: ": " in title):  # The title of an axis has a description.
        lines += ["", title]
        for flag in groups[title]:
            default = "" if flag.default in (None, "") else f" (default: {flag.default_as_str.strip(chr(39))})"
            text = textwrap.wrap(f"{flag.help}{default}", 92, initial_indent=" " * 8, subsequent_indent=" " * 8)
            lines += [f"  --{flag.name}", *text]
    return "\n".join(lines)
