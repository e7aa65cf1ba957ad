import os
import shutil
from pathlib import Path
from typing import Any

import mutagen
import mutagen.id3
import mutagen.wave
import numpy as np
import pytest
import soundfile

from genreclf.audio.features import Mel, Precomputed
from genreclf.data.build_store import build_store
from genreclf.data.datasets import Folder, Npz, Synthetic, Track, arrays, npz
from genreclf.data.datasets.track import find_genre_fault
from genreclf.errors import InputError


def clip(path: Path, **tags: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.random.default_rng(0).uniform(-0.5, 0.5, 22050 * 3), 22050)
    if tags:
        file = mutagen.File(path, easy=True)
        for name, value in tags.items():
            file[name] = value
        file.save()


def test_folder_reads_genres_and_tags(tmp_path: Path) -> None:
    clip(tmp_path / "rock" / "album" / "b.mp3", artist="Ann", album="One")
    clip(tmp_path / "rock" / "a.FLAC", albumartist="Bob")
    clip(tmp_path / "folk" / "c.ogg")
    (tmp_path / "folk" / "d.mp3").write_bytes(b"garbage")  # found; decoding will refuse it
    (tmp_path / "folk" / "notes.txt").write_text("not audio")
    (tmp_path / "folk" / "._c.mp3").write_bytes(b"a hidden file of macOS")
    (tmp_path / ".cache").mkdir()
    dataset = Folder(tmp_path)
    assert dataset.genres() == ["folk", "rock"]
    found = {track.id: (track.genre, track.artist, track.album) for track in dataset.tracks()}
    assert found == {
        "folk/c.ogg": ("folk", "", ""),
        "folk/d.mp3": ("folk", "", ""),
        "rock/a.FLAC": ("rock", "Bob", ""),
        "rock/album/b.mp3": ("rock", "Ann", "One"),
    }
    assert all(Path(track.path).is_file() for track in dataset.tracks())
    assert [track.genre for track in Folder(tmp_path, genres=["rock"]).tracks()] == ["rock"] * 2


def test_folder_reads_the_tags_of_a_wav(tmp_path: Path) -> None:
    clip(tmp_path / "rock" / "a.wav")
    file = mutagen.wave.WAVE(tmp_path / "rock" / "a.wav")
    file.add_tags()
    file.tags.add(mutagen.id3.TPE1(text=["Cid"]))
    file.tags.add(mutagen.id3.TALB(text=["Two"]))
    file.save()
    (track,) = Folder(tmp_path).tracks()
    assert (track.artist, track.album) == ("Cid", "Two")


def test_folder_follows_links(tmp_path: Path) -> None:
    clip(tmp_path / "elsewhere" / "a.wav")
    (tmp_path / "root" / "rock").mkdir(parents=True)
    (tmp_path / "root" / "rock" / "linked").symlink_to(tmp_path / "elsewhere")
    assert [track.id for track in Folder(tmp_path / "root").tracks()] == ["rock/linked/a.wav"]


def test_folder_takes_names_that_are_no_utf8(tmp_path: Path) -> None:
    clip(tmp_path / "rock" / "a.wav")
    (tmp_path / "rock" / "a.wav").rename(os.fsdecode(bytes(tmp_path) + b"/rock/caf\xe9.wav"))
    dataset = Folder(tmp_path)
    assert len(dataset.tracks()) == 1


def test_names_that_are_no_utf8_are_usable_names(tmp_path: Path) -> None:
    """A folder in Latin-1, as old archives have them, is a genre with that name; ids likewise."""
    clip(tmp_path / "music" / "rock" / "a.wav")
    clip(tmp_path / "music" / "x" / "b.wav")
    name = os.fsdecode(bytes(tmp_path) + b"/music/caf\xe9 \x96 chanson")
    (tmp_path / "music" / "x").rename(name)
    for genres in (None, ["café – chanson", "rock"]):
        dataset = Folder(tmp_path / "music", genres=genres)
        assert dataset.genres() == ["café – chanson", "rock"]
        mel = Mel(duration=2.5, n_mels=16, n_fft=1024, hop_length=1024)
        store = build_store(dataset, mel, outputs=tmp_path / "outputs", workers=1)
        assert store.classes == ["café – chanson", "rock"]
        assert store.track_ids == ["café – chanson/b.wav", "rock/a.wav"]
    assert Track(1, "a\ud800").genre == "a\ufffd"


