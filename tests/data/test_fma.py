"""FMA Small in miniature: archives of its layout, from download to evaluation."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hydra
import pytest
from conftest import TINY
from fma_archives import (
    BIOGRAPHY,
    DUPLICATE,
    GARBAGE,
    GENRES,
    MISSING,
    SILENT,
    TOO_SHORT,
    archives,
    row,
    serve,
    table,
)
from hydra.utils import instantiate

from genreclf.commands import hydra_app
from genreclf.data.datasets import FMA
from genreclf.data.store import Store
from genreclf.errors import InputError


@pytest.fixture(scope="module")
def packed() -> dict[str, bytes]:
    return archives()


@pytest.fixture
def root(command: Callable[..., str], packed: dict[str, bytes], tmp_path: Path) -> Path:
    """The data set, downloaded."""
    with serve(packed) as server:
        entries = ",".join(server.archive(name) for name in packed)
        where = f"data.root={tmp_path / 'fma'}"
        return Path(command("download", "data=fma_small", f"data.archives=[{entries}]", where))


@pytest.mark.slow
def test_a_full_rehearsal(
    command: Callable[..., str], root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = ("data=fma_small", f"data.root={root}", "data.duration=2.5")
    store = Store(command("prepare", *data, *TINY))
    check_store(store, root)
    one = (*data, *TINY, "trainer.max_epochs=1", "model=efficient_cnn")

    official = read(command("train", *one, "split=official"))
    sizes = {part: sum(counts.values()) for part, counts in official["data"]["split"].items()}
    assert sizes == {"train": 48, "val": 16, "test": 16}
    assert official["data"]["leakage"]["duplicates"] == [[str(n) for n in DUPLICATE]]
    for parts in ("train-test", "train-val", "val-test"):
        assert official["data"]["leakage"][parts]["artists"] == 0

    scripts = read(
        command("train", *data, *TINY, "experiment=paper_scripts", "trainer.max_epochs=1")
    )
    log = (Path(scripts["folder"]) / "train.log").read_text()
    assert "7 extra copies of training tracks" in log

    paper = read(command("train", *data, *TINY, "experiment=paper", "trainer.max_epochs=1"))
    assert paper["data"]["classes"] == list(GENRES)
    assert sum(paper["data"]["split"]["test"].values()) == 16
    log = (Path(paper["folder"]) / "train.log").read_text()
    assert "7 extra copies of training tracks" in log
    assert "all known to be bad" not in log  # a clip is missing, too

    checkpoint = f"checkpoint={official['folder']}/best.ckpt"
    evaluation = read(command("evaluate", checkpoint, *data, "split=official"))
    assert evaluation["n"] == 16
    assert evaluation["accuracy"] == official["test"]["accuracy"]
    assert evaluation["trained_on"] == 0


def read(line: str) -> dict[str, Any]:
    return {**json.loads(Path(line).read_text()), "folder": str(Path(line).parent)}


def check_store(store: Store, root: Path) -> None:
    assert len(store) == 80
    assert store.classes == list(GENRES)
    reasons = {int(track["track_id"]): track["reason"] for track in store.rejected}
    assert set(reasons) == {TOO_SHORT, GARBAGE, SILENT, MISSING}
    assert reasons[TOO_SHORT].startswith("too short")
    assert reasons[GARBAGE].startswith("does not decode")
    assert reasons[SILENT].startswith("silent")
    assert reasons[MISSING] == "no such file"
    assert set(store.licenses) == {"CC BY-NC-SA 3.0"}
    assert store.artists[store.track_ids.index("2")] == "artist 0"
    assert store.artists.count("Artist 1") == 2
    assert store.albums.count("Album of 1") == 2
    assert store.splits.count("val") == 16
    assert store.paths[0] == str(root / "fma_small/000/000002.mp3")


def test_known_bad_clips_are_told_apart(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def prepare(*arguments: str) -> str:
        data = ("data=fma_small", f"data.root={root}", "data.duration=2.5", *TINY)
        hydra_app.run("prepare", "prepare", [*data, *arguments, f"outputs={tmp_path}"])
        return " ".join(capsys.readouterr().out.split())

    printed = prepare()
    assert "4 tracks rejected, 1 of them not known to be bad" in printed
    assert f"000{MISSING}.mp3: no such file" in printed
    printed = prepare(f"+data.known_bad.{MISSING}='not in the archive'")
    assert "4 tracks rejected, all known to be bad" in printed


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A data set of three rows in the table and one clip of none of them."""
    (tmp_path / "fma_metadata").mkdir()
    for subset in ("fma_small", "fma_medium"):
        (tmp_path / subset / "000").mkdir(parents=True)
        (tmp_path / subset / "000/000009.mp3").write_bytes(b"music")
    rows = [row(2, "Rock", 1, "training"), row(5, "Pop", 2, "validation")]
    rows.append(row(7, "Jazz", 3, "test", "medium"))
    (tmp_path / "fma_metadata/tracks.csv").write_text(table(rows), newline="")
    return tmp_path


def test_the_three_line_header_and_long_biographies_are_read(folder: Path) -> None:
    assert len(BIOGRAPHY) > 131_072  # the longest field that csv allows by default
    dataset = FMA(folder)
    assert [(track.id, track.genre, track.split) for track in dataset.tracks()] == [
        ("2", "Rock", "train"),
        ("5", "Pop", "val"),
    ]
    assert dataset.genres() == ["Pop", "Rock"]
    assert dataset.name == "fma_small"


