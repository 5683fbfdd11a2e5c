"""A command of the command line, its help, and the exit code and the one-line message of a failure."""

import contextlib
import errno
import functools
import math
import re
import sys
import textwrap
from collections.abc import Callable
from dataclasses import dataclass

from absl import flags

from kdarts.genotypes.errors import LONGEST_QUOTE, KdartsError, handed_on, quoted, shortened
from kdarts.genotypes.settings import because, in_words
from kdarts.training.workdir import InUse

IN_USE = 75
"""The exit code if another process uses the folder: the same command may succeed later (EX_TEMPFAIL)."""


def exit_code(program: str, run: Callable[[], int | None], goes_on: bool = True) -> int:
    """Runs a program and returns its exit code, where an error is one line on standard error, after its name.

    After an interruption the line says, if the program `goes_on`, that it would do so from its last saved state.
    The code is what `run` returns or 0; 2 for anything that the user got wrong, `IN_USE` if another process uses the
    folder, and 130 after an interruption.
    """
    try:
        return run() or 0
    except (KdartsError, flags.Error) as error:
        print(f"{program}: {_plain(str(error))}", file=sys.stderr)
        return IN_USE if isinstance(error, InUse) else 2
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        if not full and (error.filename is None or error.errno is None):
            raise
        what = "cannot be written" if full else "cannot be used"
        print(f"{program}: {_plain(str(error.filename or 'output'))}: {what} ({error.strerror})", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        then = "; the same command goes on from the last saved state" if goes_on else ""
        print(f"{program}: interrupted{then}", file=sys.stderr)
        return 130
    except Exception as error:
        line = handed_on(error)
        if line is None:
            raise
        print(f"{program}: {line}", file=sys.stderr)
        return 2


_LONGEST, _WORD = 2000, 200
"""The most characters of a line, and of a word in it that is no path: a file or a flag may decide the rest."""


def _plain(message: str) -> str:
    """A message as one line of bounded length, in which no character moves the cursor of a terminal."""
    text = " ".join(message[: 2 * _LONGEST].split())
    text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    text = re.sub(rf"[^\s/]{{{_WORD + 1},}}", lambda word: f"{word[0][:LONGEST_QUOTE]}…", text)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} …"


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
        words = _with_flagfiles(values, ["--help" if word == "-h" else word for word in argv[1:]])
        rest = _read(values, [argv[0], *words])[1:]
        if not values.help and (len(rest) < self.count or (len(rest) > self.count and not self.more)):
            given = f", got {' '.join(rest)!r}" if rest else ""
            raise KdartsError(f"usage: kdarts {argv[0]} {self.arguments}[--flags]{given}; see --help")
        object.__setattr__(values, "arguments", rest)
        return values


def _with_flagfiles(values: flags.FlagValues, words: list[str]) -> list[str]:
    """The words of a command line with those of its flagfiles; raises `KdartsError` for what is no text."""
    try:
        words = values.read_flags_from_files(words, force_gnu=False)
    except flags.CantOpenFlagFileError as error:
        raise KdartsError(str(error).removeprefix("ERROR:: ")) from None
    except UnicodeDecodeError:
        raise KdartsError("--flagfile: needs a text file in UTF-8, one flag a line") from None
    for word in words:
        name = word.partition("=")[0]
        if name.startswith("-") and len(name) > LONGEST_QUOTE:  # absl compares it with all flags, letter by letter.
            raise KdartsError(f"unknown flag {quoted(name)}; see --help")
        if "\0" in word:
            raise KdartsError(f"{quoted(word)}: a flag or name has no null characters; is --flagfile a text in UTF-8?")
        try:
            word.encode()
        except UnicodeEncodeError:
            raise KdartsError(f"{quoted(word)}: needs UTF-8") from None
    return words


def _read(values: flags.FlagValues, argv: list[str]) -> list[str]:
    """What of a command line is no flag; sets the flags, and raises `KdartsError` for a number out of its range."""
    try:
        rest = values(argv)
    except flags.IllegalFlagValueError as error:
        found = re.match(r"flag --(\w+)=(.*?): ", str(error), re.DOTALL)
        flag = values[found[1]] if found and found[1] in values else None
        if flag is None or not isinstance(flag.parser, flags.IntegerParser | flags.FloatParser):
            raise
        kind = "a whole number" if isinstance(flag.parser, flags.IntegerParser) else "a number"
        why = getattr(flag, "why", "")
        given = shortened(found[2])
        raise KdartsError(f"--{flag.name}={given}: allowed is {kind} {_range(flag)}".rstrip() + because(why)) from None
    for name in values:
        if isinstance(values[name].value, float) and not math.isfinite(values[name].value):
            raise KdartsError(f"--{name}={values[name].value}: allowed is a number {_range(values[name])}".rstrip())
    return rest


def _range(flag: flags.Flag) -> str:
    """The numbers that a flag takes, in words; "" for other flags."""
    if not isinstance(flag.parser, flags.IntegerParser | flags.FloatParser):
        return ""
    return in_words(flag.parser.lower_bound, flag.parser.upper_bound, getattr(flag, "open", False))


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
            lines += _flag_lines(flag)
    return "\n".join(lines)


def _flag_lines(flag: flags.Flag) -> list[str]:
    default = "" if flag.default in (None, "") else f" (default: {flag.default_as_str.strip(chr(39))})"
    allowed = f"; {_range(flag)}" if _range(flag) else ""
    text = textwrap.wrap(f"{flag.help}{allowed}{default}", 92, initial_indent=" " * 8, subsequent_indent=" " * 8)
    return [f"  --{flag.name}", *text]
