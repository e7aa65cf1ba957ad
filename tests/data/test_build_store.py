import dataclasses
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import mutagen
import numpy as np
import pytest
import soundfile
from conftest import heed_ctrl_c
from encode import make_song

from genreclf.audio import ConcatenatedFeatures, batches, decode
from genreclf.audio.features import Mel, MelFrames, Precomputed
from genreclf.data.build_store import build_store, plan_store, write_store
from genreclf.data.datasets import Folder, Npz, Synthetic
from genreclf.data.store import Store
from genreclf.data.store_writer import StoreWriter
from genreclf.errors import InputError

MEL = Mel(duration=2.5, n_mels=16, n_fft=1024, hop_length=1024)


def test_rows_are_the_features_of_the_files(music: Path, tmp_path: Path) -> None:
    store = build_store(Folder(music, 2.5), MEL, outputs=tmp_path, workers=2)
    assert len(store) == 48
    assert store.shape == MEL.shape
    assert store.classes == ["Ambient", "Dance", "Folk", "Rock"]
    assert store.scaling.silence == (-80,)
    for row in (0, 30):
        expected = MEL(*decode.read_audio(store.paths[row], 22050, 2.5))
        np.testing.assert_allclose(store.read([row])[0], expected, atol=1e-4)


def test_any_number_of_workers_gives_the_same_rows(music: Path, tmp_path: Path) -> None:
    one, two = (
        build_store(Folder(music, 2.5), MEL, outputs=tmp_path / str(n), workers=n) for n in (1, 2)
    )
    assert one.row_sha1 == two.row_sha1