def test_medium_holds_small(folder: Path) -> None:
    tracks = FMA(folder, "medium").tracks()
    assert [(track.id, track.split) for track in tracks] == [
        ("2", "train"),
        ("5", "val"),
        ("7", "test"),
    ]
    assert tracks[0].path == str(folder / "fma_medium/000/000002.mp3")
    assert FMA(folder, "medium", rename={"Jazz": "Rock"}).genres() == ["Pop", "Rock"]


def test_bad_input_is_told(folder: Path) -> None:
    with pytest.raises(InputError, match="no Polka; it has Pop, Rock"):
        FMA(folder, genres=["Polka"]).tracks()
    with pytest.raises(InputError, match=r"data\.genres=Rock: a list is needed: \[Rock\]"):
        FMA(folder, genres="Rock")
    with pytest.raises(InputError, match="choose one of small, medium, large, full"):
        FMA(folder, subset="huge")
    whole = (folder / "fma_metadata/tracks.csv").read_text()
    (folder / "fma_metadata/tracks.csv").write_text(whole.replace("genre_top", "genre"))
    with pytest.raises(InputError, match=r"no column \(track, genre_top\)"):
        FMA(folder).tracks()
    (folder / "fma_metadata/tracks.csv").write_text("track_id,genre\n2,Rock\n")
    with pytest.raises(InputError, match="its three header lines"):
        FMA(folder).tracks()
    (folder / "fma_small/000/000009.mp3").unlink()
    with pytest.raises(InputError, match="mp3 is missing; download it: genreclf download"):
        FMA(folder).tracks()
    (folder / "fma_metadata/tracks.csv").unlink()
    with pytest.raises(InputError, match="genreclf download data=fma_small"):
        FMA(folder).tracks()


def write_table(folder: Path, rows: list[list[str]]) -> None:
    (folder / "fma_metadata/tracks.csv").write_text(table(rows), newline="")


@pytest.mark.parametrize("subset", ["large", "full"])
def test_large_and_full_skip_tracks_without_a_top_genre(
    folder: Path, subset: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    rows = [row(2, "Rock", 1, "training"), row(5, "Pop", 2, "validation", "medium")]
    rows += [row(9, "", 3, "test", "large"), row(10, "Jazz", 3, "test", "large")]
    write_table(folder, rows)
    (folder / f"fma_{subset}/000").mkdir(parents=True)
    (folder / f"fma_{subset}/000/000010.mp3").write_bytes(b"music")
    dataset = FMA(folder, subset)
    assert [track.id for track in dataset.tracks()] == ["2", "5", "10"]
    assert dataset.tracks()[2].path == str(folder / f"fma_{subset}/000/000010.mp3")
    assert f"fma_{subset}: 1 of 4 tracks skipped: no top genre" in caplog.text


def test_a_small_track_without_a_genre_is_a_damage(folder: Path) -> None:
    write_table(folder, [row(2, "Rock", 1, "training"), row(5, "", 2, "training")])
    with pytest.raises(InputError, match="1 tracks have no genre_top, such as 5; delete"):
        FMA(folder).tracks()


def test_a_track_that_is_listed_twice_is_a_damage_f10b(folder: Path) -> None:
    """F10b: a row that is there twice would be in training and in the test."""
    one = row(2, "Rock", 1, "training")
    write_table(folder, [one, row(5, "Pop", 2, "test"), one])
    with pytest.raises(InputError, match="lines 4 and 8 are both track 2; delete"):
        FMA(folder).tracks()


def test_the_table_is_read_once_in_each_process_a16(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A16: each run of a sweep read the 250 MB of tracks.csv again."""
    rows = [row(n, "Rock", n, "training") for n in range(1, 300)]
    write_table(folder, rows)
    opened: list[str] = []
    open_path = Path.open

    def count(path: Path, *arguments: Any, **settings: Any) -> Any:
        opened.append(path.name)
        return open_path(path, *arguments, **settings)

    monkeypatch.setattr(Path, "open", count)
    for _ in range(3):
        dataset = FMA(folder)
        assert len(dataset.tracks()) == 299
        assert dataset.genres() == ["Rock"]
    assert opened == ["tracks.csv"]
    write_table(folder, rows[:-1])
    opened.clear()
    assert len(FMA(folder).tracks()) == 298  # a table that changed is read again
    assert opened == ["tracks.csv"]


def test_artists_have_fmas_own_numbers_a12(folder: Path) -> None:
    """A12: FMA numbers its artists, so names need not be compared."""
    assert [(track.artist, track.artist_id) for track in FMA(folder).tracks()] == [
        ("Artist 1", "1"),
        ("Artist 2", "2"),
    ]


@pytest.mark.parametrize(
    ("subset", "sha1", "count"),
    [  # SHA-1 from the README of github.com/mdeff/fma
        ("small", "ade154f733639d52e35e32f5593efe5be76c6d70", 8_000),
        ("medium", "c67b69ea232021025fca9231fc1c7c1a063ab50b", 25_000),
        ("large", "497109f4dd721066b5ce5e5f250ec604dc78939e", 49_598),
        ("full", "0f0ace23fbe9ba30ecb7e95f763e435ea802b8ab", 49_598),
    ],
)
def test_every_subset_can_be_downloaded(subset: str, sha1: str, count: int) -> None:
    with hydra.initialize_config_module("genreclf.conf", version_base="1.3"):
        config = hydra.compose("download", [f"data=fma_{subset}", "outputs=out"])
        dataset = instantiate(config.data)
    assert (dataset.name, dataset.expected, dataset.duration) == (f"fma_{subset}", count, 30)
    assert dataset.root == Path("out/fma")
    metadata, audio = dataset.archives
    assert metadata["url"].endswith("/fma_metadata.zip")
    assert audio["url"].endswith(f"/fma_{subset}.zip")
    assert audio["sha1"] == sha1
