r"""Files of embeddings, Parquet or npz: what `genreclf embed` writes.

There is a column in Parquet, or an array in npz, for each of `library.TEXTS` (empty where unknown),
`duration` (s) and the embeddings, float32. The names in npz are those that `data=npz` reads:
`track_ids`, `labels` (only if there are genres) and `features`. A JSON text, in the metadata of
Parquet and in the array `genreclf` of npz, says which features the embeddings are.

Text has to be UTF-8 in Parquet. Bytes of a path that are not are written as escapes, such as
`\udce9`, as in the JSON and CSV of `genreclf predict`; reading undoes this.
"""

import json
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from genreclf.data.library import TEXTS, Library, convert_store, escape_bytes, restore_id
from genreclf.data.library_formats import (
    Content,
    import_parquet,
    read_npz,
    read_parquet,
    write_npz,
    write_parquet,
)
from genreclf.data.recorded_features import VERSION, describe_damage
from genreclf.data.store import Store
from genreclf.errors import InputError
from genreclf.files import check_writable
from genreclf.paths import describe_path, explain_irregular, format_path

SUFFIXES = (".parquet", ".npz")


def check_file(path: Path) -> None:
    """Check that a file of embeddings can be written, and that what this needs is installed.

    Raises:
        InputError: the name has another ending, the file cannot be created, or pyarrow is missing.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(f"file={format_path(path)}: its name has to end in .parquet or .npz")
    if path.suffix.lower() == ".parquet":
        import_parquet(path)
    check_writable(path, "file")


def write_library(path: Path, library: Library) -> None:
    """Write a library to a file, atomically; the ending of its name says how.

    Raises:
        InputError: pyarrow is missing.
    """
    described = {
        "version": VERSION,
        "features": library.features,
        "identity": library.identity,
    }
    text = json.dumps(described)
    columns = {name: [escape_bytes(each) for each in library.texts[name]] for name in TEXTS}
    if path.suffix.lower() == ".parquet":
        write_parquet(path, library, columns, text)
    else:
        write_npz(path, library, columns, text)


def read_library(path: Path) -> Library:
    """Read a file that `write_library` wrote; the embeddings are read later, in blocks.

    Raises:
        InputError: there is no such file, it is damaged, `genreclf embed` did not write it or wrote
            it in another version, it has no tracks, or pyarrow is missing.
    """
    if fault := explain_irregular(path):
        is_missing = describe_path(path)[0] == "missing"
        raise InputError(f"{format_path(path)}: {fault}{' or folder' * is_missing}")
    suffix = path.suffix.lower()
    if suffix == ".h5":
        return convert_store(Store(path))
    if suffix not in SUFFIXES:
        raise InputError(
            f"{format_path(path)}: a folder of music is needed, or a file that genreclf embed "
            "wrote (.parquet or .npz)"
        )
    return _check_content(path, read_parquet(path) if suffix == ".parquet" else read_npz(path))


def _check_content(path: Path, content: Content) -> Library:
    if {len(column) for column in content.texts.values()} != {len(content.durations)}:
        raise describe_damage(path, "columns of different lengths")
    if not len(content.durations):
        raise InputError(f"{format_path(path)}: no tracks in it")
    paths = content.texts["path"] = [_restore(each) for each in content.texts["path"]]
    content.texts["track_id"] = [*map(restore_id, content.texts["track_id"], paths)]
    return Library(
        format_path(path),
        content.texts,
        content.durations,
        content.size,
        content.described["features"],
        content.described["identity"],
        lambda: _check_blocks(path, content.read_blocks()),
    )


def _check_blocks(path: Path, blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    for block in blocks:
        if not np.isfinite(block).all():
            raise describe_damage(path, "values that are not finite numbers")
        yield block.astype(np.float32, copy=False)


def _restore(path: str) -> str:
    """Undo `escape_bytes` for a path, unless there is a file of exactly that name."""
    if "\\udc" not in path or os.path.lexists(path):
        return path
    return re.sub(r"\\udc([89a-f][0-9a-f])", lambda found: chr(0xDC00 + int(found[1], 16)), path)
