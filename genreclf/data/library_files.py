r"""Files of embeddings, Parquet or npz: what `genreclf embed` writes.

There is a column in Parquet, or an array in npz, for each of `library.TEXTS` (empty where unknown),
`duration` (s) and the embeddings, float32. The names in npz are those that `data=npz` reads:
`track_ids`, `labels` (only if there are genres) and `features`. A JSON text, in the metadata of
Parquet and in the array `genreclf` of npz, says which features the embeddings are.

Text has to be UTF-8 in Parquet. Bytes of a path that are not are written as escapes, such as
`\udce9`, as in the JSON and CSV of `genreclf predict`; reading undoes this.
"""

import io
import json
import os
import re
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from genreclf.data.datasets.arrays import DAMAGE, open_archive, read_array
from genreclf.data.datasets.track import MISSING
from genreclf.data.library import BLOCK, TEXTS, Library, convert_store
from genreclf.data.store import Store
from genreclf.errors import InputError
from genreclf.files import format_path, write_atomically

VERSION = 1
IN_NPZ = {"track_id": "track_ids", "genre": "labels", "embedding": "features"}  # other names
NAME = "genreclf"  # of the description
SUFFIXES = (".parquet", ".npz")


def check_writable(path: Path) -> None:
    """Check that a file of embeddings can be written, and that what this needs is installed.

    Raises:
        InputError: the name has another ending, it is a folder, the folder of the file cannot be
            written to, or pyarrow is missing.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(f"file={format_path(path)}: its name has to end in .parquet or .npz")
    if path.is_dir():
        raise InputError(f"file={format_path(path)}: a folder; the name of a file is needed")
    existing = next(place for place in path.absolute().parents if place.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        raise InputError(f"file={format_path(path)}: {format_path(existing)} is not writable")
    if path.suffix.lower() == ".parquet":
        _import_parquet(path)


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
    columns = {name: [_escape(each) for each in library.texts[name]] for name in TEXTS}
    if path.suffix.lower() == ".parquet":
        _write_parquet(path, library, columns, text)
    else:
        _write_npz(path, library, columns, text)


def read_library(path: Path) -> Library:
    """Read a file that `write_library` wrote; the embeddings are read later, in blocks.

    Raises:
        InputError: there is no such file, it is damaged, `genreclf embed` did not write it or wrote
            it in another version, it has no tracks, or pyarrow is missing.
    """
    if not path.is_file():
        what = "not a file" if path.exists() else "no such file or folder"
        raise InputError(f"{format_path(path)}: {what}")
    suffix = path.suffix.lower()
    if suffix == ".h5":
        return convert_store(Store(path))
    if suffix not in SUFFIXES:
        raise InputError(
            f"{format_path(path)}: a folder of music is needed, or a file that genreclf embed "
            "wrote (.parquet or .npz)"
        )
    library = _read_parquet(path) if suffix == ".parquet" else _read_npz(path)
    if not len(library):
        raise InputError(f"{format_path(path)}: no tracks in it")
    return library


def _write_parquet(
    path: Path, library: Library, columns: Mapping[str, list[str]], described: str
) -> None:
    pyarrow, parquet = _import_parquet(path)
    embedding = pyarrow.list_(pyarrow.float32(), library.size)
    fields = [(name, pyarrow.string()) for name in TEXTS]
    fields += [("duration", pyarrow.float32()), ("embedding", embedding)]
    schema = pyarrow.schema(fields, metadata={NAME: described})
    names = [*TEXTS, "duration"]
    with (
        write_atomically(path, "wb") as file,
        parquet.ParquetWriter(
            file,
            schema,
            use_dictionary=names,
            compression={**dict.fromkeys(names, "SNAPPY"), "embedding.list.element": "NONE"},
        ) as writer,
    ):
        start = 0
        for block in library.read_blocks():
            rows = slice(start, start + len(block))
            values = pyarrow.array(np.ascontiguousarray(block, np.float32).ravel())
            arrays = [pyarrow.array(columns[name][rows], pyarrow.string()) for name in TEXTS]
            arrays += [
                pyarrow.array(library.durations[rows]),
                pyarrow.FixedSizeListArray.from_arrays(values, library.size),
            ]
            writer.write_batch(pyarrow.record_batch(arrays, schema=schema))
            start += len(block)


def _write_npz(
    path: Path, library: Library, columns: Mapping[str, list[str]], described: str
) -> None:
    """Write an archive as `numpy.savez` does, but the embeddings block by block."""
    texts = {name: np.array(column, dtype=np.str_) for name, column in columns.items()}
    for name in ("artist", "album"):  # data=npz refuses these texts
        texts[name] = np.where(np.isin(texts[name], sorted(MISSING)), "", texts[name])
    if not any(columns["genre"]):
        del texts["genre"]
    arrays = {**texts, "duration": library.durations, NAME: np.array(described)}
    shape = {"descr": "<f4", "fortran_order": False, "shape": (len(library), library.size)}
    with (
        write_atomically(path, "wb") as file,
        zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive,
    ):
        for name, array in arrays.items():
            content = io.BytesIO()
            np.lib.format.write_array(content, array, allow_pickle=False)
            archive.writestr(f"{IN_NPZ.get(name, name)}.npy", content.getvalue())
        member = zipfile.ZipInfo("features.npy")  # stored as it is: numbers hardly shrink
        with archive.open(member, "w", force_zip64=True) as stream:
            np.lib.format.write_array_header_2_0(stream, shape)
            for block in library.read_blocks():
                stream.write(np.ascontiguousarray(block, "<f4").tobytes())


def _read_parquet(path: Path) -> Library:
    pyarrow, parquet = _import_parquet(path)
    try:
        with parquet.ParquetFile(path, memory_map=True) as file:
            schema = file.schema_arrow
            described = (schema.metadata or {}).get(NAME.encode())
            found = _parse_description(path, described)
            size = schema.field("embedding").type.list_size
            table = file.read(columns=[*TEXTS, "duration"])
        texts = {name: table[name].to_pylist() for name in TEXTS}
        durations = table["duration"].to_numpy()
    except (OSError, KeyError, AttributeError, pyarrow.ArrowException) as error:
        raise _damaged(path, error) from None

    def read_blocks() -> Iterator[np.ndarray]:
        try:
            with parquet.ParquetFile(path, memory_map=True) as file:
                for batch in file.iter_batches(BLOCK, columns=["embedding"]):
                    values = batch.column(0).flatten().to_numpy(zero_copy_only=False)
                    yield values.reshape(-1, size)
        except (OSError, ValueError, pyarrow.ArrowException) as error:
            raise _damaged(path, error) from None

    return _make_library(path, texts, durations, size, found, read_blocks)


def _read_npz(path: Path) -> Library:
    with path.open("rb") as content, open_archive(path, content) as archive:
        described = read_array(archive, path, NAME).item() if NAME in archive else None
        found = _parse_description(path, described)
        count = len(read_array(archive, path, "track_ids"))
        texts = {}
        for name in TEXTS:
            stored = IN_NPZ.get(name, name)
            known = name != "genre" or stored in archive
            texts[name] = read_array(archive, path, stored).tolist() if known else [""] * count
        durations = read_array(archive, path, "duration")
    try:
        with zipfile.ZipFile(path) as archive, archive.open("features.npy") as stream:
            shape, _ = _read_header(stream)
    except (KeyError, *DAMAGE) as error:
        raise _damaged(path, error) from None

    def read_blocks() -> Iterator[np.ndarray]:
        try:
            with zipfile.ZipFile(path) as archive, archive.open("features.npy") as stream:
                (rows, size), dtype = _read_header(stream)
                for start in range(0, rows, BLOCK):
                    count = min(BLOCK, rows - start)
                    values = stream.read(count * size * dtype.itemsize)
                    yield np.frombuffer(values, dtype).reshape(count, size)
        except (KeyError, *DAMAGE) as error:
            raise _damaged(path, error) from None

    if len(shape) != 2 or shape[0] != count:
        raise _damaged(path, f"features of shape {shape} for {count} tracks")
    return _make_library(path, texts, durations, shape[1], found, read_blocks)


def _read_header(stream: Any) -> tuple[tuple[int, ...], np.dtype]:
    """Read shape and type of an array in a .npy stream."""
    read = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    shape, in_columns, dtype = read[np.lib.format.read_magic(stream)](stream)
    if in_columns or dtype.kind != "f":
        raise ValueError("the embeddings are no rows of numbers")
    return shape, dtype


def _make_library(
    path: Path,
    texts: dict[str, list[str]],
    durations: np.ndarray,
    size: int,
    found: Mapping[str, Any],
    read_blocks: Callable[[], Iterator[np.ndarray]],
) -> Library:
    if {len(column) for column in texts.values()} != {len(durations)}:
        raise _damaged(path, "columns of different lengths")
    texts["path"] = [_restore(each) for each in texts["path"]]
    return Library(
        format_path(path),
        texts,
        durations,
        size,
        found["features"],
        found["identity"],
        lambda: _check_blocks(path, read_blocks()),
    )


def _check_blocks(path: Path, blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    for block in blocks:
        if not np.isfinite(block).all():
            raise _damaged(path, "values that are not finite numbers")
        yield block.astype(np.float32, copy=False)


def _parse_description(path: Path, described: bytes | str | None) -> dict[str, Any]:
    if described is None:
        raise InputError(f"{format_path(path)}: not written by genreclf embed")
    try:
        found = json.loads(described)
        if found["version"] != VERSION:
            raise InputError(
                f"{format_path(path)}: written by another version of genreclf; write it again with "
                "genreclf embed"
            )
        if not isinstance(found["features"], dict) or not isinstance(found["identity"], dict):
            raise ValueError("features and identity are needed")
    except (ValueError, KeyError, TypeError) as error:
        raise _damaged(path, error) from None
    return found


def _damaged(path: Path, error: object) -> InputError:
    reason = " ".join(str(error).split())
    return InputError(f"{format_path(path)}: not a readable file of embeddings ({reason})")


def _import_parquet(path: Path) -> tuple[Any, Any]:
    try:
        import pyarrow  # pyright: ignore[reportMissingImports]
        from pyarrow import parquet  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise InputError(
            f"{format_path(path)}: Parquet needs pyarrow; pip install 'genreclf[parquet]', or use "
            "a file that ends in .npz"
        ) from None
    return pyarrow, parquet


def _escape(text: str) -> str:
    """Make a text valid UTF-8; bytes of a path that are not become escapes."""
    return text.replace("\0", "").encode(errors="backslashreplace").decode()


def _restore(path: str) -> str:
    """Undo `_escape` for a path, unless there is a file of exactly that name."""
    if "\\udc" not in path or os.path.lexists(path):
        return path
    return re.sub(r"\\udc([89a-f][0-9a-f])", lambda found: chr(0xDC00 + int(found[1], 16)), path)