def test_a_finished_store_is_reused(music: Path, tmp_path: Path) -> None:
    first = build_store(Folder(music, 2.5), MEL, outputs=tmp_path)
    before = first.path.stat().st_mtime_ns
    again = build_store(Folder(music, 2.5), MEL, outputs=tmp_path)
    assert (again.path, again.path.stat().st_mtime_ns) == (first.path, before)


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that are decoded, in this process."""
    names: list[str] = []

    def extract_here(function: Any, paths: Iterable[str], workers: int) -> Iterator[Any]:
        for path in paths:
            names.append(Path(path).name)
            yield function(path)

    monkeypatch.setattr(batches, "map_in_order", extract_here)
    return names


def test_a_copied_folder_has_the_same_store(
    music: Path, tmp_path: Path, decoded: list[str]
) -> None:
    first = build_store(Folder(music, 2.5), MEL, outputs=tmp_path)
    assert len(decoded) == 48
    shutil.copytree(music, tmp_path / "copy", copy_function=shutil.copyfile)
    assert build_store(Folder(tmp_path / "copy", 2.5), MEL, outputs=tmp_path).path == first.path
    (tmp_path / "link").symlink_to(tmp_path / "copy")
    spelled = f"{tmp_path}/./link/../link"
    assert build_store(Folder(spelled, 2.5), MEL, outputs=tmp_path).path == first.path
    assert len(decoded) == 48


def test_only_a_file_whose_audio_changed_is_decoded_again(
    music: Path, tmp_path: Path, decoded: list[str]
) -> None:
    root = Path(shutil.copytree(music, tmp_path / "music"))
    first = build_store(Folder(root, 2.5), MEL, outputs=tmp_path)
    decoded.clear()
    shutil.copy(music / "Folk" / "02-02.mp3", root / "Folk" / "01-01.mp3")
    (root / "Folk" / "01-02.mp3").rename(root / "Folk" / "00-00.mp3")
    second = build_store(Folder(root, 2.5), MEL, outputs=tmp_path)
    assert decoded == []  # the audio of both is known
    damaged = bytearray((root / "Rock" / "01-01.mp3").read_bytes())
    damaged[len(damaged) // 2] ^= 255
    (root / "Rock" / "01-01.mp3").write_bytes(damaged)
    third = build_store(Folder(root, 2.5), MEL, outputs=tmp_path)
    assert decoded == ["01-01.mp3"]
    assert len({first.path, second.path, third.path}) == 3
    fresh = build_store(Folder(root, 2.5), MEL, outputs=tmp_path / "fresh")
    assert third.row_sha1 == fresh.row_sha1
    np.testing.assert_array_equal(third.durations, fresh.durations)


def test_a_corrected_tag_decodes_nothing(music: Path, tmp_path: Path, decoded: list[str]) -> None:
    root = Path(shutil.copytree(music, tmp_path / "music"))
    first = build_store(Folder(root, 2.5), MEL, outputs=tmp_path)
    decoded.clear()
    file = mutagen.File(root / "Folk" / "01-01.mp3", easy=True)  # pyright: ignore
    file["artist"] = "Somebody Else"
    file.save()
    second = build_store(Folder(root, 2.5), MEL, outputs=tmp_path)
    assert decoded == []
    assert second.row_sha1 == first.row_sha1
    assert (second.source.audio, second.source.table == first.source.table) == (
        first.source.audio,
        False,
    )
    assert "Somebody Else" in second.artists


@pytest.mark.parametrize("lengths", [(2.5, 2.5), (2.5, 2.0)])
def test_concatenated_features_are_put_together_from_the_stores_of_their_parts(
    music: Path, tmp_path: Path, decoded: list[str], lengths: tuple[float, float]
) -> None:
    dataset = Folder(music, duration=2.5)
    parts = [Mel(duration=lengths[0], n_mels=16), MelFrames(duration=lengths[1], n_mels=20)]
    features = ConcatenatedFeatures(parts, duration=2.5)
    direct = build_store(dataset, features, outputs=tmp_path / "direct")
    for part in parts:
        build_store(dataset, part, outputs=tmp_path)
    decoded.clear()
    joined = build_store(dataset, features, outputs=tmp_path)
    assert decoded == []
    assert joined.source == direct.source
    assert joined.row_sha1 == direct.row_sha1
    assert joined.durations == pytest.approx(direct.durations, abs=1e-4)


def test_parts_that_are_missing_or_shorter_are_decoded(
    music: Path, tmp_path: Path, decoded: list[str]
) -> None:
    """Of clips that are longer than those of each part, no store says how long they are."""
    few, parts = tmp_path / "few", [Mel(duration=2.0, n_mels=16), Mel(duration=2.0, n_mels=20)]
    shutil.copytree(
        music, few, ignore=lambda _, names: [each for each in names if each.endswith("1.mp3")]
    )
    build_store(Folder(music, duration=2.5), parts[0], outputs=tmp_path)
    build_store(Folder(few, duration=2.5), parts[1], outputs=tmp_path)
    decoded.clear()
    for duration in (2.0, 2.5):
        features = ConcatenatedFeatures(parts, duration=duration)
        store = build_store(Folder(music, duration=2.5), features, outputs=tmp_path)
        count = len(store) - (duration == 2.0) * len(Folder(few).tracks())
        assert len(decoded) == count > 0
        decoded.clear()


def test_a_store_that_is_named_needs_no_audio(music: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(music, tmp_path / "music"))
    path = tmp_path / "mine.h5"
    first = build_store(Folder(root, 2.5), MEL, outputs=tmp_path, path=path)
    shutil.rmtree(root)
    again = build_store(Folder(root, 2.5), MEL, outputs=tmp_path, path=path)
    assert again.row_sha1 == first.row_sha1


class QuietMel(Mel):
    """Somebody's own feature: that of `Mel`, 10 dB lower."""

    def __call__(self, waveform: np.ndarray, sample_rate: int) -> np.ndarray:
        return super().__call__(waveform, sample_rate) - 10


def test_your_own_feature_has_a_store_of_its_own_d1(
    music: Path, tmp_path: Path, decoded: list[str]
) -> None:
    plain = build_store(Folder(music, 2.5), MEL, outputs=tmp_path)
    own = QuietMel(**asdict(MEL))
    quiet = build_store(Folder(music, 2.5), own, outputs=tmp_path)
    np.testing.assert_array_equal(quiet.read([0]), plain.read([0]) - 10)
    with pytest.raises(InputError, match=r"genreclf\.audio\.Mel, version 1, .*QuietMel"):
        build_store(Folder(music), own, outputs=tmp_path, path=plain.path)


def test_a_store_of_other_settings_is_refused(music: Path, tmp_path: Path) -> None:
    path = tmp_path / "mine.h5"
    build_store(Folder(music, 2.5), MEL, outputs=tmp_path, path=path)
    with pytest.raises(InputError, match="features n_mels=16, the config says 128"):
        build_store(Folder(music, 2.5), replace(MEL, n_mels=128), outputs=tmp_path, path=path)


