"""The tracks of a library that sound most like a file, and copies of its recording."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import soundfile
from encode import make_song, run_ffmpeg

from genreclf.audio import workers
from genreclf.audio.decode import resample
from genreclf.audio.features import Mel
from genreclf.audio.pool import map_in_order
from genreclf.audio.sound_files import DecodeError
from genreclf.audio.workers import LEVELS, extract, extract_query
from genreclf.data import similarity
from genreclf.data.library import TEXTS, Library
from genreclf.data.recordings import Changes
from genreclf.data.similarity import Index, Neighbour, fit_standard, search_library

RATE = 22050


def make_library(rows: np.ndarray, paths: list[str] | None = None, block: int = 3) -> Library:
    texts = {name: [""] * len(rows) for name in TEXTS}
    texts["path"] = paths or texts["path"]
    blocks = range(0, len(rows), block)
    return Library(
        "made",
        texts,
        np.zeros(len(rows), np.float32),
        rows.shape[1],
        {},
        {},
        lambda: (rows[start : start + block] for start in blocks),
    )


@pytest.fixture(scope="module")
def songs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("songs")
    paths = [folder / f"{seed}.wav" for seed in range(6)]
    for seed, path in enumerate(paths):
        soundfile.write(path, make_song(seed), RATE)
    return paths


def test_embeddings_are_standardised_by_the_library_block_by_block(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows = np.random.default_rng(0).normal(5, [0.1, 1, 2, 3], (40, 4)).astype(np.float32)
    standard = fit_standard(make_library(rows))
    deviation = rows.std(axis=0)
    assert standard.mean == pytest.approx(rows.mean(axis=0), rel=1e-5)
    assert standard.deviation == pytest.approx(deviation + 0.3 * deviation.mean(), rel=1e-5)
    values = (rows - standard.mean) / standard.deviation
    values /= np.linalg.norm(values, axis=1, keepdims=True)
    for memory in (1e9, 0):
        monkeypatch.setattr(similarity, "MEMORY", memory)
        found = Index(make_library(rows)).compute_similarities(rows[:2])
        assert found == pytest.approx(values @ values[:2].T, abs=1e-5)


def test_a_library_of_few_tracks_is_compared_by_plain_cosines() -> None:
    """The mean of one track is the track: nothing would be left of it."""
    rows = np.array([[1.0, 2.0], [2.0, 1.0]], np.float32)
    for library in (make_library(rows), make_library(rows[:1])):
        found = Index(library).compute_similarities(rows[:1])
        assert found[:, 0] == pytest.approx([1, 0.8][: len(library)])


def test_values_that_never_change_do_no_harm() -> None:
    rows = np.zeros((20, 4), np.float32)
    library = make_library(rows)
    assert np.isfinite(Index(library).compute_similarities(rows[:1])).all()


class Bands:
    """An embedding that hears how loud a file is, and whether there is anything above 4 kHz."""

    name = "bands"
    version = 1
    sample_rate, duration, shape = RATE, 12.0, (4, 1)

    def __call__(self, waveform: np.ndarray, sample_rate: int) -> np.ndarray:
        power = np.abs(np.fft.rfft(waveform)) ** 2
        low, high = np.split(power, [len(power) * 8000 // sample_rate])
        values = np.log10([1e-9 + low.mean(), 1e-9 + high.mean(), low.max(), low.std()])
        return values.astype(np.float32)[:, None]


class Batched(Bands):
    """The same, computed by the process that wants it."""

    batched = True

    def compute_batch(self, clips: Sequence[tuple[np.ndarray, int]]) -> list[np.ndarray]:
        return [self(*clip) for clip in clips]


def run(path: str, features: Any, compared: Any) -> Any:
    """Return what `extract_query` gives, and count its steps."""
    steps, count = extract_query(path, features, compared), 0
    while True:
        try:
            next(steps)
            count += 1
        except StopIteration as end:
            return end.value, count


def test_variants_are_those_of_a_louder_quieter_or_narrow_file(
    songs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the file is decoded once, with what is compared."""
    decoded, read = [], workers.decode.read_audio
    features: Any = Bands()
    mel = Mel(sample_rate=16000, duration=10.0)
    quiet, narrow = tmp_path / "quiet.wav", tmp_path / "narrow.wav"
    soundfile.write(quiet, 0.1 * make_song(0), RATE, subtype="FLOAT")
    soundfile.write(narrow, resample(make_song(0), RATE, 8000)[0], 8000, subtype="FLOAT")
    expected = [extract(str(path), features) for path in (songs[0], quiet, narrow)]
    changes = extract(str(songs[0]), mel)
    monkeypatch.setattr(workers.decode, "read_audio", lambda *a: [decoded.append(a), read(*a)][1])
    (rows, compared), count = run(str(songs[0]), features, mel)
    assert len(decoded) == 1
    assert count == 1 + len(LEVELS) + 1  # which shows that it is not stalled
    np.testing.assert_array_equal(compared, changes[0])
    for place, row in zip((0, LEVELS.index(-20), -1), expected, strict=True):
        assert rows[place] == pytest.approx(row[0], abs=2e-2)


