"""Reads the arrays of NumPy archives, and refuses what is damaged or of another kind."""

import math
import zipfile
import zlib
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from genreclf.data.datasets.track import MISSING
from genreclf.data.recorded_features import RECORD
from genreclf.errors import InputError
from genreclf.paths import refuse_special

DAMAGE = (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error)


def open_archive(file: Path, content: BinaryIO | None = None) -> Any:
    """Open an archive of named arrays, each read on demand; InputError if it is not one.

    Args:
        file: its path.
        content: its bytes, if they have been read already.
    """
    refuse_special(file)
    try:
        archive = np.load(content or file, allow_pickle=False)
    except DAMAGE as error:
        # NumPy takes whatever it does not know for pickled objects, and says how to run them.
        reason = "" if "pickle" in str(error) else f" ({error})"
        raise InputError(f"{file}: not a readable .npz archive{reason}") from None
    if not isinstance(archive, np.lib.npyio.NpzFile):
        raise InputError(f"{file}: a single array; an .npz archive of named arrays is needed")
    return archive


def read_array(archive: Any, file: Path, name: str) -> np.ndarray:
    """Read one array in the machine's byte order; InputError if it is missing or damaged."""
    if name not in archive:
        raise InputError(f"{file}: no array '{name}' (it has {', '.join(archive.files)})")
    try:
        values = archive[name]
    except ValueError as error:
        if "pickle" not in str(error):
            raise InputError(f"{file}: '{name}' is damaged ({error})") from None
        raise InputError(
            f"{file}: '{name}' holds pickled Python objects, which are not run; save it as numbers "
            "or as fixed-length text (array.astype(str))"
        ) from None
    except DAMAGE as error:
        raise InputError(f"{file}: '{name}' is damaged ({error})") from None
    return values.astype(values.dtype.newbyteorder("="), copy=False)


def read_scalar(archive: Any, file: Path, name: str, default: float) -> float:
    """Read one finite number, the default if there is none; InputError if it is no such number."""
    if name not in archive:
        return default
    value = read_array(archive, file, name)
    if value.size != 1 or value.dtype.kind not in "iuf":
        raise InputError(f"{file}: '{name}' of shape {value.shape}; one number is needed")
    number = float(value.item())
    if not math.isfinite(number):
        raise InputError(f"{file}: '{name}' is {number:g}; a finite number is needed")
    return number


def convert_texts(column: np.ndarray, file: Path, name: str) -> list[str]:
    """Convert an array (tracks,) of names or whole numbers to texts.

    Raises:
        InputError: it is another kind of array, or it contains missing values.
    """
    if column.ndim != 1 or column.dtype.kind not in "iuSU":
        raise InputError(
            f"{file}: '{name}' of shape {column.shape} and dtype {column.dtype}; one name or "
            "whole number for each track is needed"
        )
    try:
        if column.dtype.kind == "S":
            column = np.char.decode(column, "utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{file}: '{name}' is not UTF-8 ({error})") from None
    texts = [str(value).strip() for value in column.tolist()]
    if name != "labels" and (rows := [row for row, text in enumerate(texts) if text in MISSING]):
        raise InputError(
            f"{file}: '{name}', row {rows[0]}: {texts[rows[0]]!r} is a missing value; write an "
            "empty text where nothing is known"
        )
    return texts


def read_columns(file: Path) -> dict[str, Any]:
    """Read the arrays of an archive except its features: labels as they are, others as texts."""
    stat = file.stat()
    return _read_columns(file, stat.st_mtime_ns, stat.st_size)  # a file that changed is read again


@lru_cache(maxsize=64)
def _read_columns(file: Path, *_: int) -> dict[str, Any]:
    columns: dict[str, Any] = {}
    with open_archive(file) as archive:
        if "labels" not in archive and RECORD in archive:
            raise InputError(
                f"{file}: the tracks have no genres; to train on them, write it from data that has "
                "some, such as genreclf embed data=folder"
            )
        columns["labels"] = read_array(archive, file, "labels")
        for name in ("track_ids", "split", "artist", "album"):
            if name == "track_ids" or name in archive:
                columns[name] = convert_texts(read_array(archive, file, name), file, name)
    return columns


def read_checksums(file: Path) -> dict[str, str]:
    """Read the CRC-32 and size of each array from the directory of the .npz (ZIP) file."""
    with open_archive(file) as archive:
        return {
            member.filename: f"{member.CRC:08x} {member.file_size}"
            for member in archive.zip.infolist()
        }
