"""A part of a file that is decoded as a file of its own."""

import io
import os
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import BinaryIO

BUFFER = 1 << 16  # bytes


@dataclass(frozen=True)
class Section:
    """A range of bytes of a file that is decoded as a file of its own.

    Attributes:
        path: the file.
        start: number of its first byte.
        stop: number of the byte after its last; None for the end of the file.
        patches: bytes that are read in place of those in the file, by their place in the section.
        is_rebuilt: whether these are a header that says what is there.
    """

    path: Path
    start: int = 0
    stop: int | None = None
    patches: dict[int, bytes] = field(default_factory=dict)
    is_rebuilt: bool = False

    @cached_property
    def size(self) -> int:
        """Its number of bytes."""
        return (self.path.stat().st_size if self.stop is None else self.stop) - self.start

    @property
    def url(self) -> str:
        """Its name for FFmpeg, never taken for another protocol."""
        file = f"file:{self.path.absolute()}"
        if (self.start, self.stop) == (0, None):
            return file
        return f"subfile,,start,{self.start},end,{self.start + self.size},,:{file}"

    def cut(self, stop: int) -> "Section":
        """Return the part of it that ends before the byte of this number in the file."""
        return replace(self, stop=stop, patches={}, is_rebuilt=False)

    def open(self) -> BinaryIO:
        """Open it for reading; without its name if soundfile would take that for a format."""
        is_raw = self.path.suffix.lower() == ".raw"  # to soundfile, samples without a header
        if (self.start, self.stop, self.patches, is_raw) == (0, None, {}, False):
            return self.path.open("rb", BUFFER)
        return io.BufferedReader(_Range(self), BUFFER)


class _Range(io.RawIOBase):
    """The bytes of a section as a file."""

    def __init__(self, section: Section) -> None:
        self._section, self._at = section, 0
        self._file = section.path.open("rb", 0)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._section.size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def readinto(self, buffer: memoryview) -> int:  # pyright: ignore[reportIncompatibleMethodOverride]
        size = max(0, min(len(buffer), self._section.size - self._at))
        self._file.seek(self._section.start + self._at)
        content = bytearray(self._file.read(size))
        for place, patch in self._section.patches.items():
            for at, value in enumerate(patch, place - self._at):
                if 0 <= at < len(content):
                    content[at] = value
        buffer[: len(content)] = content
        self._at += len(content)
        return len(content)

    def close(self) -> None:
        self._file.close()
        super().close()