def test_a_file_that_begins_with_silence_has_no_embedding_of_it(tmp_path: Path) -> None:
    """Although what is compared with others is longer."""
    path = tmp_path / "late.wav"
    soundfile.write(path, np.append(np.zeros(14 * RATE), make_song(0)), RATE)
    with pytest.raises(DecodeError, match="silent"):
        run(str(path), Bands(), Mel())


def embed(paths: Sequence[str]) -> np.ndarray:
    features: Any = Bands()
    rows: Any = map_in_order(partial(extract, features=features), paths, 2)
    return np.stack([row[0][:, 0] for row in rows])


@pytest.mark.parametrize("features", [Bands(), Batched()])
def test_copies_of_a_recording_are_found_whatever_their_embedding(
    songs: list[Path], tmp_path: Path, features: Bands
) -> None:
    """Copies that are re-encoded, cut, quieter or at 8 kHz come first; not the file itself."""
    copies = {
        "opus": ("-c:a", "libopus", "-b:a", "48k", "-ar", "48000"),
        "mp3": ("-ss", "3.1", "-b:a", "96k"),
        "ogg": ("-af", "volume=-20dB"),
        "aiff": ("-ar", "8000"),
    }
    paths = [str(path) for path in songs]
    for suffix, arguments in copies.items():
        paths.append(str(tmp_path / f"copy.{suffix}"))
        run_ffmpeg("-i", songs[2], *arguments, paths[-1])
    bad = tmp_path / "bad.mp3"
    bad.write_text("<html>")
    asked = [paths[2], str(bad), paths[-1], paths[2]]
    first, failed, narrow, again = search_library(
        asked, make_library(embed(paths), paths), features, 6, 2
    )
    assert isinstance(failed, DecodeError)
    assert isinstance(first, list)
    assert isinstance(narrow, list)
    assert again == first
    assert {each.row for each in first[:4]} == {6, 7, 8, 9}
    assert {each.row for each in narrow[:4]} == {2, 6, 7, 8}
    for found, own in ((first, 2), (narrow, 9)):
        assert [each.same_recording for each in found] == [True] * 4 + [False] * 2
        assert own not in {each.row for each in found}
        order = [each.similarity for each in found]
        assert order[:4] == sorted(order[:4], reverse=True)
        assert order[4:] == sorted(order[4:], reverse=True)


class Given(NamedTuple):
    """Stands for the comparison of audio: none is the same; lists which were compared."""

    compared: list[str]

    def compare(self, _: Changes, paths: Sequence[str]) -> list[float | None]:
        self.compared[:] = paths
        return [0.0] * len(paths)


def find(similarities: np.ndarray, width: int = 32) -> tuple[list[Neighbour], set[str]]:
    changes = Changes(np.zeros((32, 40), np.float32), width)
    given: Any = Given([])
    paths = [f"/none/{row}" for row in range(len(similarities))]
    found = similarity._find_neighbours("/none/file", changes, similarities, paths, 3, given)
    return found, {*given.compared}


def test_tracks_that_are_near_to_any_variant_are_compared() -> None:
    """An encoder may hear how loud a track is, or its bandwidth: a copy need not be near."""
    similarities = np.zeros((200, 3), np.float32)
    similarities[:30, 0] = np.linspace(0.9, 0.5, 30)
    similarities[100, 1] = similarities[120, 2] = 0.9
    found, compared = find(similarities)
    assert [each.row for each in found] == [0, 1, 2]
    assert {"/none/14", "/none/100", "/none/120"} <= compared
    assert len(compared) < 30
    _, more = find(similarities, width=22)  # at 8 kHz, whose embedding is another
    assert {f"/none/{row}" for row in range(30)} < more


def test_the_library_is_read_once_and_one_pool_serves_all_files(
    songs: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each file had a pass over the library, and a pool, and was decoded again."""
    paths, reads, pools, tracks = [*map(str, songs)], [], [], []
    rows = np.random.default_rng(0).normal(size=(len(paths), 4)).astype(np.float32)
    library = make_library(rows, paths)
    counted = replace(library, read_blocks=lambda: reads.append(1) or library.read_blocks())
    queue = similarity.WorkQueue

    class Counting(queue):
        def __init__(self, *given: Any) -> None:
            pools.append(1)
            super().__init__(*given)

        def get(self, item: Any) -> Any:
            tracks.append(item)
            return super().get(item)

    monkeypatch.setattr(similarity, "WorkQueue", Counting)
    found = [*search_library(paths[:3], counted, Bands(), 6, 2)]
    assert (len(reads), len(pools)) == (1, 1)
    assert len(tracks) == len({*tracks}) == 3 + len(paths)
    monkeypatch.setattr(similarity, "MEMORY", 0)
    reads.clear()
    assert [*search_library(paths[:3], counted, Bands(), 6, 2)] == found
    assert len(reads) == 1  # for all files: so few tracks are not standardised


def test_files_that_are_gone_cannot_be_compared(songs: list[Path], tmp_path: Path) -> None:
    paths = [str(tmp_path / "gone.wav"), "", str(songs[0]), str(songs[1])]
    library = make_library(np.eye(4, dtype=np.float32), paths)
    asked = [str(songs[1]), str(tmp_path / "gone.wav")]
    found, failed = search_library(asked, library, Bands(), 4, 1)
    assert isinstance(found, list)
    assert {each.row: each.same_recording for each in found} == {0: None, 1: None, 2: False}
    assert isinstance(failed, DecodeError)
