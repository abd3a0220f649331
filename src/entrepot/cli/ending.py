"""How a command ends that talked to a bucket."""

import atexit
import os
import sys
from contextlib import suppress
from typing import NoReturn


def end_now(code: int) -> NoReturn:
    """What an interpreter does at its end, but for taking itself apart.

    obstore's threads may still be letting go of an answer, a moment after it was given. To do so they want Python's
    lock, and a thread that wants it from an interpreter that is being taken apart aborts the whole process.
    """
    atexit._run_exitfuncs()  # noqa: SLF001 - there is no public name for what the interpreter does
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # nobody reads it any more
            stream.flush()
    os._exit(code)
