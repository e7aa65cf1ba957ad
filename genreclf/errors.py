"""The exception for errors that the user can correct."""

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LONGEST = 200  # characters of a library's message
# Where code lies that is not the user's: libraries, Python's own, this package, generated code.
OTHERS = ("site-packages", "dist-packages", "/lib/python", str(Path(__file__).parent), "<")


class InputError(ValueError):
    """Bad input; the message is one line that says what is wrong and what to type instead.

    A command prints only that line. Any other exception is a bug and keeps its traceback.
    """


class DivergedError(InputError):
    """Training diverged: the loss is infinite or not a number, and would be again."""


def format_error(error: BaseException) -> str:
    """Return the message of an exception in one line.

    If Hydra has wrapped an `InputError` that a constructor raised, return the message of that one.
    """
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, InputError):
        cause = cause.__cause__
    return " ".join(str(cause or error).split()) or type(error).__name__


def find_own_line(error: BaseException) -> str:
    """Find the last line of the user's own code in a traceback, such as " in net.py, line 8"."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if not any(part in frame.filename for part in OTHERS):
            return f" in {Path(frame.filename).name}, line {frame.lineno}"
    return ""


@contextmanager
def report_own_failure(what: str) -> Iterator[None]:
    """Turn an exception in the user's own code into one line that names the line of the code.

    Args:
        what: what fails, for the message.

    Raises:
        InputError: such an exception; others are left alone.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        if where := find_own_line(error):
            raise InputError(describe_failure(f"{what} fails{where}", error)) from error
        raise


def shorten_failure(what: str, error: Exception) -> str:
    """Describe an exception of a library in one line: its type, and its first sentence in short."""
    text = " ".join(str(error).split()).split(". ")[0]
    text = text if len(text) <= LONGEST else f"{text[:LONGEST]}..."
    return f"{what}: {type(error).__name__}: {text}"


def describe_failure(what: str, error: Exception) -> str:
    """Describe an exception that is not an `InputError` in one line, with its type."""
    return f"{what}: {type(error).__name__}: {' '.join(str(error).split())}"
