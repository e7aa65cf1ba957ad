"""The same recording twice, encoded differently, is found (B24)."""

import contextlib
import io
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
from encode import make_song, run_ffmpeg

from genreclf.audio.decode import read_audio, resample
from genreclf.audio.features import Mel
from genreclf.data import near_duplicates
from genreclf.data.audit import audit_split, list_near_duplicates
from genreclf.data.datasets import Track
from genreclf.data.near_duplicates import find_near_duplicates
from genreclf.data.recordings import Changes, measure_agreement
from genreclf.data.store import Scaling, Store

RATE = 22050
MEL = Mel(duration=10.0)


def encode(samples: np.ndarray, codec: str, kind: str, bit_rate: int) -> np.ndarray:
    """Encode and decode; the result starts some milliseconds later or earlier."""
    file = io.BytesIO()
    with av.open(file, "w", format=kind) as container:
        stream = container.add_stream(codec, rate=RATE)
        stream.bit_rate = bit_rate  # pyright: ignore
        frame = av.AudioFrame.from_ndarray(samples[None], format="fltp", layout="mono")
        frame.sample_rate = RATE
        resampler = av.AudioResampler(
            stream.format.name,  # pyright: ignore
            "mono",
            RATE,
            frame_size=stream.frame_size or None,  # pyright: ignore
        )
        for part in [*resampler.resample(frame), *resampler.resample(None)]:
            container.mux(stream.encode(part))  # pyright: ignore
        container.mux(stream.encode(None))  # pyright: ignore
    file.seek(0)
    with av.open(file, "r") as container:
        to_float = av.AudioResampler("fltp", "mono", RATE)
        parts = [
            part.to_ndarray()
            for frame in container.decode(audio=0)
            for part in to_float.resample(frame)
        ]
    return np.concatenate(parts, axis=1)[0]


def encode_vorbis(samples: np.ndarray) -> np.ndarray:
    """Encode as OGG Vorbis and decode."""
    file = io.BytesIO()
    soundfile.write(file, samples, RATE, format="OGG", subtype="VORBIS")
    file.seek(0)
    return soundfile.read(file, dtype="float32")[0]


def limit_band(samples: np.ndarray) -> np.ndarray:
    """Resample to 8 kHz and back, as a file of that rate is."""
    return resample(*resample(samples, RATE, 8000), RATE)[0]


@pytest.fixture
def store(make_store: Callable[..., Store]) -> Store:
    """Six songs, and copies: MP3 at 128 and 320 kbit/s, Vorbis, louder, cut by 1.3 s, at 8 kHz."""
    songs = [make_song(seed) for seed in range(6)]
    copies = {
        "0 mp3 128": encode(songs[0], "libmp3lame", "mp3", 128_000),
        "0 mp3 320": encode(songs[0], "libmp3lame", "mp3", 160_000),  # the most at this rate
        "1 ogg": encode_vorbis(songs[1]),
        "1 louder": 3 * songs[1],
        "1 cut": songs[1][int(1.3 * RATE) :],
        "2 at 8 kHz": limit_band(songs[2]),
        "3 mp3 at 8 kHz": limit_band(encode(songs[3], "libmp3lame", "mp3", 32_000)),
    }
    tracks = [Track(f"{n}", "g") for n in range(6)] + [Track(name, "g") for name in copies]
    rows = np.stack([MEL(samples, RATE) for samples in [*songs, *copies.values()]])
    return make_store(tracks, rows, Scaling(silence=(-80.0,)))


def test_copies_in_other_encodings_are_found_and_nothing_else_b24(store: Store) -> None:
    """B24: copies at 128 and 320 kbit/s, as OGG, louder, cut or at 8 kHz are near-duplicates."""
    pairs = {(pair.first, pair.second) for pair in find_near_duplicates(store)}
    groups = (0, 6, 7), (1, 8, 9, 10), (2, 11), (3, 12)
    wanted = {(a, b) for rows in groups for a in rows for b in rows if a < b}
    wanted = {pair for pair in wanted if store.row_sha1[pair[0]] != store.row_sha1[pair[1]]}
    assert pairs == wanted


