"""The error for bad input, and how a stage ends on one: a sentence instead of a traceback."""

import errno
import sys
from collections.abc import Callable


class InputError(ValueError):
    """Bad input from a person: the message says what, the rule, the value received and the
    remedy.
    """


def run_stage(name: str, main: Callable[[], None]) -> None:
    """Run a stage's `main`; on bad input or a full disk print one sentence and exit with status 1.

    Any other exception is a defect of ours and keeps its traceback.
    """
    try:
        main()
    except InputError as error:
        sys.exit(f"{name}: error: {error}")
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        sys.exit(
            f"{name}: error: the disk is full; free some space (`dvc gc -w` drops old versions), "
            "run again"
        )
    except KeyboardInterrupt:
        sys.exit(f"{name}: stopped by the keyboard")
