"""What a program answers with: 0, or a code for what went wrong and one line that says it.

What a command is: a line about it, its flags, and what it does.
"""

import errno
import sys
import textwrap
from collections.abc import Callable
from dataclasses import dataclass

from absl import flags

from kdarts.genotypes.errors import KdartsError
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
    """The command's help: usage, an example, every flag with its default."""
    usage = " ".join(part for part in ("kdarts", verb, command.arguments.strip(), "[--flags]") if part)
    lines = [command.summary, "", f"usage: {usage}"]
    if command.example:
        lines.append(f"   e.g. {command.example}")
    lines.append("")
    values = command.values()
    for name in values:
        flag = values[name]
        default = "" if flag.default in (None, "") else f" (default: {flag.default_as_str.strip(chr(39))})"
        allowed = f" [{'|'.join(flag.parser.enum_values)}]" if hasattr(flag.parser, "enum_values") else ""
        text = f"{flag.help}{allowed}{default}"
        lines.append(f"  --{name}")
        lines += textwrap.wrap(text, 92, initial_indent=" " * 8, subsequent_indent=" " * 8)
    return "\n".join(lines)
