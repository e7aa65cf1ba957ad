"""The standard streams of the command line: closed, on a full disk, or in another encoding."""

import io
import logging
import os
import re
import sys
from types import NoneType
from typing import Any

from genreclf.errors import InputError
from genreclf.paths import format_path


class _Output(io.FileIO):
    """Standard output; after a failure, nothing more is written, and `check_output` reports it.

    It does not raise the error itself: what is printed along the way, such as a log, is not worth a
    training that fails.
    """

    failure = ""

    def write(self, data: Any, /) -> int | None:
        try:
            return super().write(data)
        except BrokenPipeError:  # a reader that has stopped early
            raise
        except OSError as error:
            _Output.failure = str(error.strerror or error)
            discard_output()
            return len(data)


class _Errors(io.FileIO):
    """Standard error, for which there is no place where to say that it cannot be written."""

    def write(self, data: Any, /) -> int | None:
        try:
            return super().write(data)
        except OSError:
            return len(data)


class _Record(logging.LogRecord):
    """A line of the log, in which names cannot control the terminal."""

    def getMessage(self) -> str:  # noqa: N802
        """Return the message; control characters of ours, but for line breaks, are escaped."""
        text = super().getMessage()
        if not self.name.startswith("genreclf"):
            return text
        parts = re.split(r"([\n\t])", text)
        return "".join(part if part in "\n\t" else format_path(part) for part in parts)


def set_up_streams() -> None:
    """Prepare the standard streams of this process; call this before anything is opened.

    A closed stream is opened as /dev/null: its number would be that of the next file, into which
    other code would print. `check_output` then tells whether the output was written.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.dup2(os.open(os.devnull, os.O_RDWR), number)  # inherited by other processes
    sys.stdin = sys.stdin or open(os.devnull, encoding="utf-8")  # noqa: PTH123, SIM115
    sys.stdout = _open_stream(sys.stdout, sys.__stdout__, _Output, 1)
    sys.stderr = _open_stream(sys.stderr, sys.__stderr__, _Errors, 2)
    _accept_any_name()
    logging.setLogRecordFactory(_Record)


def check_output() -> None:
    """Write what was printed.

    Raises:
        InputError: it, or something before, could not be written; this is reported once.
    """
    sys.stdout.flush()
    failure, _Output.failure = _Output.failure, ""
    if failure:
        raise InputError(f"the output cannot be written: {failure}")


def discard_output() -> None:
    """Send whatever is still written to standard output nowhere, also at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _open_stream(stream: Any, original: Any, kind: type[io.FileIO], number: int) -> Any:
    """Open a stream of this kind in place of the original one; another, as of a test, stays."""
    if stream is not original or not isinstance(stream, io.TextIOWrapper | NoneType):
        return stream
    opened = io.BufferedWriter(kind(number, "w", closefd=False))
    if stream is None:
        return io.TextIOWrapper(opened, encoding="utf-8")
    return io.TextIOWrapper(
        opened,
        encoding=stream.encoding,
        errors=stream.errors,
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )


def _accept_any_name() -> None:
    """Print names of files that the terminal's encoding lacks, or that are not UTF-8.

    In UTF-8, bytes that are not are printed unchanged, so that a printed path can be used. In other
    encodings, what they lack is escaped. Processes that this one starts do the same.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            utf8 = stream.encoding.lower().replace("-", "") == "utf8"
            errors = "surrogateescape" if utf8 else "backslashreplace"
            stream.reconfigure(errors=errors)
            os.environ["PYTHONIOENCODING"] = f"{stream.encoding}:{errors}"
