"""Unpacks ZIP archives safely: nothing outside the folder, no partial files, nothing twice.

All names are checked before anything is written. Symbolic links that the user has put below the
folder, for example to a larger disk, are followed.
"""

import stat
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path, PurePosixPath, PureWindowsPath

from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from genreclf.errors import InputError
from genreclf.files import check_free_disk, write_atomically
from genreclf.paths import refuse_special

DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError)
CHUNK = 1 << 20  # bytes
ENCRYPTED = 0x1  # bit of a member's flags


def make_bytes_progress() -> Progress:
    """Make a progress bar that counts bytes and shows speed and remaining time."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(elapsed_when_finished=True),
    )


def unpack(path: Path, folder: Path) -> dict[str, int]:
    """Unpack an archive; existing files of the same size and CRC-32 are left alone.

    Args:
        path: a ZIP archive.
        folder: where its members go.

    Returns:
        The size in bytes of every file in the archive, keyed by its name in the archive.

    Raises:
        InputError: a member would be written outside the folder, is neither a file nor a folder,
            or is encrypted (then nothing is unpacked); the archive is damaged or uses a
            compression method that Python cannot read; or the disk is too small.
    """
    refuse_special(path)
    with _explain_damage(path), zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            if fault := _find_fault(member):
                raise InputError(
                    f"{path}: its member {member.orig_filename!r} {fault}; nothing was unpacked, "
                    "get the archive from another source"
                )
        files = [member for member in archive.infolist() if not member.is_dir()]
        missing = sum(member.file_size for member in files if not _has_size(member, folder))
        check_free_disk(folder, missing, f"unpacking {path.name}", "data.root")
        with make_bytes_progress() as progress:
            total = sum(member.file_size for member in files)
            task = progress.add_task(f"unpacking {path.name}", total=total)
            for member in files:
                if _is_unpacked(member, folder):
                    progress.advance(task, member.file_size)
                else:
                    _unpack_member(archive, member, folder, partial(progress.advance, task))
    return {member.filename: member.file_size for member in files}


@contextmanager
def _explain_damage(path: Path) -> Iterator[None]:
    """Turn the many errors of `zipfile` into one InputError."""
    try:
        yield
    except RuntimeError as error:  # includes NotImplementedError
        raise InputError(
            f"{path}: Python cannot unpack it ({error}); unpack it in that folder with another "
            "program, such as 7z, then run genreclf prepare"
        ) from None
    except (*DAMAGE, OSError) as error:
        # A disk error has an errno; an error that bz2 raises for damaged data has none.
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise InputError(
            f"{path}: cannot be unpacked ({error}); delete it and run the same command again to "
            "download it again"
        ) from None


def _find_fault(member: zipfile.ZipInfo) -> str:
    """Say why a member must not be unpacked; empty if it may be."""
    name = member.orig_filename  # as in the archive: Windows would replace the separators
    parts = PurePosixPath(name).parts
    if name.startswith("/") or PureWindowsPath(name).drive or "\\" in name or "\0" in name:
        return "is not a relative path with plain separators"
    if ".." in parts or not parts:
        return "leads out of the folder"
    kind = stat.S_IFMT(member.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "is a link or a device"
    return "is encrypted" if member.flag_bits & ENCRYPTED else ""


def measure_file(path: Path) -> int | None:
    """Measure a file in bytes, with one look-up; None if there is no such file."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_size if stat.S_ISREG(found.st_mode) else None


def _has_size(member: zipfile.ZipInfo, folder: Path) -> bool:
    return measure_file(folder / member.filename) == member.file_size


def _is_unpacked(member: zipfile.ZipInfo, folder: Path) -> bool:
    if not _has_size(member, folder):
        return False
    crc = 0
    with (folder / member.filename).open("rb") as file:
        while chunk := file.read(CHUNK):
            crc = zlib.crc32(chunk, crc)
    return crc == member.CRC


def _unpack_member(
    archive: zipfile.ZipFile,
    member: zipfile.ZipInfo,
    folder: Path,
    advance: Callable[[float], None],
) -> None:
    """Unpack one file and pass the number of bytes to `advance`; zipfile checks the CRC."""
    with archive.open(member) as source, write_atomically(folder / member.filename, "wb") as file:
        while chunk := source.read(CHUNK):
            file.write(chunk)
            advance(len(chunk))
