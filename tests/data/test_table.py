import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from genreclf.data.datasets import Folder, Table
from genreclf.errors import InputError


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with a/1.mp3 to a/4.mp3, which need not be audio to be listed."""
    (tmp_path / "a").mkdir()
    for number in range(1, 5):
        (tmp_path / "a" / f"{number}.mp3").write_bytes(b"music")
    return tmp_path


def write(place: Path, text: str, encoding: str = "utf-8", name: str = "t.csv") -> Table:
    (place / name).write_bytes(text.encode(encoding))
    return Table(place / name)


ROWS = [
    ("path", "genre", "artist", "album", "split"),
    ("a/1.mp3", "Rock", "Ann, the first", "One", "training"),
    ("./a/2.mp3", "Jazz", "Bjørk", "", "Val"),
    ("a//3.mp3", "Rock", "", "", ""),
]


def join(delimiter: str, rows: list[tuple[str, ...]] = ROWS) -> str:
    lines = ([f'"{value}"' if delimiter in value else value for value in row] for row in rows)
    return "\n".join(delimiter.join(line) for line in lines) + "\n"


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\n\n"])
def test_any_spreadsheet_is_read(place: Path, delimiter: str, encoding: str, newline: str) -> None:
    table = write(place, join(delimiter).replace("\n", newline), encoding)
    found = [(t.id, t.genre, t.artist, t.album, t.split) for t in table.tracks()]
    assert found == [
        ("a/1.mp3", "Rock", "Ann, the first", "One", "train"),
        ("a/2.mp3", "Jazz", "Bjørk", "", "val"),
        ("a/3.mp3", "Rock", "", "", ""),
    ]
    assert table.genres() == ["Jazz", "Rock"]
    assert [Path(track.path) for track in table.tracks()] == [
        place / "a" / f"{number}.mp3" for number in (1, 2, 3)
    ]


def test_names_of_columns_and_paths_elsewhere(place: Path, tmp_path: Path) -> None:
    (place / "lists").mkdir()
    text = f"Genre , PATH\nRock,../a/1.mp3\nPop,{place}/a/2.mp3\n"
    tracks = write(place / "lists", text).tracks()
    assert [track.id for track in tracks] == ["1.mp3", "2.mp3"]  # below what they have in common
    assert [track.genre for track in tracks] == ["Rock", "Pop"]


def test_the_order_of_columns_and_genres_to_use(place: Path) -> None:
    write(place, "genre,path\nRock,a/1.mp3\nPop,a/2.mp3\n")
    assert [t.id for t in Table(place / "t.csv", genres=["Pop"]).tracks()] == ["a/2.mp3"]
    with pytest.raises(InputError, match="has no Polka; it has Pop, Rock"):
        Table(place / "t.csv", genres=["Polka"]).tracks()


HEADER = "path,genre,artist,split\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the file is empty"),
        ("\n\n", "the file is empty"),
        (HEADER, "no rows"),
        ("path,genres\n", r"no column 'genre' \(it has 'path', 'genres'\); rename 'genres'\?"),
        ("Filepath;genre\n", r"no column 'path' \(it has 'Filepath', 'genre'\); rename 'Filepath'"),
        ("filename,genre\n", r"no column 'path' .*; rename 'filename'\?"),
        ("path,Label\n", r"no column 'genre' .*; rename 'Label'\?"),
        ("path|genre\n", r"no column 'path' \(it has 'path\|genre'\)"),
        ("path,genre,Genre\n", "2 columns are called genre"),
        (HEADER + "a/1.mp3,Rock,,\n\na/9.mp3,Pop,,\n", "line 4: no such file: .*/a/9.mp3$"),
        (HEADER + "a/8.mp3,Rock,,\na/9.mp3,Pop,,\n", r"line 2: .*8.mp3 \(and 1 more of 2\)"),
        (HEADER + ",Rock,,\n", "line 2: the path is empty"),
        (HEADER + 'a/1.mp3,"Rock","two\nlines",\na/2.mp3, ,,\n', "line 4: the genre is empty"),
        (HEADER + "a/1.mp3,nan,,\n", "line 2: the genre is 'nan', a missing value"),
        (HEADER + "a/1.mp3,<NA>,,\n", "line 2: the genre is '<NA>', a missing value"),
        (HEADER + "a/1.mp3,Rock,NaN,\n", "line 2: artist is 'NaN', a missing value; leave it"),
        (HEADER + 'a/1.mp3,"hip\nhop",,\n', "line 2: the genre .* has a line break"),
        (HEADER + "a,Rock,,\n", "line 2: a folder, not a file: .*/a$"),
        ("sep=;\n" + "path;genres\n", r"no column 'genre' \(it has 'path', 'genres'\)"),
        (HEADER + "a/1.mp3,1.0,,\n", r"line 2: the genre is '1\.0': a name or a whole number"),
        (HEADER + "a/1.mp3,Rock;Pop,,\n", "line 2: the genre 'Rock;Pop' looks like several"),
        (HEADER + "a/1.mp3,\"['Rock', 'Pop']\",,\n", "line 2: the genre .* looks like several"),
        (HEADER + "a/1.mp3,Rock,,trian\n", "split 'trian' is not train, .*; did you mean train"),
        (HEADER + "a/1.mp3,Rock,,\na/../a/1.mp3,Pop,,\n", "line 3: the same path as in line 2"),
        (HEADER + "a/1.mp3,Rock\n", "line 2: 2 values, the header has 4"),
        (HEADER + "a/1.mp3,Rock,Ann, the first,\n", "line 2: 5 values, .*; put quotes around"),
        (HEADER + 'a/1.mp3,"Rock,,\n', "line 2: unexpected end of data"),
        (HEADER + "a/1\0.mp3,Rock,,\n", "line 2: a null byte"),
    ],
)
def test_each_mistake_is_told_with_its_line(place: Path, text: str, message: str) -> None:
    """D8 too: labels that are not single genres are refused, naming the line."""
    with pytest.raises(InputError, match=message) as error:
        write(place, text).tracks()
    assert str(place / "t.csv") in str(error.value)
    assert "\n" not in str(error.value)


def test_another_encoding_is_told_with_its_line(place: Path) -> None:
    with pytest.raises(InputError, match=r"t\.csv, line 3: not UTF-8; save the table as UTF-8"):
        write(place, "path,genre\na/1.mp3,Rock\na/2.mp3,Señor\n", "latin-1").tracks()


def test_damaged_utf16_is_called_so(place: Path) -> None:
    (place / "t.csv").write_bytes("path,genre\n".encode("utf-16")[:-1])
    with pytest.raises(InputError, match=r"begins like UTF-16, but is damaged or incomplete"):
        Table(place / "t.csv").tracks()


@pytest.mark.parametrize("first", ["sep=;", '"sep=;"', "SEP=;\r"])
def test_excels_line_says_what_separates(place: Path, first: str) -> None:
    """Excel writes and reads `sep=;` above the header; line numbers still count it."""
    table = write(place, f"{first}\npath;genre;artist\na/1.mp3;Rock;Ann, Bob, Eve, Zoe\n")
    assert [(t.genre, t.artist) for t in table.tracks()] == [("Rock", "Ann, Bob, Eve, Zoe")]
    with pytest.raises(InputError, match="line 3: the path is empty"):
        write(place, f"{first}\npath;genre\n;Rock\n").tracks()


def test_spaces_before_quotes_are_ignored(place: Path) -> None:
    (track,) = write(place, 'path, genre, artist\na/1.mp3, "Rock", "Ann, the first"\n').tracks()
    assert (track.genre, track.artist) == ("Rock", "Ann, the first")


def test_a_missing_table_and_a_list_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").mkdir()
    with pytest.raises(InputError, match="a folder; the path of one file is needed"):
        Table(tmp_path / "a.parquet").tracks()
    with pytest.raises(InputError, match="no such file"):
        Table(tmp_path / "none.csv").tracks()
    with pytest.raises(InputError, match=r"data\.genres=Rock: a list is needed"):
        Table(tmp_path / "none.csv", genres="Rock")


def test_columns_that_are_not_used_are_told(place: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    write(place, "path,genre,Artists,bpm\na/1.mp3,Rock,Ann,120\n").tracks()
    assert "column 'artists' is not used; to use it, rename it to 'artist'" in caplog.text
    assert "not used: Artists, bpm" in caplog.text


def test_parquet_is_read_like_csv(place: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")

    def write_parquet(**columns: list) -> Table:
        parquet.write_table(pyarrow.table(columns), place / "t.parquet")
        return Table(place / "t.parquet")

    tracks = write_parquet(
        path=["a/1.mp3", "a/2.mp3"], genre=["Rock", "Pop"], artist=["Ann", None], n=[1, 2]
    ).tracks()
    assert [(t.id, t.genre, t.artist) for t in tracks] == [
        ("a/1.mp3", "Rock", "Ann"),
        ("a/2.mp3", "Pop", ""),
    ]
    paths = ["a/1.mp3", "a/2.mp3"]
    (track,) = write_parquet(path=[b"a/1.mp3"], genre=[b"caf\xe9"], artist=[b"Zo\xeb"]).tracks()
    assert (track.genre, track.artist) == ("café", "Zoë")
    for genres, message in (
        (["Rock", None], "row 2: the genre is empty"),
        ([1.0, 2.0], r"row 1: the genre is '1\.0'"),
        ([1.0, float("nan")], r"row 1: the genre is '1\.0'"),
        ([["Rock"], ["Pop", "Rock"]], r"row 1: genre is \['Rock'\]; one text is needed"),
        ([True, False], "row 1: genre is True"),
    ):
        with pytest.raises(InputError, match=message):
            write_parquet(path=paths, genre=genres).tracks()
    with pytest.raises(InputError, match=r"no column 'genre' .*rename 'genres'\?"):
        write_parquet(path=paths, genres=["a", "b"]).tracks()
    (place / "t.parquet").write_bytes(b"not Parquet")
    with pytest.raises(InputError, match="not a readable Parquet file"):
        Table(place / "t.parquet").tracks()


def test_parquet_without_pyarrow_says_what_to_install(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (place / "t.parquet").write_bytes(b"")
    with pytest.raises(InputError, match=r"pip install 'genreclf\[parquet\]'"):
        Table(place / "t.parquet").tracks()


def write_music_table(music: Path, path: Path) -> None:
    """The clips of a folder, with the artists of their tags."""
    rows = [f"{t.path},{t.genre},{t.artist}" for t in Folder(music).tracks()]
    path.write_text("\n".join(["path,genre,artist", *rows]))


@pytest.mark.slow
@pytest.mark.parametrize(
    "split", [["split=kfold", "split.number=1", "split.folds=3"], ["split=artist"]]
)
def test_a_table_is_trained_on(
    command: Callable[..., str], music: Path, tmp_path: Path, split: list[str]
) -> None:
    write_music_table(music, tmp_path / "music.csv")
    path = command(
        *("train", "data=table", f"data.path={tmp_path}/music.csv", "data.duration=2.5", *split),
        *("features.n_mels=16", "trainer.max_epochs=1", "+trainer.limit_train_batches=1"),
        *("report=false", "model=efficient_cnn"),
    )
    result = json.loads(Path(path).read_text())
    assert Path(path).parent.name.startswith("table-")
    assert result["data"]["leakage"]["train-test"]["artists"] == 0
    tested = sum(result["data"]["split"]["test"].values())
    assert tested > 0
