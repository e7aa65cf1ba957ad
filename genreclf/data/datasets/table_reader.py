"""Reads the rows of a table of tracks: a text file (CSV, TSV), or Parquet.

Text files are UTF-8, with or without a byte order mark, or UTF-16 with one; their columns are
separated by commas, semicolons or tabs, as the header or Excel's line `sep=;` before it says.
"""

import codecs
import csv
import difflib
import io
import logging
import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from genreclf.data.datasets.track import repair_text
from genreclf.errors import InputError
from genreclf.paths import explain_irregular, format_path

log = logging.getLogger(__name__)
REQUIRED, OPTIONAL = ("path", "genre"), ("artist", "album", "split")
OTHER_NAMES = {"path": ("file", "audio", "location"), "genre": ("label", "class", "category")}
DELIMITERS = (",", ";", "\t")
LONGEST_FIELD = 10**8  # characters
Row = tuple[str, dict[str, str]]  # where it is, such as "line 7", and its values


def read_table(path: Path) -> list[Row]:
    """Read the columns of a table that describe tracks; missing values are empty texts.

    Raises:
        InputError: the table cannot be read, lacks a column or has no rows. The message names the
            line of a text file, or the row of a Parquet file.
    """
    if fault := explain_irregular(path):
        fault = "a folder; the path of one file is needed" if path.is_dir() else fault
        raise InputError(f"data.path={format_path(path)}: {fault}")
    parquet = path.suffix.lower() in (".parquet", ".pq")
    rows = list(_read_parquet(path) if parquet else _read_text(path))
    if not rows:
        raise InputError(f"{path}: no rows")
    return rows


def _read_text(path: Path) -> Iterator[Row]:
    """Read a delimited text file; a row is called by the line where it begins."""
    csv.field_size_limit(LONGEST_FIELD)
    text = _decode(path)
    first = text.lstrip("\r\n").partition("\n")[0]
    excel = re.fullmatch(r"\"?sep=([,;\t])\"?\s*", first, re.IGNORECASE)
    delimiter = excel[1] if excel else max(DELIMITERS, key=first.count)
    if excel:
        text = text.replace(first, "", 1)  # the empty line keeps the numbers of the others
    reader = csv.reader(
        io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True, strict=True
    )
    header, count, before = None, 0, 0
    try:
        for values in reader:
            line, before = before + 1, reader.line_num
            if not any(value.strip() for value in values):
                continue
            if header is None:
                header = _find_columns(values, path)
                count = len(values)
                continue
            if len(values) != count:
                raise InputError(
                    f"{path}, line {line}: {len(values)} values, the header has {count}; put "
                    f"quotes around a value that contains {delimiter!r}"
                )
            yield f"line {line}", {name: values[at].strip() for name, at in header.items()}
    except csv.Error as error:
        raise InputError(f"{path}, line {reader.line_num}: {error}") from None
    if header is None:
        raise InputError(f"{path}: the file is empty; a line of column names is needed")


def _decode(path: Path) -> str:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"data.path={path}: {error.strerror or error}") from None
    wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        text = content.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        if wide:
            raise InputError(
                f"{path}: begins like UTF-16, but is damaged or incomplete ({error.reason}); save "
                "the table again"
            ) from None
        line = content[: error.start].count(b"\n") + 1
        raise InputError(
            f"{path}, line {line}: not UTF-8; save the table as UTF-8 (in Excel: CSV UTF-8)"
        ) from None
    if "\0" in text:
        line = text.partition("\0")[0].count("\n") + 1
        raise InputError(f"{path}, line {line}: a null byte; this is not a text file")
    return text


def _read_parquet(path: Path) -> Iterator[Row]:
    """Read a Parquet file; rows are counted from 1."""
    try:
        import pyarrow  # pyright: ignore[reportMissingImports]
        from pyarrow import parquet  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise InputError(
            f"data.path={path}: Parquet needs pyarrow; pip install 'genreclf[parquet]', or save "
            "the table as CSV"
        ) from None
    try:
        with parquet.ParquetFile(path) as file:
            columns = _find_columns(file.schema_arrow.names, path)
            names = [file.schema_arrow.names[at] for at in columns.values()]
            arrays = file.read(columns=names)
    except (OSError, pyarrow.ArrowException) as error:
        raise InputError(f"{path}: not a readable Parquet file ({error})") from None
    values = [arrays[name].to_pylist() for name in names]
    for number, row in enumerate(zip(*values, strict=True), 1):
        yield (
            f"row {number}",
            {
                name: _format(value, name, f"{path}, row {number}")
                for name, value in zip(columns, row, strict=True)
            },
        )


def _format(value: Any, name: str, where: str) -> str:
    """Convert a value to text, and a missing one to an empty text."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, bytes):
        text = value.decode("utf-8", errors="surrogateescape").strip()
        return text if name == "path" else repair_text(text)
    if not isinstance(value, str | int | float) or isinstance(value, bool):
        raise InputError(f"{where}: {name} is {value!r}; one text is needed")
    return str(value).strip()


def _find_columns(header: Sequence[str], path: Path) -> dict[str, int]:
    """Find the positions of the columns, and log which are not used."""
    names = [name.strip().casefold() for name in header]
    wanted = (*REQUIRED, *OPTIONAL)
    for name in wanted:
        if names.count(name) > 1:
            raise InputError(f"{path}: {names.count(name)} columns are called {name}")
    for name in REQUIRED:
        if name not in names:
            near = _find_nearest(name, [other for other in names if other not in wanted])
            hint = f"; rename {header[names.index(near)]!r}?" if near else ""
            listed = ", ".join(map(repr, header))
            raise InputError(f"{path}: no column {name!r} (it has {listed}){hint}")
    unused = [other.strip() for other in header if other.strip().casefold() not in wanted]
    for name in OPTIONAL:
        near = _find_nearest(name, [other.casefold() for other in unused])
        if name not in names and near:
            log.warning("%s: column %r is not used; to use it, rename it to %r", path, near, name)
    if unused:
        log.info("%s: columns that are not used: %s", path, ", ".join(unused))
    return {name: names.index(name) for name in wanted if name in names}


def _find_nearest(name: str, others: Sequence[str]) -> str:
    """Find the name that is most like this one, or contains it or a synonym; empty if none is."""
    near = difflib.get_close_matches(name, others, n=1, cutoff=0.7)
    words = (name, *OTHER_NAMES.get(name, ()))
    near += [other for word in words for other in others if word in other]
    return next(iter(near), "")
