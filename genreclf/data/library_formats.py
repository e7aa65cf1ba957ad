"""The two formats of files of embeddings, Parquet and npz: see `library_files`."""

import io
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from genreclf.data.datasets.arrays import DAMAGE, open_archive, read_array
from genreclf.data.datasets.track import MISSING
from genreclf.data.library import BLOCK, TEXTS, Library
from genreclf.data.recorded_features import RECORD, describe_damage, parse_description
from genreclf.errors import InputError
from genreclf.files import write_atomically
from genreclf.paths import format_path

IN_NPZ = {"track_id": "track_ids", "genre": "labels", "embedding": "features"}  # other names


class Content(NamedTuple):
    """What a file holds, as `library.Library` has it, with paths as they were escaped."""

    texts: dict[str, list[str]]
    durations: np.ndarray
    size: int
    described: Mapping[str, Any]
    read_blocks: Callable[[], Iterator[np.ndarray]]


def write_parquet(
    path: Path, library: Library, columns: Mapping[str, list[str]], described: str
) -> None:
    """Write a Parquet file, with a row group for each block of embeddings.

    Args:
        path: the file; it is replaced once the new one is complete.
        library: embeddings and durations.
        columns: the texts, valid UTF-8.
        described: JSON that identifies the features.

    Raises:
        InputError: pyarrow is missing.
    """
    pyarrow, parquet = import_parquet(path)
    embedding = pyarrow.list_(pyarrow.float32(), library.size)
    fields = [(name, pyarrow.string()) for name in TEXTS]
    fields += [("duration", pyarrow.float32()), ("embedding", embedding)]
    schema = pyarrow.schema(fields, metadata={RECORD: described})
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


def write_npz(
    path: Path, library: Library, columns: Mapping[str, list[str]], described: str
) -> None:
    """Write an archive as `numpy.savez` does, but the embeddings block by block.

    The arguments are those of `write_parquet`.
    """
    texts = {name: np.array(column, dtype=np.str_) for name, column in columns.items()}
    for name in ("artist", "album"):  # data=npz refuses these texts
        texts[name] = np.where(np.isin(texts[name], sorted(MISSING)), "", texts[name])
    if not any(columns["genre"]):
        del texts["genre"]
    arrays = {**texts, "duration": library.durations, RECORD: np.array(described)}
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


def read_parquet(path: Path) -> Content:
    """Read a Parquet file that `write_parquet` wrote.

    Raises:
        InputError: it is damaged, or was not written by this version; or pyarrow is missing.
    """
    pyarrow, parquet = import_parquet(path)
    try:
        with parquet.ParquetFile(path, memory_map=True) as file:
            schema = file.schema_arrow
            described = (schema.metadata or {}).get(RECORD.encode())
            found = parse_description(path, described)
            embedding = schema.field("embedding").type
            size = embedding.list_size
            if not pyarrow.types.is_floating(embedding.value_type):
                raise ValueError("the embeddings are no rows of numbers")
            table = file.read(columns=[*TEXTS, "duration"])
        texts = {name: _check_texts(name, table[name].to_pylist()) for name in TEXTS}
        durations = _check_durations(table["duration"].to_numpy())
    except (OSError, KeyError, ValueError, AttributeError, pyarrow.ArrowException) as error:
        raise describe_damage(path, error) from None

    def read_blocks() -> Iterator[np.ndarray]:
        try:
            with parquet.ParquetFile(path, memory_map=True) as file:
                for batch in file.iter_batches(BLOCK, columns=["embedding"]):
                    if batch.column(0).null_count:
                        raise ValueError("an embedding is missing")
                    values = batch.column(0).flatten().to_numpy(zero_copy_only=False)
                    yield values.reshape(-1, size)
        except (OSError, ValueError, pyarrow.ArrowException) as error:
            raise describe_damage(path, error) from None

    return Content(texts, durations, size, found, read_blocks)


def read_npz(path: Path) -> Content:
    """Read an archive that `write_npz` wrote.

    Raises:
        InputError: it is damaged, or was not written by this version.
    """
    with path.open("rb") as content, open_archive(path, content) as archive:
        described = read_array(archive, path, RECORD).tolist() if RECORD in archive else None
        found = parse_description(path, described)
        stored = {name: IN_NPZ.get(name, name) for name in TEXTS}
        columns = {
            name: read_array(archive, path, array).tolist()
            for name, array in stored.items()
            if name != "genre" or array in archive
        }
        durations = read_array(archive, path, "duration")
    try:
        texts = {name: _check_texts(stored[name], column) for name, column in columns.items()}
        count = len(_check_durations(durations))
        texts.setdefault("genre", [""] * count)
        with zipfile.ZipFile(path) as archive, archive.open("features.npy") as stream:
            shape, _ = _read_header(stream)
    except (KeyError, *DAMAGE) as error:
        raise describe_damage(path, error) from None

    def read_blocks() -> Iterator[np.ndarray]:
        try:
            with zipfile.ZipFile(path) as archive, archive.open("features.npy") as stream:
                (rows, size), dtype = _read_header(stream)
                for start in range(0, rows, BLOCK):
                    count = min(BLOCK, rows - start)
                    values = stream.read(count * size * dtype.itemsize)
                    yield np.frombuffer(values, dtype).reshape(count, size)
        except (KeyError, *DAMAGE) as error:
            raise describe_damage(path, error) from None

    if len(shape) != 2 or shape[0] != count:
        raise describe_damage(path, f"features of shape {shape} for {count} tracks")
    return Content(texts, durations, shape[1], found, read_blocks)


def _check_texts(name: str, column: Any) -> list[str]:
    if not isinstance(column, list) or not all(isinstance(each, str) for each in column):
        raise ValueError(f"'{name}' is no column of texts")
    return column


def _check_durations(durations: np.ndarray) -> np.ndarray:
    if durations.ndim != 1 or durations.dtype.kind != "f" or not np.isfinite(durations).all():
        raise ValueError("'duration' is no column of numbers")
    return durations


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


def import_parquet(path: Path) -> tuple[Any, Any]:
    """Import pyarrow and pyarrow.parquet; InputError if they are not installed."""
    try:
        import pyarrow  # pyright: ignore[reportMissingImports]
        from pyarrow import parquet  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise InputError(
            f"{format_path(path)}: Parquet needs pyarrow; pip install 'genreclf[parquet]', or use "
            "a file that ends in .npz"
        ) from None
    return pyarrow, parquet