def test_the_audit_lists_them_and_they_can_be_allowed_b24(store: Store) -> None:
    """B24: near-duplicates in two parts are reported with their names, but stop no run."""
    split = {"train": np.arange(6), "val": np.array([6, 7]), "test": np.array([8, 9, 10])}
    near = find_near_duplicates(store)
    report = audit_split(store, split, (), near)
    assert sorted(report["train-val"]["near_duplicates"]) == [
        ["0", "0 mp3 128"],
        ["0", "0 mp3 320"],
    ]
    assert ["1", "1 ogg"] in report["train-test"]["near_duplicates"]
    assert report["val-test"]["near_duplicates"] == []
    assert report["near_duplicates"]
    lines = list_near_duplicates(report)
    assert "within one part" in lines[0]
    assert "one in train and one in val, are probably the same recording" in lines[1]
    assert "allow_identical" in lines[1]
    assert len(list_near_duplicates(report, "all")) == 1
    assert len(list_near_duplicates(report, ["0", "1"])) == 1


def test_the_result_is_kept_next_to_the_store(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = find_near_duplicates(store)
    monkeypatch.setattr(Store, "read_features", None)
    assert find_near_duplicates(store) == found
    monkeypatch.undo()
    kept = store.path.with_suffix(".near.json")
    for damaged in ("", "[]", '{"version": 1}', kept.read_text().replace("10", "10000")):
        kept.write_text(damaged)
        assert find_near_duplicates(store) == found


def test_features_without_time_have_none(make_store: Callable[..., Store]) -> None:
    rows = np.zeros((4, 200, 1), np.float32)
    rows[:, 0, 0] = range(4)
    assert find_near_duplicates(make_store([Track(f"{n}", "g") for n in range(4)], rows)) == []


def test_more_rows_than_can_be_compared_one_by_one(make_store: Callable[..., Store]) -> None:
    """Candidates are chosen by the correlations between bands that both have."""
    random = np.random.default_rng(0)
    mixing = random.standard_normal((130, 16, 16))
    rows = np.stack([mix @ random.standard_normal((16, 200)) for mix in mixing])
    narrow = np.roll(rows[4:7], 5, axis=2)
    narrow[:, 10:] = -80  # as of a low sample rate: bands that are silent
    rows = np.concatenate([rows, np.roll(rows[5:8], 9, axis=2), narrow]).astype(np.float32)
    store = make_store([Track(f"{n}", "g") for n in range(len(rows))], rows)
    pairs = {(pair.first, pair.second) for pair in find_near_duplicates(store)}
    shifted = {(5, 130), (6, 131), (7, 132)}
    assert pairs == {*shifted, (4, 133), (5, 134), (6, 135), (130, 134), (131, 135)}


def test_clips_that_are_mostly_silent_are_not_compared(make_store: Callable[..., Store]) -> None:
    """Few steps say nothing of a recording, and were an error."""
    random = np.random.default_rng(0)
    short = Changes(np.ones((8, 5), np.float32), 8)
    assert measure_agreement(short, short) == 0
    rows = np.full((4, 16, 100), -80, np.float32)
    rows[:2, :, :6] = random.standard_normal((2, 16, 6))
    rows[2:, :, :60] = random.standard_normal((16, 60))
    rows[3] += 1
    store = make_store([Track(f"{n}", "g") for n in range(4)], rows)
    assert [pair[:2] for pair in find_near_duplicates(store)] == [(2, 3)]


def test_a_failure_of_the_check_is_one_warning(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It only advises, so it costs no run; nothing is kept of it."""
    with monkeypatch.context() as patched:
        patched.setattr(near_duplicates, "measure_agreement", lambda *_: 1 / 0)
        assert find_near_duplicates(store) == []
    assert [record.getMessage() for record in caplog.records if record.levelno > logging.INFO] == [
        "no search for the same recording twice (division by zero)"
    ]
    assert find_near_duplicates(store) != []


def test_each_row_is_read_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    read, compute = [], near_duplicates.compute_changes
    monkeypatch.setattr(
        near_duplicates, "compute_changes", lambda row: [read.append(0), compute(row)][1]
    )
    assert find_near_duplicates(store)
    assert len(read) == len(store)


def test_waveforms_are_searched_however_many_there_are(
    make_store: Callable[..., Store],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Stores of more than 200 were left out without a word; a long search says what it does."""
    waveforms = np.stack([make_song(seed)[None] for seed in (0, 0, 1)])
    waveforms[1] *= 0.5
    store = make_store([Track(f"{n}", "g") for n in range(3)], waveforms)
    monkeypatch.setattr(near_duplicates, "MANY", 2)
    with caplog.at_level(logging.INFO):
        assert [pair[:2] for pair in find_near_duplicates(store)] == [(0, 1)]
    assert "looking for the same recording twice among 3 tracks" in caplog.text


def test_a_copy_of_any_length_has_the_same_scale_of_time(make_store: Callable[..., Store]) -> None:
    """B24: a copy cut by 2 to 4.5 of 10 s is one; its steps were of another length."""
    songs = [make_song(seed) for seed in range(4)]
    rows = [Mel(duration=10.0, hop_length=128)(song, RATE) for song in songs]
    for seconds in (2.0, 3.1, 4.5):
        cut = songs[0][int(seconds * RATE) : 10 * RATE]
        rows.append(Mel(duration=10.0, hop_length=128)(cut, RATE))
    tracks = [Track(f"{n}", "g") for n in range(len(rows))]
    pairs = {pair[:2] for pair in find_near_duplicates(make_store(tracks, np.stack(rows)))}
    assert {(0, 4), (0, 5), (0, 6)} <= pairs
    assert all(first in (0, 4, 5) for first, _ in pairs)


def test_jobs_that_start_together_compare_once(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who has waited for the lock takes what the other has found."""
    found = find_near_duplicates(store)
    kept = store.path.with_suffix(".near.json")
    content = kept.read_text()
    kept.unlink()
    awaited = []

    @contextlib.contextmanager
    def wait(path: Path, _: str) -> Iterator[None]:
        awaited.append(path.name)
        kept.write_text(content)
        yield

    monkeypatch.setattr(near_duplicates, "hold_lock", wait)
    monkeypatch.setattr(Store, "read_features", None)
    assert find_near_duplicates(store) == found
    assert awaited == [f".{kept.name}.lock"]


def test_a_store_in_a_read_only_folder_is_compared(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError("read-only")

    found = find_near_duplicates(store)
    store.path.with_suffix(".near.json").unlink()
    monkeypatch.setattr(near_duplicates, "hold_lock", refuse)
    monkeypatch.setattr(near_duplicates, "write_json", refuse)
    monkeypatch.setattr(near_duplicates, "locate_cache", lambda: store.path / "no folder")
    assert find_near_duplicates(store) == found
    assert not [record for record in caplog.records if record.levelno > logging.INFO]


def test_the_result_for_a_read_only_folder_is_kept_in_the_cache(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise each run would compare all rows again."""
    monkeypatch.setenv("GENRECLF_CACHE", str(tmp_path / "cache"))
    write, lock, locked = near_duplicates.write_json, near_duplicates.hold_lock, []

    def refuse_here(path: Path, value: object) -> None:
        if path.parent == store.path.parent:
            raise PermissionError("read-only")
        write(path, value)

    @contextlib.contextmanager
    def lock_elsewhere(path: Path, awaited: str) -> Iterator[None]:
        if path.parent == store.path.parent:
            raise PermissionError("read-only")
        with lock(path, awaited):
            locked.append(path)
            yield

    monkeypatch.setattr(near_duplicates, "write_json", refuse_here)
    monkeypatch.setattr(near_duplicates, "hold_lock", lock_elsewhere)
    found = find_near_duplicates(store)
    assert found
    (kept,) = (tmp_path / "cache" / "near_duplicates").glob("*.json")
    assert [path.parent for path in locked] == [kept.parent]
    monkeypatch.setattr(Store, "read_features", None)
    assert find_near_duplicates(store) == found


@pytest.mark.slow
def test_songs_of_one_artist_are_not_near_duplicates_b24(
    real_music: Path, tmp_path: Path, make_store: Callable[..., Store]
) -> None:
    """B24: of 180 real clips, only pairs that share a recording are listed: two, and copies.

    The copies are of telephone quality, at 8 kHz and 16 kbit/s.
    """
    mel = Mel()
    paths = sorted(real_music.glob("*/*.mp3"))
    copied = [path for path in paths if path.stem.endswith("0")]
    copies = [tmp_path / f"{path.parent.name}-{path.stem}.mp3" for path in copied]
    for path, copy in zip(copied, copies, strict=True):
        run_ffmpeg("-i", path, "-map", "0:a:0", "-ar", 8000, "-ac", 1, "-b:a", "16k", copy)
    rows = [mel(*read_audio(path, mel.sample_rate, mel.duration)) for path in [*copies, *paths]]
    names = [f"{path.parent.name}/{path.stem}" for path in paths]
    tracks = [Track(name, "g") for name in [*(copy.stem for copy in copies), *names]]
    store = make_store(tracks, np.stack(rows), Scaling(silence=(-80.0,)))
    pairs = {
        (store.track_ids[pair.first], store.track_ids[pair.second])
        for pair in find_near_duplicates(store)
    }
    own = {("rock/072", "rock/075"), ("classical/054", "classical/080")}
    found = {(copy.stem, copy.stem.replace("-", "/")) for copy in copies} & pairs
    assert pairs == own | found | {("classical-080", "classical/054")}
    assert len(found) >= len(copies) - 1