def test_bad_files_are_listed_never_used(music: Path, tmp_path: Path) -> None:
    root = tmp_path / "bad"
    shutil.copytree(music, root)
    whole = (music / "Rock" / "01-01.mp3").read_bytes()
    (root / "Rock" / "cut.mp3").write_bytes(whole[: len(whole) // 4])
    (root / "Rock" / "garbage.mp3").write_bytes(np.random.default_rng(0).bytes(50_000))
    (root / "Folk" / "empty.wav").touch()
    (root / "Folk" / "nowhere.mp3").symlink_to(tmp_path / "none.mp3")
    (root / "Folk" / "folder.mp3").mkdir()
    store = build_store(Folder(root, 2.5), MEL, outputs=tmp_path)
    assert len(store) == 48
    reasons = {track["track_id"]: track["reason"] for track in store.rejected}
    bad = {"Rock/cut.mp3", "Rock/garbage.mp3", "Folk/empty.wav", "Folk/nowhere.mp3"}
    assert set(reasons) == bad
    assert "a link to a file that does not exist" in reasons["Folk/nowhere.mp3"]
    assert "too short" in reasons["Rock/cut.mp3"]
    assert "does not decode" in reasons["Rock/garbage.mp3"]
    assert "empty" in reasons["Folk/empty.wav"]


def test_files_with_remarks_are_mentioned_b1(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """B1: only predict said that a file lacks what the features need; C11: or is truncated."""
    caplog.set_level(logging.INFO)
    for name, rate in (("a", 8000), ("b", 44_100)):
        path = tmp_path / "music" / "rock" / f"{name}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(rate).normal(0, 0.1, 3 * rate)
        soundfile.write(path, noise, rate)
    features = MelFrames(duration=2.5)
    note = "sampled at 8000 Hz, so it lacks the band above 4000 Hz that the model was trained with"
    for outputs in ("first", "first"):  # a store that is there says so, too
        caplog.clear()
        build_store(Folder(tmp_path / "music"), features, outputs=tmp_path / outputs, workers=1)
        text = f"1 of 2 files are used with a note; the first: {tmp_path}/music/rock/a.wav: {note}"
        assert text in caplog.messages
    (tmp_path / "music" / "rock" / "b.wav").unlink()
    store = build_store(Folder(tmp_path / "music"), features, outputs=tmp_path / "first", workers=1)
    assert store.notes == [note]  # of a row that was copied


def test_files_that_are_used_in_part_are_mentioned(
    music: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """One line with count and example, or a line for each; a copied row keeps its note."""
    root = tmp_path / "cut"
    shutil.copytree(music, root)
    for name in ("Folk/a.wav", "Rock/b.wav"):
        soundfile.write(root / name, make_song(5, 4), 22050)
        content = (root / name).read_bytes()
        (root / name).write_bytes(content[: len(content) * 3 // 4])
    features, note = replace(MEL, duration=5.0), "only 3.0 of 4.0 s decode: the file is truncated"
    plan = plan_store(Folder(root, 5.0), features, outputs=tmp_path)
    with caplog.at_level("WARNING"):
        store = write_store(plan)
    assert [(track["track_id"], track["note"][: len(note)]) for track in store.noted] == [
        ("Folk/a.wav", note),
        ("Rock/b.wav", note),
    ]
    (line,) = [text for text in caplog.messages if note in text]
    assert line.startswith(
        f"2 of {len(store)} files are used with a note; the first: {root / 'Folk/a.wav'}: "
    )
    caplog.clear()
    with caplog.at_level("WARNING"):
        write_store(plan, list_rejected=True)
    assert len([text for text in caplog.messages if note in text]) == 2
    shutil.move(root / "Folk" / "a.wav", root / "Folk" / "c.wav")
    again = build_store(Folder(root, 5.0), features, outputs=tmp_path)
    assert [track["track_id"] for track in again.noted] == ["Folk/c.wav", "Rock/b.wav"]


def test_npz_rows_are_kept_as_they_are(tmp_path: Path) -> None:
    features = np.random.default_rng(0).integers(0, 256, (6, 8, 10), dtype=np.uint8)
    features[2] = 7
    np.savez(
        tmp_path / "a.npz",
        features=features,
        labels=np.array(["a", "b"] * 3),
        track_ids=np.arange(6),
        scale=0.5,
        offset=-80.0,
    )
    store = build_store(Npz(tmp_path / "a.npz"), Precomputed(), outputs=tmp_path)
    np.testing.assert_array_equal(store.read(range(5)), features[[0, 1, 3, 4, 5]])
    assert store.read([0]).dtype == np.uint8
    assert store.scaling.scale == 0.5
    assert store.scaling.silence == (0.5 * features.min() - 80,)
    assert store.rejected[0]["track_id"] == "2"
    assert "silent" in store.rejected[0]["reason"]


def test_rows_that_are_not_finite_are_rejected(tmp_path: Path) -> None:
    features = np.random.default_rng(0).normal(size=(3, 8, 10))
    features[1, 0, 0] = np.nan
    archive = tmp_path / "a.npz"
    np.savez(archive, features=features, labels=np.array(list("abc")), track_ids=np.arange(3))
    store = build_store(Npz(archive), Precomputed(), outputs=tmp_path)
    assert store.track_ids == ["0", "2"]
    assert "finite" in store.rejected[0]["reason"]
    np.savez(
        archive, features=features * np.nan, labels=np.array(list("abc")), track_ids=np.arange(3)
    )
    with pytest.raises(InputError, match="no track of 3 gave features; the first: 0: values"):
        build_store(Npz(archive), Precomputed(), outputs=tmp_path)


def test_features_and_dataset_must_go_together(music: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="features=precomputed goes with data=npz"):
        build_store(Folder(music), Precomputed(), outputs=tmp_path)


def test_rows_may_be_features_that_audio_gives_too(tmp_path: Path) -> None:
    archive, features = tmp_path / "a.npz", MelFrames(n_mels=8, frames=16)
    rows = np.random.default_rng(0).integers(0, 256, size=(30, 8, 16), dtype=np.uint8)
    np.savez(archive, features=rows, labels=np.array(list("ab") * 15), track_ids=np.arange(30))
    in_db = Npz(archive, scale=80 / 255, offset=-80)
    store = build_store(in_db, features, outputs=tmp_path)
    assert store.source.features["name"] == "mel_frames"
    np.testing.assert_array_equal(store.read([3]), rows[3:4])
    with pytest.raises(InputError, match=r"-80 to 0 dB, these rows from 0 to 255: set data\.scale"):
        build_store(Npz(archive), features, outputs=tmp_path)
    with pytest.raises(InputError, match="these rows from 0 to 1: set"):
        build_store(Npz(archive, scale=1 / 255), features, outputs=tmp_path)
    with pytest.raises(InputError, match="rows of 8 x 16 cannot be features=mel_frames, which are"):
        build_store(in_db, MelFrames(n_mels=8, frames=20), outputs=tmp_path)


def test_rows_of_another_sample_rate_are_refused_b1(tmp_path: Path) -> None:
    """B1: rows of audio at 22.05 kHz are not what features at 44.1 kHz compute from a file."""
    rows = np.random.default_rng(0).uniform(-80, 0, size=(30, 8, 16))
    arrays = {"features": rows, "labels": np.array(list("ab") * 15), "track_ids": np.arange(30)}
    archive, stated = tmp_path / "a.npz", tmp_path / "b.npz"
    np.savez(archive, **arrays)
    np.savez(stated, **arrays, sample_rate=22050)
    features = MelFrames(n_mels=8, frames=16)
    for dataset in (Npz(stated), Npz(archive, sample_rate=22050)):
        with pytest.raises(InputError, match=r"rows of audio at 22050 Hz.*set features"):
            build_store(dataset, features, outputs=tmp_path)
        at_22050 = dataclasses.replace(features, sample_rate=22050)
        store = build_store(dataset, at_22050, outputs=tmp_path)
        assert store.source.features["sample_rate"] == 22050  # as checkpoints will record it
    for dataset in (Npz(archive), Npz(stated, sample_rate=44100)):
        store = build_store(dataset, features, outputs=tmp_path)
        assert store.source.features["sample_rate"] == 44100
    assert len(build_store(Npz(stated), Precomputed(), outputs=tmp_path)) == 30
    with pytest.raises(InputError, match=r"data\.sample_rate=22050: features=precomputed have no"):
        build_store(Npz(archive, sample_rate=22050), Precomputed(), outputs=tmp_path)
    with pytest.raises(InputError, match=r"data\.sample_rate=-1: a number of Hz above 0"):
        Npz(archive, sample_rate=-1)


def test_the_command_prints_the_store(command: Callable[..., str], music: Path) -> None:
    path = command(
        "prepare", "data=folder", f"data.root={music}", "data.duration=2.5", "features.n_mels=16"
    )
    assert Store(path).shape[0] == 16


def start(music: Path, outputs: Path) -> subprocess.Popen:
    """The real command, at the paper's setting, on many copies of the clips."""
    root = outputs / "many"
    if not root.is_dir():
        for copy in range(12):
            shutil.copytree(music / "Rock", root / "Rock" / str(copy))
            shutil.copytree(music / "Folk", root / "Folk" / str(copy))
    command = [sys.executable, "-m", "genreclf", "prepare", "data=folder", f"data.root={root}"]
    return subprocess.Popen(
        [*command, f"outputs={outputs}", "data.duration=10"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=heed_ctrl_c,
        start_new_session=True,  # so that the signal reaches it and its workers, as Ctrl-C does
    )


@pytest.mark.slow
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_an_interrupted_extraction_goes_on(
    music: Path, tmp_path: Path, number: int, status: int
) -> None:
    process = start(music, tmp_path)
    deadline = time.monotonic() + 60
    changes: set[int] = set()
    while len(changes) < 5 and time.monotonic() < deadline:  # until some tracks are in
        changes |= {file.stat().st_mtime_ns for file in tmp_path.glob("stores/*.partial")}
        time.sleep(0.02)
    os.killpg(process.pid, number)
    _, error = process.communicate(timeout=60)
    assert process.returncode == status, error
    if number == signal.SIGINT:
        assert error.splitlines()[-1].endswith("interrupted; the same command continues from here")
        assert "Traceback" not in error
    (partial,) = tmp_path.glob("stores/*.partial")
    output, error = start(music, tmp_path).communicate(timeout=120)
    assert "continuing after" in output, output + error
    store = Store(output.splitlines()[-1])
    assert len(store) == 2 * 12 * 12
    assert len(set(store.row_sha1)) == 2 * 12  # every copy alike
    assert not partial.exists()


def test_rows_of_an_interrupted_store_are_copied_if_the_data_changed(
    music: Path, tmp_path: Path, decoded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A killed extraction is not lost because a file was added or removed before the next."""
    root, accept = tmp_path / "some", StoreWriter.accept
    shutil.copytree(music / "Rock", root / "Rock")
    shutil.copytree(music / "Folk", root / "Folk")

    def stop(self: StoreWriter, *row: Any) -> None:
        if self.done == 10:
            raise KeyboardInterrupt
        accept(self, *row)

    with monkeypatch.context() as patched:
        patched.setattr(StoreWriter, "accept", stop)
        with pytest.raises(KeyboardInterrupt):
            build_store(Folder(root, 2.5), MEL, outputs=tmp_path, workers=1)
    assert len([*tmp_path.glob("stores/*.partial")]) == 1
    removed = min((root / "Folk").glob("*.mp3"))
    removed.unlink()
    shutil.copy(music / "Rock" / "01-01.mp3", root / "Folk" / "new.mp3")
    decoded.clear()
    store = build_store(Folder(root, 2.5), MEL, outputs=tmp_path, workers=1)
    assert len(store) == 24
    assert len(decoded) == 24 - 9
    whole = build_store(Folder(root, 2.5), MEL, outputs=tmp_path / "new", workers=1)
    assert store.row_sha1 == whole.row_sha1
    assert np.array_equal(store.durations, whole.durations)


@pytest.mark.slow
def test_no_worker_outlives_a_killed_parent(music: Path, tmp_path: Path) -> None:
    process = start(music, tmp_path)
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("stores/*.partial")) and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(1)
    process.kill()
    process.communicate(timeout=60)

    def alive() -> bool:
        try:
            os.killpg(process.pid, 0)  # signals nobody
        except ProcessLookupError:
            return False
        return True

    while alive() and time.monotonic() < deadline + 10:
        time.sleep(0.1)
    assert not alive()


SCRIPT = """
import sys
from genreclf.data.datasets import Folder
from genreclf.audio import Mel
from genreclf.data.build_store import build_store
store = build_store(Folder(sys.argv[1], 2.5), Mel(duration=2.5, n_mels=16), outputs=sys.argv[2])
print(len(store), "rows")
"""


def test_a_script_needs_no_main_guard(music: Path, tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, tmp_path / "script.py", music, tmp_path],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout.endswith("48 rows\n"), done.stdout + done.stderr
    assert done.stdout.count("rows") == 1


def test_synthetic_clips_that_are_made_again_give_the_same_store(tmp_path: Path) -> None:
    dataset = Synthetic(tmp_path / "clips", 2.5, artists=1, clips=1)
    first = build_store(dataset, MEL, outputs=tmp_path)
    shutil.rmtree(dataset.root)
    assert build_store(dataset, MEL, outputs=tmp_path).path == first.path
    assert not list((tmp_path / "clips").glob("*.partial"))