@pytest.mark.parametrize("name", ["hip\nhop", "rock\r", "a\tb", "a\u2028b"])
def test_line_breaks_in_a_genre_are_refused(name: str) -> None:
    """Before anything is decoded: such a name would break tables, pages and messages."""
    assert "control character" in find_genre_fault(name)
    assert find_genre_fault("Folk, World, & Country") == ""


def test_folder_refuses_what_has_no_music(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        Folder(tmp_path / "none").tracks()
    with pytest.raises(InputError, match="no genre folders"):
        Folder(tmp_path).tracks()
    (tmp_path / "rock").mkdir()
    with pytest.raises(InputError, match="rock holds no audio files"):
        Folder(tmp_path).tracks()
    with pytest.raises(InputError, match="no folder jazz"):
        Folder(tmp_path, genres=["jazz"]).tracks()


def test_folder_skips_what_holds_no_music_with_a_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clip(tmp_path / "rock" / "a.wav")
    (tmp_path / "Playlists").mkdir()
    assert Folder(tmp_path).genres() == ["rock"]
    assert "skipped folders without audio files: Playlists" in caplog.text
    with pytest.raises(InputError, match="Playlists holds no audio files"):
        Folder(tmp_path, genres=["Playlists", "rock"]).tracks()


@pytest.mark.parametrize("name", ["nan", "rock;pop", "0.5", "['rock']"])
def test_folders_that_are_no_single_genre_are_refused_d8(tmp_path: Path, name: str) -> None:
    """D8: such folders come from scripts that write labels of other kinds."""
    clip(tmp_path / name / "a.wav")
    with pytest.raises(InputError, match=r"data=folder: track 1 .*a\.wav.*: the genre"):
        build_store(Folder(tmp_path), Mel(), outputs=tmp_path / "outputs")


def test_folder_skips_what_genreclf_made_a29(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A29: run in the music folder, the outputs of the first start are no genre at the second."""
    for name in ("rock/a.wav", "folk/b.wav"):
        clip(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    for outputs in ("outputs", "rock/my outputs", "results/of/today"):
        Synthetic(f"{outputs}/synthetic", duration=2, artists=1, clips=1).files()
    Path("outputs").rename("old")
    mel = Mel(duration=2.5, n_mels=16, n_fft=1024, hop_length=1024)
    first, again = (build_store(Folder("."), mel, outputs="outputs", workers=1) for _ in range(2))
    assert again.path == first.path
    assert [track.id for track in Folder(".").tracks()] == ["folk/b.wav", "rock/a.wav"]
    (made,) = Path("old/synthetic").iterdir()
    assert len(Folder(made).tracks()) == 4  # if it is the root, it is used


def test_real_tags(real_music: Path) -> None:
    tracks = Folder(real_music).tracks()
    assert len(tracks) == 180
    assert len({track.artist for track in tracks}) == 80
    assert all(track.artist and track.album for track in tracks)


def test_synthetic_is_deterministic(tmp_path: Path) -> None:
    first, again = (
        Synthetic(tmp_path / name, duration=2.5, artists=1, clips=2) for name in ("a", "b")
    )
    tracks = first.tracks()
    assert [(track.id, track.artist) for track in tracks] == [
        (track.id, track.artist) for track in again.tracks()
    ]
    assert len(tracks) == 8
    for one, other in zip(tracks, again.tracks(), strict=True):
        samples, rate = soundfile.read(one.path)
        assert rate == 22050
        assert len(samples) >= 2.5 * rate
        np.testing.assert_array_equal(samples, soundfile.read(other.path)[0])


def test_synthetic_seeds_differ(tmp_path: Path) -> None:
    datasets = [Synthetic(tmp_path, 2.5, artists=1, clips=1, seed=seed) for seed in (0, 1)]
    first, other = (dataset.tracks()[0].path for dataset in datasets)
    assert Path(first).read_bytes() != Path(other).read_bytes()


def archive(path: Path, **arrays: object) -> Path:
    defaults = {
        "features": np.arange(3 * 4 * 5, dtype=np.uint8).reshape(3, 4, 5),
        "labels": np.array(["Rock", "Pop", "Rock"]),
        "track_ids": np.array([10, 20, 30]),
    }
    np.savez(path, **{k: v for k, v in {**defaults, **arrays}.items() if v is not None})
    return path


def test_npz_reads_everything(tmp_path: Path) -> None:
    dataset = Npz(
        archive(
            tmp_path / "a.npz",
            split=np.array(["training", "validation", "test"]),
            artist=np.array(["x", "y", "z"]),
            scale=0.5,
            offset=-80.0,
        )
    )
    assert [(t.id, t.genre, t.split, t.artist) for t in dataset.tracks()] == [
        ("10", "Rock", "train", "x"),
        ("20", "Pop", "val", "y"),
        ("30", "Rock", "test", "z"),
    ]
    assert dataset.genres() == ["Pop", "Rock"]
    assert dataset.scaling() == (0.5, -80)
    assert Npz(tmp_path / "a.npz", scale=2, offset=1).scaling() == (2, 1)
    rows = list(dataset.rows())
    assert rows[1].dtype == np.uint8
    np.testing.assert_array_equal(rows[1], np.arange(20, 40).reshape(4, 5))


def test_npz_identity_follows_its_content(tmp_path: Path) -> None:
    identity = Npz(archive(tmp_path / "a.npz")).identity()
    (tmp_path / "elsewhere").mkdir()
    shutil.copy(tmp_path / "a.npz", tmp_path / "elsewhere" / "b.npz")
    os.utime(tmp_path / "elsewhere" / "b.npz", (0, 0))
    assert Npz(tmp_path / "elsewhere" / "b.npz").identity() == identity
    assert Npz(tmp_path / "a.npz", scale=2).identity() != identity
    archive(tmp_path / "a.npz", labels=np.array(["Rock", "Pop", "Pop"]))
    assert Npz(tmp_path / "a.npz").identity() != identity


def test_npz_reads_several_in_order(tmp_path: Path) -> None:
    archive(tmp_path / "features_1.npz", track_ids=np.array([4, 5, 6]), labels=np.array([0, 1, 0]))
    archive(tmp_path / "features_0.npz", labels=np.array([1, 1, 0]))
    dataset = Npz(tmp_path / "features_*.npz", classes=["International", "Pop"])
    assert [track.id for track in dataset.tracks()] == ["10", "20", "30", "4", "5", "6"]
    assert [track.genre for track in dataset.tracks()][:3] == ["Pop", "Pop", "International"]
    assert len(list(dataset.rows())) == 6


def test_npz_refuses_a_track_that_is_there_twice(tmp_path: Path) -> None:
    for number in range(2):
        archive(tmp_path / f"features_{number}.npz", track_ids=np.array([number, 20, 30]))
    with pytest.raises(InputError, match=r"2 track ids .*\(20, 30\)"):
        Npz(tmp_path / "features_*.npz").tracks()


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"labels": None}, "no array 'labels' .it has features, track_ids"),
        ({"labels": np.array(["Rock"])}, "1 values of genre for 3 track_ids"),
        ({"labels": np.array(["a", None, "b"], dtype=object)}, "pickled Python objects"),
        ({"features": np.zeros(3)}, r"shape \(3,\)"),
        ({"features": np.array([["x"] * 3] * 3)[..., None]}, "numbers of shape"),
        ({"features": np.zeros((2, 4, 5))}, "2 rows of features, 3 track_ids"),
        ({"labels": np.eye(3, dtype=int)}, r"'labels' of shape \(3, 3\); one genre for each track"),
        ({"labels": np.array([[0, 1, 1]] * 3)}, r"one-hot rows: labels\.argmax"),
        ({"labels": np.array([0.0, 1.0, 0.0])}, r"'labels' are float64, such as \[0\.0\]; names"),
        ({"labels": np.array([0, 1, np.nan])}, "'labels' are float64"),
        ({"labels": np.array([True, False, True])}, "'labels' are bool"),
        ({"labels": np.array(["Rock", "", "Pop"])}, "'labels', row 1: the genre is empty"),
        ({"labels": np.array(["Rock", " ", "Pop"])}, "'labels', row 1: the genre is empty"),
        ({"labels": np.array(["Rock", "Pop", "nan"])}, "'labels', row 2: .* a missing value"),
        ({"labels": np.array(["0.5", "Pop", "a"])}, "'labels', row 0: .* a whole number is"),
        ({"labels": np.array(["a;b", "Pop", "a"])}, "'labels', row 0: .* looks like several"),
        ({"labels": np.array([0, -1, 1])}, "'labels', row 1: the genre is '-1'"),
        ({"labels": np.array([b"a", b"\xff", b"c"])}, "'labels' is not UTF-8"),
        ({"labels": np.array("Rock")}, r"'labels' of shape \(\)"),
        ({"track_ids": np.array([1.0, 2.0, np.nan])}, "'track_ids' of shape .* dtype float64"),
        ({"track_ids": np.array([[1], [2], [3]])}, r"'track_ids' of shape \(3, 1\)"),
        ({"artist": np.array([np.nan] * 3)}, "'artist' of shape .* dtype float64"),
        ({"artist": np.array(["x", "nan", "y"])}, "'artist', row 1: 'nan' is a missing value"),
        ({"labels": np.array(["a", "<NA>", "b"])}, "'labels', row 1: .* a missing value"),
        ({"album": np.array(["a", "none", "b"])}, "'album', row 1: 'none' is a missing value"),
        ({"scale": 0.0}, "'scale' is 0, which would make all features equal"),
        ({"scale": np.nan}, "'scale' is nan"),
        ({"offset": np.inf}, "'offset' is inf"),
        ({"scale": True}, "'scale' of shape"),
    ],
)
def test_npz_refuses_what_does_not_fit_d8_f10b(tmp_path: Path, arrays: dict, message: str) -> None:
    """D8, F10b: labels that are not single genres would become classes of their own."""
    dataset = Npz(archive(tmp_path / "a.npz", **arrays))
    with pytest.raises(InputError, match=message) as error:
        dataset.tracks(), list(dataset.rows()), dataset.scaling()
    assert str(tmp_path / "a.npz") in str(error.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"scale": 0}, r"data\.scale=0"),
        ({"scale": float("nan")}, r"data\.scale=nan: a number is needed"),
        ({"offset": float("inf")}, r"data\.offset=inf"),
        ({"silence": True}, r"data\.silence=True"),
        ({"classes": "Pop"}, r"data\.classes=Pop: a list is needed: \[Pop\]"),
        ({"classes": ["Pop", "Pop"]}, r"data\.classes names Pop more than once"),
        ({"classes": ["Pop", ""]}, r"data\.classes: class 1: the genre is empty"),
        ({"classes": ["Pop", "Rock"]}, "names whole numbers, but these labels are names"),
    ],
)
def test_npz_refuses_settings_without_a_meaning_f10b(
    tmp_path: Path, settings: dict[str, Any], message: str
) -> None:
    """F10b, A15: a scale of 0 makes all features equal; classes do nothing to labels of names."""
    with pytest.raises(InputError, match=message):
        Npz(archive(tmp_path / "a.npz"), **settings).tracks()


def test_npz_reads_a_file_whose_name_looks_like_a_pattern(tmp_path: Path) -> None:
    assert len(Npz(archive(tmp_path / "features[1].npz")).tracks()) == 3


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # NumPy's own file
@pytest.mark.parametrize("damage", ["truncated", "flipped"])
def test_npz_refuses_a_damaged_archive(tmp_path: Path, damage: str) -> None:
    content = bytearray(archive(tmp_path / "a.npz").read_bytes())
    if damage == "truncated":
        del content[len(content) // 2 :]
    else:
        content[190] ^= 255  # inside the features
    (tmp_path / "a.npz").write_bytes(content)
    dataset = Npz(tmp_path / "a.npz")
    with pytest.raises(InputError, match=r"not a readable|is damaged"):
        dataset.tracks(), list(dataset.rows())


def test_npz_reads_any_byte_order(tmp_path: Path) -> None:
    features = np.arange(60, dtype=">f4").reshape(3, 4, 5)
    row = next(Npz(archive(tmp_path / "a.npz", features=features)).rows())
    assert row.dtype == np.dtype("float32").newbyteorder("=")
    assert row[3, 4] == 19


def test_npz_refuses_an_empty_archive_and_odd_numbers(tmp_path: Path) -> None:
    empty = archive(
        tmp_path / "a.npz",
        features=np.zeros((0, 4, 5)),
        labels=np.array([], dtype=str),
        track_ids=np.array([], dtype=int),
    )
    with pytest.raises(InputError, match="no tracks"):
        Npz(empty).tracks()
    with pytest.raises(InputError, match=r"data\.scale=abc: a number is needed"):
        Npz(empty, scale="abc")  # pyright: ignore[reportArgumentType]


def test_npz_refuses_scales_that_are_no_number(tmp_path: Path) -> None:
    assert Npz(archive(tmp_path / "a.npz", scale=np.array([0.5]))).scaling() == (0.5, 0)
    with pytest.raises(InputError, match=r"'scale' of shape \(2,\); one number is needed"):
        Npz(archive(tmp_path / "a.npz", scale=np.array([0.5, 1]))).scaling()


def test_npz_refuses_other_files(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        Npz(tmp_path / "none.npz").tracks()
    (tmp_path / "text.npz").write_text("hello")
    with pytest.raises(InputError, match="not a readable"):
        Npz(tmp_path / "text.npz").tracks()
    np.save(tmp_path / "single.npy", np.zeros(3))
    with pytest.raises(InputError, match="a single array"):
        Npz(tmp_path / "single.npy").tracks()
    with pytest.raises(InputError, match=r"data\.classes names 1 classes"):
        Npz(archive(tmp_path / "a.npz", labels=np.array([0, 1, 0])), classes=["Pop"]).tracks()


def test_each_array_of_an_npz_is_read_once_a16(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A16: a large archive was decompressed three times for each run of a sweep."""
    rows = np.random.default_rng(0).integers(0, 9, (3, 4, 5))
    path = archive(tmp_path / "a.npz", features=rows, artist=np.array(["x", "y", "z"]))
    names: list[str] = []

    def read(archive: Any, file: Path, name: str) -> np.ndarray:
        names.append(name)
        return READ_ARRAY(archive, file, name)

    for module in (arrays, npz):
        monkeypatch.setattr(module, "read_array", read)
    for _ in range(3):  # runs of a sweep
        dataset = Npz(path)
        build_store(dataset, Precomputed(), outputs=tmp_path)
        dataset.genres()
    assert sorted(names) == ["artist", "features", "labels", "track_ids"]
    np.savez(path, features=rows[:2], labels=np.array(["a", "b"]), track_ids=np.array([1, 2]))
    assert len(Npz(path).tracks()) == 2  # a file that changed is read again


READ_ARRAY = npz.read_array


def test_each_clip_is_looked_up_once_a16(
    music: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A16: on a network file system, each look-up of 25,000 clips takes a minute."""
    mel = Mel(duration=2.5, n_mels=16, n_fft=1024, hop_length=1024)
    root = Path(shutil.copytree(music / "Rock", tmp_path / "music" / "Rock")).parent
    for file in root.rglob("*.mp3"):
        os.utime(file, (1, 1))  # digests of files that have just changed are not kept
    build_store(Folder(root, 2.5), mel, outputs=tmp_path, workers=1)
    looked_up: list[str] = []
    stat = os.stat

    def count(path: Any, *arguments: Any, **settings: Any) -> os.stat_result:
        if str(path).endswith(".mp3"):
            looked_up.append(str(path))
        return stat(path, *arguments, **settings)

    for name in ("stat", "lstat"):
        monkeypatch.setattr(os, name, count)
    build_store(Folder(root, 2.5), mel, outputs=tmp_path)
    assert len(looked_up) == len(set(looked_up)) == 12
