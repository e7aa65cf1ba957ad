"""Transfers a file from a web server, and resumes after a lost connection.

`NAME.part` is an unfinished transfer of `NAME`, which the next one resumes.
"""

import http.client
import logging
import time
from pathlib import Path

import requests

from genreclf.data.archives import make_bytes_progress, measure_file
from genreclf.errors import InputError

log = logging.getLogger(__name__)
WAITS = (1.0, 2.0, 4.0, 8.0, 16.0)  # s, before each retry; they restart when a retry gets further
TIMEOUT = (10.0, 60.0)  # s, to connect, and between two bytes
CHUNK = 1 << 17  # bytes; a lost connection loses at most one chunk
HEADERS = {"Accept-Encoding": "identity"}  # otherwise servers may compress and change the size


def request_size(url: str) -> int:
    """Ask for the size of a file on its server, in bytes; 0 if the server does not say."""
    try:
        response = requests.head(url, headers=HEADERS, timeout=TIMEOUT, allow_redirects=True)
        response.raise_for_status()
    except requests.RequestException as error:
        raise InputError(
            f"{url}: {_explain_failure(error)}; try again later or change data.archives"
        ) from None
    return int(response.headers.get("Content-Length", 0))


def _locate_part(path: Path) -> Path:
    return path.with_name(f"{path.name}.part")


def measure_part(path: Path) -> int:
    """Measure what an unfinished transfer of a file has left, in bytes; 0 if there is none."""
    return measure_file(_locate_part(path)) or 0


def download_file(url: str, path: Path) -> None:
    """Download a file, resuming what an earlier attempt left.

    Raises:
        InputError: the server returns an error, or too many retries in a row got no further.
    """
    part, furthest, waits = _locate_part(path), 0, list(WAITS)
    while True:
        try:
            _transfer(url, part)
            break
        except requests.RequestException as error:
            there = measure_part(path)
            if there > furthest:
                furthest, waits = there, list(WAITS)
            refused = error.response is not None and error.response.status_code < 500
            if refused or not waits:
                raise InputError(
                    f"{url}: {_explain_failure(error)}; run the same command again to resume "
                    f"after {there / 1e6:,.1f} MB"
                ) from None
            wait = waits.pop(0)
            log.info(
                "%s after %.1f MB; retrying in %g s", _explain_failure(error), there / 1e6, wait
            )
            time.sleep(wait)
    part.replace(path)


def _transfer(url: str, part: Path) -> None:
    """Append the missing bytes to `part`; start over if the server does not support ranges."""
    there = measure_file(part) or 0
    headers = {**HEADERS, "Range": f"bytes={there}-"} if there else HEADERS
    with requests.get(url, headers=headers, timeout=TIMEOUT, stream=True) as response:
        if there and response.status_code == requests.codes.requested_range_not_satisfiable:
            if response.headers.get("Content-Range") == f"bytes */{there}":  # it is complete
                return
            part.unlink()
            raise requests.ConnectionError(f"{part.name} is longer than the file on the server")
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
    """Name the innermost cause in a few words: the outer errors only repeat it."""
    response = getattr(error, "response", None)
    if response is not None:
        return f"the server answered {response.status_code} {response.reason}"
    while inner := error.__cause__ or error.__context__:
        error = inner
    if isinstance(error, http.client.IncompleteRead):
        return "the connection was lost"
    return str(getattr(error, "strerror", None) or error)
