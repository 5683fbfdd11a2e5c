"""What a program answers with: 0, or a code for what went wrong and one line that says it.

What a command is: a line about it, its flags, and what it does.
"""

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
"""The exit code where another process works in the folder: the same command may succeed later (EX_TEMPFAIL)."""


def exit_code(program: str, run: Callable[[], int | None]) -> int:
    """Runs a program.

    Args:
        program: its name, which its lines begin with.
        run: what it does; may return a code of its own.

    Returns:
        0, or the program's own code; 2 for anything the user got wrong, `IN_USE` where another process works in the
        folder and 130 after an interruption, each with one line on standard error.
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
    """A message of the library, which names arguments, in the terms of a command, which has flags.

    `sampling 'random': …` becomes `--sampling=random: …`, `threshold 2: …` at the beginning `--threshold=2: …`, and
    `needs paths=2` becomes `needs --paths=2`.

    Args:
        message: one line.
        values: the flags of the command; other names stay.
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
    """Inside it, what the library raises as `KdartsError` names flags, as of `in_flags`."""
    try:
        yield
    except KdartsError as error:
        error.args = (in_flags(str(error), values),)
        raise


def titled(title: str):
    """Decorates a function that declares flags on the `FlagValues` in its arguments: the help lists them under `title`.

    Those that a function within it declares keep their own title.
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
"""Before a title, among the modules that absl knows flags by."""


def _titles(values: flags.FlagValues) -> dict[str, list[flags.Flag]]:
    """The flags under each title."""
    modules = values.flags_by_module_dict()
    return {name.removeprefix(_TITLE): found for name, found in modules.items() if name.startswith(_TITLE)}


@dataclass(frozen=True)
class Command:
    """One verb of the command line.

    Attributes:
        summary: one line.
        define: declares its flags on the `FlagValues` it is given.
        run: does the work; `values.arguments` are what is not a flag.
        arguments: how the usage line spells what is not a flag.
        count: how many of those it takes.
        example: for the help.
        more: whether it takes more than `count`, too.
    """

    summary: str
    define: Callable[[flags.FlagValues], None]
    run: Callable[[flags.FlagValues], None]
    arguments: str = ""
    count: int = 0
    example: str = ""
    more: bool = False

    def values(self) -> flags.FlagValues:
        """Its flags, not parsed yet; each command has flags of its own, not absl's global ones."""
        values = flags.FlagValues()
        flags.DEFINE_bool("help", False, "show this help", flag_values=values)
        self.define(values)
        return values

    def parse(self, argv: list[str]) -> flags.FlagValues:
        """The flags of `argv`, whose first word is the command; raises `KdartsError` for too many or few words."""
        values = self.values()
        # An abbreviation of `--help` or the single-dash form would otherwise be an unknown flag.
        rest = values([argv[0], *("--help" if word == "-h" else word for word in argv[1:])])[1:]
        if not values.help and (len(rest) < self.count or (len(rest) > self.count and not self.more)):
            given = f", got {' '.join(rest)!r}" if rest else ""
            raise KdartsError(f"usage: kdarts {argv[0]} {self.arguments or ''}[--flags]{given}; see --help")
        object.__setattr__(values, "arguments", rest)
        return values


def help_text(verb: str, command: Command) -> str:
    """The command's help: usage, an example, and every flag with its default, under titles; a method's come last."""
    usage = " ".join(part for part in ("kdarts", verb, command.arguments.strip(), "[--flags]") if part)
    lines = [command.summary, "", f"usage: {usage}"]
    if command.example:
        lines.append(f"   e.g. {command.example}")
    values = command.values()
    titles = _titles(values)
    known = {flag.name for found in titles.values() for flag in found}
    groups = {"Flags": [values[name] for name in values if name not in known], **titles}
    for title in sorted(groups, key=lambda title: ": " in title):  # The title of an axis says what it is.
        lines += ["", title]
        for flag in groups[title]:
            lines += _flag_lines(flag)
    return "\n".join(lines)


def _flag_lines(flag: flags.Flag) -> list[str]:
    default = "" if flag.default in (None, "") else f" (default: {flag.default_as_str.strip(chr(39))})"
    text = textwrap.wrap(f"{flag.help}{default}", 92, initial_indent=" " * 8, subsequent_indent=" " * 8)
    return [f"  --{flag.name}", *text]
