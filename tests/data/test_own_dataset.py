"""A dataset that a user writes: a class with what `genreclf.protocols.Dataset` names, no more."""

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from genreclf.audio.features import Mel, Precomputed
from genreclf.data import Store, Track
from genreclf.data.build_store import build_store
from genreclf.data.datasets import Folder
from genreclf.errors import InputError

MEL = Mel(duration=2.5, n_mels=16, n_fft=1024, hop_length=1024)


class Mine:
    """Clips of a folder, as a user would list them."""

    name = "mine"

    def __init__(self, root: str, duration: float = 2.5) -> None:
        self.root, self.duration = Path(root), duration

    def tracks(self) -> list[Track]:
        return [
            Track(
                number,  # pyright: ignore[reportArgumentType]
                path.parent.name,
                artist=path.name[:2],
                path=path,  # pyright: ignore[reportArgumentType]
            )
            for number, path in enumerate(sorted(self.root.glob("*/*.mp3")))
        ]

    def genres(self) -> list[str]:
        return sorted({track.genre for track in self.tracks()})


def test_tracks_are_easy_to_make() -> None:
    """Numbers as ids, paths of pathlib, None for unknown, and usual names of parts are taken."""
    track = Track(np.int64(7), "rock", None, path=Path("a.mp3"), split="Training")  # pyright: ignore
    assert track == Track("7", "rock", path="a.mp3", split="train")
    assert replace(track, id="8").id == "8"


@pytest.mark.slow
def test_your_own_dataset_is_prepared_trained_and_split_by_artist(
    command: Callable[..., str], music: Path, tmp_path: Path
) -> None:
    settings = {"_target_": "test_own_dataset.Mine", "root": str(music)}  # no duration: its own
    (tmp_path / "options" / "data").mkdir(parents=True)
    (tmp_path / "options" / "data" / "mine.yaml").write_text(yaml.safe_dump(settings))
    options = ["--config-dir", str(tmp_path / "options"), "data=mine"]
    options += ["features.n_mels=16", "features.n_fft=1024", "features.hop_length=1024"]
    store = command("prepare", *options)
    assert Path(store).name.startswith("mine-mel-")
    assert Store(store).source.features["duration"] == 2.5
    settings = ["trainer.max_epochs=1", "+trainer.limit_train_batches=1", "report=false"]
    first = command("train", *options, *settings, "split=artist", "model=efficient_cnn")
    result = json.loads(Path(first).read_text())
    assert sum(map(len, result["data"]["split"].values())) > 0
    assert result["data"]["leakage"]["train-test"]["artists"] == 0
    assert command("train", *options, *settings, "split=artist", "model=efficient_cnn") == first


class Listed:
    """A dataset of given tracks and genres."""

    name, duration = "listed", 2.5

    def __init__(self, tracks: list[Any], genres: list[Any] | None = None) -> None:
        self._tracks = tracks
        self._genres = sorted({t.genre for t in tracks}) if genres is None else genres

    def tracks(self) -> list[Any]:
        return self._tracks

    def genres(self) -> list[Any]:
        return self._genres


A, B = Track("a", "rock", path="a.mp3"), Track("b", "folk", path="b.mp3")
BOTH = ["folk", "rock"]


