"""`genreclf download`: the archives of a data set, fetched, checked and unpacked.

Below the root, `NAME.part` is a transfer that goes on at the next start, `NAME` a whole archive,
and `.NAME.json` lists the files that were unpacked from it, with their sizes.
"""

import hashlib
import http.client
import json
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import requests
from filelock import FileLock, Timeout

from genreclf.data.archives import check_disk, make_bytes_progress, unpack
from genreclf.errors import InputError
from genreclf.files import write_json

log = logging.getLogger(__name__)
WAITS = (1.0, 2.0, 4.0, 8.0, 16.0)  # s, before each new attempt that got no further than the last
TIMEOUT = (10.0, 60.0)  # s, to connect, and without any byte
CHUNK = 1 << 17  # bytes; a lost connection loses at most these
HEADERS = {"Accept-Encoding": "identity"}  # else sizes would be those of a compressed transfer


@dataclass(frozen=True)
class Archive:
    """A zip archive to fetch, and the SHA-1 of its bytes, in hexadecimal."""

    url: str
    sha1: str

    @property
    def name(self) -> str:
        """Name of the file."""
        return Path(urlsplit(self.url).path).name


def download(archives: Sequence[Archive], root: str | Path, keep_archives: bool = False) -> None:
    """Have all archives unpacked below a folder; what is there already is not fetched again.

    Args:
        archives: in the order in which they are fetched.
        root: the folder; made if it is not there.
        keep_archives: leave the archives beside what was unpacked from them.

    Raises:
        InputError: too little free disk, no connection, a refusal by the server, an archive of
            another SHA-1, one that cannot be unpacked, or a folder that cannot be written.
    """
    root = Path(root)
    try:
        root.mkdir(parents=True, exist_ok=True)
        with _lock_folder(root):
            missing = [archive for archive in archives if not _is_unpacked(archive, root)]
            _check_disk(missing, root)
            for archive in missing:
                _fetch_and_unpack(archive, root, keep_archives)
    except OSError as error:  # of the disk: those of the net are InputErrors by now
        raise InputError(
            f"{error.filename or root}: {error.strerror or error}; mend that, and the same command "
            "goes on"
        ) from None


def _lock_folder(root: Path) -> FileLock:
    lock = FileLock(root / ".download.lock")
    try:
        lock.acquire(timeout=0)
        lock.release()
    except Timeout:
        log.info("another download into %s is under way: waiting for it", root)
    return lock


def _fetch_and_unpack(archive: Archive, root: Path, keep_archive: bool) -> None:
    path = root / archive.name
    if not path.exists():
        fetch(archive.url, path)
    check_sha1(path, archive.sha1)
    files = unpack(path, root)
    write_json(
        _locate_manifest(archive, root), {"url": archive.url, "sha1": archive.sha1, "files": files}
    )
    if not keep_archive:
        path.unlink()
    log.info("%s: %d files unpacked", archive.name, len(files))


def _locate_manifest(archive: Archive, root: Path) -> Path:
    return root / f".{archive.name}.json"


def _read_manifest(archive: Archive, root: Path) -> dict[str, int] | None:
    """Files and sizes as they were unpacked from this very archive; None if they were not."""
    try:
        manifest = json.loads(_locate_manifest(archive, root).read_text(encoding="utf-8"))
        return manifest["files"] if manifest["sha1"] == archive.sha1 else None
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def _find_faulty(files: dict[str, int], root: Path) -> list[str]:
    """Those that are missing or of another size."""
    paths = {name: root / name for name in files}
    return [n for n, p in paths.items() if not p.is_file() or p.stat().st_size != files[n]]


def _is_unpacked(archive: Archive, root: Path) -> bool:
    files = _read_manifest(archive, root)
    if files is None:
        return False
    faulty = _find_faulty(files, root)
    if faulty:
        log.warning(
            "%s: %d of %d files are missing or of another size, the first: %s; fetching it again",
            *(archive.name, len(faulty), len(files), root / faulty[0]),
        )
    else:
        log.info("%s: all %d files are there", archive.name, len(files))
    return not faulty


