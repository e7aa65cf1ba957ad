"""Zip archives to folders: nothing outside the folder, nothing by halves, nothing twice.

Names are checked before anything is written. Links that the user has put below the folder himself,
say to a larger disk, are followed.
"""

import shutil
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

DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError)
CHUNK = 1 << 20  # bytes
ENCRYPTED = 0x1  # bit of a member's flags


def make_bytes_progress() -> Progress:
    """A progress bar of bytes, with speed and time left."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(elapsed_when_finished=True),
    )


def check_disk(folder: Path, needed: int, purpose: str) -> None:
    """Refuse what does not fit on the disk.

    Args:
        folder: on that disk.
        needed: bytes.
        purpose: what they are needed for; the beginning of the message.

    Raises:
        InputError: fewer bytes are free.
    """
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise InputError(
            f"{purpose} needs {needed / 1e6:,.0f} MB below {folder} and {free / 1e6:,.0f} MB are "
            "free; free some, or choose another place: data.root=..."
        )


def unpack(path: Path, folder: Path) -> dict[str, int]:
    """Unpack an archive; files that are there already, alike by size and CRC-32, are left alone.

    Args:
        path: a zip archive.
        folder: where its members go.

    Returns:
        The size in bytes of every file of the archive, by its name in it.

    Raises:
        InputError: a member would leave the folder, is neither a file nor a folder, or is
            encrypted (then nothing is unpacked); the archive is damaged or compressed in a way
            that Python cannot read; or the disk is too small.
    """
    with _explain_damage(path), zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            if fault := _find_fault(member):
                raise InputError(
                    f"{path}: its member {member.orig_filename!r} {fault}; nothing was unpacked, "
                    "get the archive from elsewhere"
                )
        files = [member for member in archive.infolist() if not member.is_dir()]
        _check_disk(path, files, folder)
        with make_bytes_progress() as progress:
            total = sum(member.file_size for member in files)
            task = progress.add_task(f"unpacking {path.name}", total=total)
            for member in files:
                if _is_there(member, folder):
                    progress.advance(task, member.file_size)
                else:
                    _write(archive, member, folder, partial(progress.advance, task))
    return {member.filename: member.file_size for member in files}


@contextmanager
def _explain_damage(path: Path) -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # also NotImplementedError
        raise InputError(
            f"{path}: this Python cannot unpack it ({error}); unpack it right there with another "
            "program, such as 7z, and go on with genreclf prepare"
        ) from None
    except (*DAMAGE, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:  # of the disk; bz2 gives none
            raise
        raise InputError(
            f"{path}: cannot be unpacked ({error}); delete it, and the same command fetches it anew"
        ) from None


def _find_fault(member: zipfile.ZipInfo) -> str:
    """What is wrong with a member's name or kind; empty if nothing is."""
    name = member.orig_filename  # as it is in the archive: Windows would see other separators
    parts = PurePosixPath(name).parts
    if name.startswith("/") or PureWindowsPath(name).drive or "\\" in name or "\0" in name:
        return "is no plain path below the folder"
    if ".." in parts or not parts:
        return "leads out of the folder"
    kind = stat.S_IFMT(member.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "is a link or a device"
    return "is encrypted" if member.flag_bits & ENCRYPTED else ""


def _check_disk(path: Path, files: list[zipfile.ZipInfo], folder: Path) -> None:
    missing = (member.file_size for member in files if not _has_size(member, folder))
    check_disk(folder, sum(missing), f"unpacking {path.name}")


def _has_size(member: zipfile.ZipInfo, folder: Path) -> bool:
    target = folder / member.filename
    return target.is_file() and target.stat().st_size == member.file_size


def _is_there(member: zipfile.ZipInfo, folder: Path) -> bool:
    if not _has_size(member, folder):
        return False
    crc = 0
    with (folder / member.filename).open("rb") as file:
        while chunk := file.read(CHUNK):
            crc = zlib.crc32(chunk, crc)
    return crc == member.CRC


def _write(
    archive: zipfile.ZipFile,
    member: zipfile.ZipInfo,
    folder: Path,
    advance: Callable[[float], None],
) -> None:
    """Unpack one file under another name, then give it its own."""
    target = folder / member.filename
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_name(f".{target.name}.unpacking")
    try:
        with archive.open(member) as source, unfinished.open("wb") as file:
            while chunk := source.read(CHUNK):
                file.write(chunk)
                advance(len(chunk))
        unfinished.replace(target)
    finally:
        unfinished.unlink(missing_ok=True)
