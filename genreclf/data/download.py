"""Downloads, verifies and unpacks the archives of a dataset.

Files in the dataset's root: `NAME.part` is an unfinished download, which the next start resumes;
`NAME` is a complete archive; `.NAME.json` lists the files unpacked from it and their sizes.
"""

import hashlib
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from genreclf.data.archives import measure_file, unpack
from genreclf.data.transfer import download_file, measure_part, request_size
from genreclf.errors import InputError
from genreclf.files import GENERATED, check_free_disk, read_json, write_json
from genreclf.locks import hold_lock
from genreclf.paths import refuse_special

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Archive:
    """A ZIP archive to download, and the SHA-1 of its bytes, in hexadecimal."""

    url: str
    sha1: str

    @property
    def name(self) -> str:
        """File name: the last part of the URL."""
        return Path(urlsplit(self.url).path).name


def download(archives: Sequence[Archive], root: str | Path, keep_archives: bool = False) -> None:
    """Download and unpack all archives into a folder, except those that it already holds.

    Args:
        archives: in the order in which they are downloaded.
        root: the folder; created if it does not exist.
        keep_archives: keep each archive after unpacking it.

    Raises:
        InputError: the disk is too small, there is no connection, the server returns an error, an
            archive has the wrong SHA-1 or cannot be unpacked, or the folder is not writable.
    """
    root = Path(root)
    try:
        root.mkdir(parents=True, exist_ok=True)
        with hold_lock(root / ".download.lock", f"a download into {root}", "data.root"):
            missing = [archive for archive in archives if not _is_unpacked(archive, root)]
            _check_free_disk(missing, root)
            for archive in missing:
                _download_and_unpack(archive, root, keep_archives)
    except OSError as error:  # a disk error: network errors are InputErrors by now
        raise InputError(
            f"{error.filename or root}: {error.strerror or error}; fix this, then run the "
            "same command again to resume"
        ) from None


def _download_and_unpack(archive: Archive, root: Path, keep_archive: bool) -> None:
    path = root / archive.name
    if not path.exists():
        download_file(archive.url, path)
    check_sha1(path, archive.sha1)
    files = unpack(path, root)
    _mark_folders(files, root)
    write_json(
        _locate_manifest(archive, root), {"url": archive.url, "sha1": archive.sha1, "files": files}
    )
    if not keep_archive:
        path.unlink()
    log.info("%s: %d files unpacked", archive.name, len(files))


def _mark_folders(files: Iterable[str], root: Path) -> None:
    """Mark the unpacked folders, so that data=folder does not take them for genres."""
    for name in {name.partition("/")[0] for name in files if "/" in name}:
        (root / name / GENERATED).touch()


def _locate_manifest(archive: Archive, root: Path) -> Path:
    return root / f".{archive.name}.json"


def _read_manifest(archive: Archive, root: Path) -> dict[str, int] | None:
    """Read names and sizes of the files unpacked from an archive; None if it was not unpacked."""
    try:
        manifest = read_json(_locate_manifest(archive, root))
        return manifest["files"] if manifest["sha1"] == archive.sha1 else None
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def _find_faulty(files: dict[str, int], root: Path) -> list[str]:
    """Find the files that are missing or have the wrong size."""
    return [name for name, size in files.items() if measure_file(root / name) != size]


def _is_unpacked(archive: Archive, root: Path) -> bool:
    files = _read_manifest(archive, root)
    if files is None:
        return False
    faulty = _find_faulty(files, root)
    if faulty:
        log.warning(
            "%s: %d of %d files are missing or have another size, such as %s; downloading it again",
            *(archive.name, len(faulty), len(files), root / faulty[0]),
        )
    else:
        log.info("%s: all %d files are already there", archive.name, len(files))
    return not faulty


def _check_free_disk(archives: Sequence[Archive], root: Path) -> None:
    """Check, before the first byte, that everything will fit."""
    needed = 0
    for archive in archives:
        path = root / archive.name
        if path.exists():  # `unpack` knows exactly what is missing
            continue
        size = request_size(archive.url)
        before = _read_manifest(archive, root)
        # MP3s hardly compress: unpacked, they take at least the size of the archive.
        unpacked = (
            size if before is None else sum(before[name] for name in _find_faulty(before, root))
        )
        needed += max(size - measure_part(path), 0) + unpacked
    names = ", ".join(archive.name for archive in archives)
    check_free_disk(root, needed, f"downloading {names}", "data.root")


def check_sha1(path: Path, expected: str) -> None:
    """Check an archive, and delete it if it is wrong.

    Args:
        path: the archive.
        expected: the SHA-1 of its bytes, in hexadecimal.

    Raises:
        InputError: it has a different SHA-1.
    """
    log.info("checking the SHA-1 of %s", path.name)
    refuse_special(path)
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha1").hexdigest()
    if found != expected.lower():
        path.unlink()
        raise InputError(
            f"{path}: SHA-1 {found}, expected {expected}; the file was deleted, run the same "
            "command again to download it again"
        )