@pytest.mark.parametrize(
    ("tracks", "genres", "message"),
    [
        ([], [], "data=listed has no tracks"),
        ([A, A, B], BOTH, r"data=listed: 1 track ids occur more than once \(a\)"),
        ([A, B], ["rock", "folk"], r"genres\(\) must be names, sorted, .*; it gives rock, folk"),
        ([A, B], ["folk", "folk", "rock"], r"genres\(\) must be names, sorted, each once"),
        ([A, B], [0, 1], r"genres\(\) must be names"),
        ([A, B], ["rock"], r"genres\(\) lacks folk, which tracks have"),
        ([A, replace(B, genre="")], BOTH, r"track 2 \(id 'b'\): the genre is empty"),
        ([A, replace(B, genre=3)], BOTH, r"track 2 \(id 'b'\): genre=3 is not a text"),
        ([A, replace(B, genre=math.nan)], BOTH, "genre=nan is not a text"),
        ([A, replace(B, genre="nan")], BOTH, "the genre is 'nan', a missing value"),
        ([A, replace(B, id="")], BOTH, "track 2 .*: the id is empty"),
        ([A, replace(B, artist=math.nan)], BOTH, "artist=nan is not a text"),
        ([A, replace(B, path="")], BOTH, "track 2 .*: no path to its audio"),
        ([A, ("b", "folk", "b.mp3")], BOTH, "tuple has no id; use genreclf.data.Track"),
    ],
)
def test_a_faulty_dataset_is_refused_in_one_line_before_decoding(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    tracks: list[Any],
    genres: list[Any],
    message: str,
) -> None:
    """D8 and the empty dataset: nothing is decoded, and no IndexError is shown."""
    monkeypatch.setattr("genreclf.data.build_store.extract_rows", pytest.fail)
    with pytest.raises(InputError, match=message) as error:
        build_store(Listed(tracks, genres), MEL, outputs=tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("attribute", "value", "message"),
    [
        ("name", "a/b", "name 'a/b' must be a text without slashes"),
        ("name", None, "name None must be"),
        ("duration", 0, "duration=0; seconds above 0"),
        ("duration", "30", "duration='30'"),
    ],
)
def test_name_and_duration_are_checked(
    tmp_path: Path, attribute: str, value: Any, message: str
) -> None:
    dataset = Listed([A, B])
    setattr(dataset, attribute, value)
    with pytest.raises(InputError, match=message):
        build_store(dataset, MEL, outputs=tmp_path)


def test_tracks_of_a_finished_store_are_listed_once_a16(
    music: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A16: listing the tracks may mean reading the tags of 25,000 files."""
    tracks = Folder(music, 2.5, genres=["Folk", "Rock"]).tracks()[10:14]
    build_store(Listed(tracks), MEL, outputs=tmp_path, workers=1)
    calls: list[str] = []
    dataset = Listed(tracks)
    monkeypatch.setattr(dataset, "tracks", lambda: calls.append("tracks") or tracks)
    monkeypatch.setattr(dataset, "genres", lambda: calls.append("genres") or ["Folk", "Rock"])
    build_store(dataset, MEL, outputs=tmp_path)
    assert calls == ["tracks"]


def test_a_dataset_in_another_order_is_told(
    music: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Tracks that come in another order each time would make another store and run each time."""
    tracks = Folder(music, 2.5, genres=["Folk", "Rock"]).tracks()[10:14]
    build_store(Listed(tracks), MEL, outputs=tmp_path, workers=1)
    assert "order" not in caplog.text
    build_store(Listed(tracks[::-1]), MEL, outputs=tmp_path, workers=1)
    assert "the dataset lists the tracks of listed-mel-" in caplog.text
    assert "in another order" in caplog.text


class Rows(Listed):
    """A dataset that brings features along."""

    silence = None

    def __init__(self, tracks: list[Track], rows: list[Any]) -> None:
        super().__init__(tracks)
        self._rows = rows

    def rows(self) -> Iterator[Any]:
        return iter(self._rows)

    def scaling(self) -> tuple[float, float]:
        return 1.0, 0.0

    def identity(self) -> dict[str, Any]:
        return {"count": len(self._rows)}


ROW = np.arange(6.0).reshape(2, 3)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], r"rows\(\) gives none for 2 tracks"),
        ([ROW], r"rows\(\) gives 1 for 2 tracks"),
        ([ROW] * 3, r"rows\(\) gives more than 2 tracks"),
        ([ROW[0]] * 2, r"arrays of shape \(3,\)"),
        ([ROW.astype(str)] * 2, "dtype <U"),
        ([ROW, ROW[:, :2]], r"track b: features of shape \(2, 2\)"),
    ],
)
def test_rows_that_do_not_fit_the_tracks_are_refused(
    tmp_path: Path, rows: list[Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        build_store(Rows([A, B], rows), Precomputed(), outputs=tmp_path)


def test_your_own_rows_become_a_store(tmp_path: Path) -> None:
    store = build_store(Rows([A, B], [ROW, ROW - 7]), Precomputed(), outputs=tmp_path)
    assert store.track_ids == ["a", "b"]
    np.testing.assert_array_equal(store.read([1])[0], ROW - 7)
    assert store.scaling.silence == (-7,)
