"""Files of embeddings: what is written is read again, by genreclf and by others."""

import json
import os
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from genreclf.audio.descriptions import describe_features, identify_features
from genreclf.data import Npz, Track, library_formats
from genreclf.data.library import Library, convert_store
from genreclf.data.library_files import check_file, read_library, write_library
from genreclf.data.store import Store
from genreclf.errors import InputError
from genreclf.models import MusicnnEmbedding

SIZE = 7
LATIN = os.fsdecode(b"/m/caf\xe9.mp3")


@pytest.fixture
def library() -> Library:
    """Ten tracks with names of every kind, in blocks of four."""
    rows = np.random.default_rng(0).normal(size=(10, SIZE)).astype(np.float32)
    features = MusicnnEmbedding()
    texts = {
        "track_id": [f"{n}.mp3" for n in range(10)],
        "path": [LATIN, "/m/日本.mp3", "/m/a\nb.mp3", *(f"/m/{n}.mp3" for n in range(7))],
        "title": ["nan", "Ünï", *[""] * 8],
        "artist": ["None", "AC/DC", *[""] * 8],
        "album": [""] * 10,
        "genre": ["Rock", "Pop"] * 5,
    }
    return Library(
        "made",
        texts,
        np.full(10, 30, np.float32),
        SIZE,
        describe_features(features),
        identify_features(features),
        lambda: (rows[start : start + 4] for start in range(0, 10, 4)),
    )


def read_rows(library: Library) -> np.ndarray:
    return np.concatenate(list(library.read_blocks()))


@pytest.mark.parametrize("name", ["a.parquet", "a.npz", "A.NPZ"])
def test_what_is_written_is_read_b11(
    library: Library, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """B11: any name of a file survives, also if its bytes are not UTF-8."""
    monkeypatch.setattr(library_formats, "BLOCK", 3)  # other blocks than those that were written
    write_library(tmp_path / name, library)
    found = read_library(tmp_path / name)
    assert np.array_equal(read_rows(found), read_rows(library))
    assert max(map(len, found.read_blocks())) <= 4
    artists = library.texts["artist"] if "parquet" in name else ["", "AC/DC", *[""] * 8]
    assert found.texts == {**library.texts, "artist": artists}  # data=npz would refuse "None"
    assert np.array_equal(found.durations, library.durations)
    assert (found.features, found.identity) == (library.features, library.identity)


def test_parquet_is_what_other_programs_expect(library: Library, tmp_path: Path) -> None:
    write_library(tmp_path / "a.parquet", library)
    table = parquet.read_table(tmp_path / "a.parquet")
    assert table.schema.field("embedding").type == pa.list_(pa.float32(), SIZE)
    assert table["path"][0].as_py() == "/m/caf\\udce9.mp3"
    assert table["genre"].to_pylist() == library.texts["genre"]
    described = json.loads(table.schema.metadata[b"genreclf"])
    assert described["features"]["_target_"] == "genreclf.models.MusicnnEmbedding"
    assert described["identity"]["version"].startswith("1 ")


def test_data_npz_reads_an_archive_with_genres(library: Library, tmp_path: Path) -> None:
    write_library(tmp_path / "a.npz", library)
    dataset = Npz(tmp_path / "a.npz")
    assert [track.genre for track in dataset.tracks()] == library.texts["genre"]
    assert dataset.tracks()[1].artist == "AC/DC"
    rows = np.stack(list(dataset.rows()))
    assert np.array_equal(rows[:, :, 0], read_rows(library))


def test_data_npz_needs_genres(library: Library, tmp_path: Path) -> None:
    library.texts["genre"][:] = [""] * 10
    write_library(tmp_path / "a.npz", library)
    with pytest.raises(InputError, match=r"no genres; to train .* genreclf embed data=folder"):
        Npz(tmp_path / "a.npz").tracks()
    assert read_library(tmp_path / "a.npz").texts["genre"] == [""] * 10


def test_an_escape_in_a_name_that_exists_is_no_byte(library: Library, tmp_path: Path) -> None:
    path = tmp_path / "caf\\udce9.mp3"
    path.touch()
    library.texts["path"][3] = str(path)
    write_library(tmp_path / "a.parquet", library)
    assert read_library(tmp_path / "a.parquet").texts["path"][3] == str(path)


def write_parquet(path: Path) -> None:
    parquet.write_table(pa.table({"path": ["a"]}), path)


def write_other_version(path: Path) -> None:
    metadata = {"genreclf": '{"version": 99}'}
    parquet.write_table(pa.table({"a": [1]}).replace_schema_metadata(metadata), path)


def write_without_columns(path: Path) -> None:
    metadata = {"genreclf": '{"version": 1, "features": {}, "identity": {}}'}
    parquet.write_table(pa.table({"embedding": [1]}).replace_schema_metadata(metadata), path)


BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "text.parquet": (lambda path: path.write_text("no"), "not a readable file of embeddings"),
    "other.parquet": (write_parquet, "not written by genreclf embed"),
    "newer.parquet": (write_other_version, "another version of genreclf; write it again with"),
    "columns.parquet": (write_without_columns, "not a readable file of embeddings"),
    "text.npz": (lambda path: path.write_text("no"), "not a readable .npz archive"),
    "other.npz": (lambda path: np.savez(path, a=[1]), "not written by genreclf embed"),
    "json.npz": (lambda path: np.savez(path, genreclf="{"), "not a readable file of embeddings"),
    "song.mp3": (lambda path: path.touch(), "a file that genreclf embed wrote (.parquet or"),
    "store.h5": (lambda path: path.touch(), "not a store of this version"),
    "none.npz": (lambda path: None, "no such file or folder"),
    "pipe.npz": (os.mkfifo, "a named pipe, not a file"),
    "link.npz": (lambda path: path.symlink_to("gone"), "a link to a file that does not exist"),
    "loop.npz": (lambda path: path.symlink_to(path), "symbolic links"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_embed_did_not_write_is_refused_in_a_line(tmp_path: Path, name: str) -> None:
    write, message = BAD[name]
    write(tmp_path / name)
    with pytest.raises(InputError) as raised:
        read_library(tmp_path / name)
    assert message in str(raised.value)
    assert name in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("path", np.arange(10)),
        ("title", np.full((10, 2), "a")),
        ("track_ids", np.array("a")),
        ("labels", np.full(10, b"a")),
        ("duration", np.full(10, "a")),
        ("duration", np.full(10, np.nan)),
        ("genreclf", np.array(["{}", "{}"])),
        ("features", np.full((10, SIZE), "a")),
    ],
)
def test_arrays_of_another_kind_are_refused(
    library: Library, tmp_path: Path, column: str, values: np.ndarray
) -> None:
    write_library(tmp_path / "a.npz", library)
    with np.load(tmp_path / "a.npz") as archive:
        arrays = {**archive, column: values}
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(InputError, match=r"a\.npz: not a readable file of embeddings"):
        read_library(tmp_path / "a.npz")


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("path", pa.array([1] * 10)),
        ("artist", pa.array([None, *["a"] * 9], pa.string())),
        ("duration", pa.array([None, *[30.0] * 9], pa.float32())),
        ("duration", pa.array(["30"] * 10)),
        ("embedding", pa.array([["a"] * SIZE] * 10, pa.list_(pa.string(), SIZE))),
        ("embedding", pa.array([None, *[[1.0] * SIZE] * 9], pa.list_(pa.float32(), SIZE))),
    ],
)
def test_columns_of_another_kind_or_with_gaps_are_refused(
    library: Library, tmp_path: Path, column: str, values: pa.Array
) -> None:
    write_library(tmp_path / "a.parquet", library)
    table = parquet.read_table(tmp_path / "a.parquet")
    place = table.column_names.index(column)
    parquet.write_table(table.set_column(place, column, values), tmp_path / "a.parquet")
    with pytest.raises(InputError, match=r"a\.parquet: not a readable file of embeddings"):
        read_rows(read_library(tmp_path / "a.parquet"))


