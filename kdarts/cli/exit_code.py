"""What a program answers with: 0, or a code for what went wrong and one line that says it."""

import errno
import sys
from collections.abc import Callable

from absl import flags

from kdarts.genotypes.errors import KdartsError


def exit_code(program: str, run: Callable[[], int | None]) -> int:
    """Runs a program.

    Args:
        program: its name, which its lines begin with.
        run: what it does; may return a code of its own.

    Returns:
        0, or the program's own code; 2 for anything the user got wrong and 130 after an interruption, both with one
        line on standard error.
    """
    try:
        return run() or 0
    except (KdartsError, flags.Error) as error:
        print(f"{program}: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        print(f"{program}: {error.filename or 'output'}: cannot be written ({error.strerror})", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"{program}: interrupted; the same command goes on from the last saved state", file=sys.stderr)
        return 130