def _check_disk(archives: Sequence[Archive], root: Path) -> None:
    """Refuse before the first byte what would not fit at the end."""
    needed = 0
    for archive in archives:
        path = root / archive.name
        if path.exists():  # its directory will say exactly what is still to unpack
            continue
        part, size = _locate_part(path), _ask_size(archive.url)
        there = part.stat().st_size if part.exists() else 0
        before = _read_manifest(archive, root)
        # Music hardly shrinks in an archive: unpacked it takes at least as much again.
        unpacked = (
            size if before is None else sum(before[name] for name in _find_faulty(before, root))
        )
        needed += max(size - there, 0) + unpacked
    check_disk(root, needed, f"download of {', '.join(archive.name for archive in archives)}")


def _ask_size(url: str) -> int:
    """Bytes of a file on its server; 0 if the server does not say."""
    try:
        response = requests.head(url, headers=HEADERS, timeout=TIMEOUT, allow_redirects=True)
        response.raise_for_status()
    except requests.RequestException as error:
        raise InputError(
            f"{url}: {_explain_failure(error)}; try again later, or see data.archives"
        ) from None
    return int(response.headers.get("Content-Length", 0))


def _locate_part(path: Path) -> Path:
    return path.with_name(f"{path.name}.part")


def fetch(url: str, path: Path) -> None:
    """Fetch a file, going on after what an earlier attempt has left.

    Raises:
        InputError: the server refuses, or the connection was lost too often in a row.
    """
    part, furthest, waits = _locate_part(path), 0, list(WAITS)
    while True:
        try:
            _transfer(url, part)
            break
        except requests.RequestException as error:
            there = part.stat().st_size if part.exists() else 0
            if there > furthest:
                furthest, waits = there, list(WAITS)
            refused = error.response is not None and error.response.status_code < 500
            if refused or not waits:
                raise InputError(
                    f"{url}: {_explain_failure(error)}; the same command goes on after "
                    f"{there / 1e6:,.1f} MB"
                ) from None
            wait = waits.pop(0)
            log.info(
                "%s after %.1f MB; going on in %g s", _explain_failure(error), there / 1e6, wait
            )
            time.sleep(wait)
    part.replace(path)


def _transfer(url: str, part: Path) -> None:
    """Append to `part` what is missing of it; start over where the server cannot do that."""
    there = part.stat().st_size if part.exists() else 0
    headers = {**HEADERS, "Range": f"bytes={there}-"} if there else HEADERS
    with requests.get(url, headers=headers, timeout=TIMEOUT, stream=True) as response:
        if there and response.status_code == requests.codes.requested_range_not_satisfiable:
            if response.headers.get("Content-Range") == f"bytes */{there}":  # it is whole
                return
            part.unlink()
            raise requests.ConnectionError(f"{part.name} is no part of what the server has")
        response.raise_for_status()
        if response.status_code != requests.codes.partial_content:
            there = 0
        length = response.headers.get("Content-Length")
        total = there + int(length) if length else None
        with part.open("ab" if there else "wb") as file, make_bytes_progress() as progress:
            task = progress.add_task(part.stem, total=total, completed=there)
            for chunk in response.iter_content(CHUNK):
                file.write(chunk)
                progress.update(task, advance=len(chunk))


def _explain_failure(error: BaseException) -> str:
    """The innermost cause in a few words: what wraps it repeats it."""
    response = getattr(error, "response", None)
    if response is not None:
        return f"the server says {response.status_code} {response.reason}"
    while inner := error.__cause__ or error.__context__:
        error = inner
    if isinstance(error, http.client.IncompleteRead):
        return "the connection was lost"
    return str(getattr(error, "strerror", None) or error)


def check_sha1(path: Path, expected: str) -> None:
    """Delete an archive that is not what it should be.

    Raises:
        InputError: it is not.
    """
    log.info("checking the SHA-1 of %s", path.name)
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha1").hexdigest()
    if found != expected.lower():
        path.unlink()
        raise InputError(
            f"{path}: SHA-1 {found}, expected {expected}; the file is deleted, the same command "
            "fetches it anew"
        )