@pytest.mark.parametrize("name", ["a.parquet", "a.npz"])
def test_a_file_that_was_cut_off_is_refused(library: Library, tmp_path: Path, name: str) -> None:
    write_library(tmp_path / name, library)
    whole = (tmp_path / name).read_bytes()
    for size in range(0, len(whole), len(whole) // 40):
        (tmp_path / name).write_bytes(whole[:size])
        with pytest.raises(InputError):
            read_rows(read_library(tmp_path / name))


@pytest.mark.parametrize("name", ["a.parquet", "a.npz"])
def test_values_that_are_not_finite_are_refused(
    library: Library, tmp_path: Path, name: str
) -> None:
    rows = read_rows(library)
    rows[3, 2] = np.nan
    broken = Library(**{**vars(library), "read_blocks": lambda: iter([rows])})
    write_library(tmp_path / name, broken)
    with pytest.raises(InputError, match="not finite"):
        read_rows(read_library(tmp_path / name))


def test_a_failed_write_leaves_the_old_file(library: Library, tmp_path: Path) -> None:
    def fail() -> Iterator[np.ndarray]:
        yield np.zeros((4, SIZE), np.float32)
        raise OSError("disk full")

    broken = Library(**{**vars(library), "read_blocks": fail})
    for name in ("a.parquet", "a.npz"):
        (tmp_path / name).write_text("old")
        with pytest.raises(OSError, match="disk full"):
            write_library(tmp_path / name, broken)
        assert (tmp_path / name).read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 2


def test_a_store_is_a_library(make_store: Callable[..., Store]) -> None:
    rows = np.random.default_rng(0).normal(size=(5, SIZE, 1)).astype(np.float32)
    store = make_store([Track(f"{n}", "ab"[n % 2], artist="x") for n in range(5)], rows)
    library = convert_store(store)
    assert np.array_equal(read_rows(library), rows[:, :, 0])
    assert library.texts["genre"] == ["a", "b", "a", "b", "a"]
    assert read_library(store.path).texts == library.texts


def test_a_store_of_frames_is_no_library(make_store: Callable[..., Store]) -> None:
    store = make_store([Track("1", "a")], np.zeros((1, 8, 16), np.float32))
    with pytest.raises(InputError, match="8 values in each of 16 frames are no embedding"):
        convert_store(store)


def test_names_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"has to end in .parquet or .npz"):
        check_file(tmp_path / "a.csv")
    (tmp_path / "folder.npz").mkdir()
    with pytest.raises(InputError, match="a folder; the name of a file"):
        check_file(tmp_path / "folder.npz")
    check_file(tmp_path / "new" / "a.npz")
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(InputError, match=r"pip install 'genreclf\[parquet\]', or use a file"):
        check_file(tmp_path / "a.parquet")


def test_the_embeddings_in_npz_are_not_compressed(library: Library, tmp_path: Path) -> None:
    """So that reading them takes no longer than the disk."""
    write_library(tmp_path / "a.npz", library)
    with zipfile.ZipFile(tmp_path / "a.npz") as archive:
        assert archive.getinfo("features.npy").compress_type == zipfile.ZIP_STORED
        assert archive.getinfo("path.npy").compress_type == zipfile.ZIP_DEFLATED
