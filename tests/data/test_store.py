import contextlib
import errno
import pickle
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from genreclf.audio import MFCC, Mel
from genreclf.data.datasets import Track
from genreclf.data.store import Scaling, Source, Store, describe_source, digest_split
from genreclf.data.store_writer import StoreWriter
from genreclf.data.unfinished_store import UnfinishedRows
from genreclf.errors import InputError

MEL = Mel(n_mels=8)
OTHER = Source("folder", {}, {}, "other audio", "other table")
TRACKS = [
    Track(f"t{n}", ("Rock", "Folk")[n % 2], f"artist {n}", "album", "train", f"/m/{n}.mp3")
    for n in range(5)
]
SOURCE = describe_source("folder", MEL, TRACKS, ["0", "1", "2", "3", "4"])


def writer(path: Path, tracks: list[Track] = TRACKS, source: Source = SOURCE) -> StoreWriter:
    return StoreWriter(path, source, tracks, (8, 16), np.dtype(np.float32))


@pytest.fixture
def rows(random_rows: Callable[..., np.ndarray]) -> np.ndarray:
    return random_rows(5)


def write_all(path: Path, rows: np.ndarray) -> None:
    with writer(path) as opened:
        for number, row in enumerate(rows):
            if number == 1:
                opened.reject("silent: nothing")
            else:
                opened.accept(row, 30 + number)
        opened.finish(Scaling(silence=(-80,)))


def test_what_was_written_is_read(tmp_path: Path, rows: np.ndarray) -> None:
    write_all(tmp_path / "a.h5", rows)
    store = Store(tmp_path / "a.h5")
    assert len(store) == 4
    assert store.classes == ["Folk", "Rock"]
    assert store.labels.tolist() == [1, 1, 0, 1]
    assert store.track_ids == ["t0", "t2", "t3", "t4"]
    assert store.artists[1] == "artist 2"
    assert store.paths[3] == "/m/4.mp3"
    assert store.durations.tolist() == [30, 32, 33, 34]
    assert store.shape == (8, 16)
    assert store.scaling == Scaling(1, 0, (-80,))
    assert store.source == SOURCE
    assert store.rejected == [
        {"track_id": "t1", "genre": "Folk", "path": "/m/1.mp3", "reason": "silent: nothing"}
    ]
    np.testing.assert_array_equal(store.read([3, 0, 0, 2]), rows[[4, 0, 0, 3]])
    assert not (tmp_path / "a.h5.partial").exists()


def test_notes_are_kept_with_the_rows(tmp_path: Path, rows: np.ndarray) -> None:
    """Over an interruption, and for other stores that copy the rows; their digests stay."""
    write_all(tmp_path / "a.h5", rows)
    with writer(tmp_path / "b.h5") as opened:
        opened.accept(rows[0], 30)
        opened.reject("silent: nothing")
        opened.accept(rows[2], 32, "truncated: für immer")
    assert UnfinishedRows(tmp_path / "b.h5.partial").notes == ["", "truncated: für immer"]
    with writer(tmp_path / "b.h5") as opened:
        opened.accept(rows[3], 33)
        opened.accept(rows[4], 34)
        opened.finish(Scaling(silence=(-80,)))
    plain, store = Store(tmp_path / "a.h5"), Store(tmp_path / "b.h5")
    assert (plain.notes, plain.noted) == ([""] * 4, [])
    assert store.notes == ["", "truncated: für immer", "", ""]
    assert store.noted == [{"track_id": "t2", "path": "/m/2.mp3", "note": store.notes[1]}]
    assert (store.row_sha1, store.source) == (plain.row_sha1, plain.source)


def test_the_file_is_what_the_schema_says(tmp_path: Path, rows: np.ndarray) -> None:
    write_all(tmp_path / "a.h5", rows)
    with h5py.File(tmp_path / "a.h5") as file:
        texts = ["album", "artist", "artist_id", "content", "license", "path", "split", "track_id"]
        numbers = ["duration", "features", "label", "row_sha1"]
        assert sorted(file) == sorted([*texts, *numbers, "rejected"])
        assert {len(file[name]) for name in file if name != "rejected"} == {4}
        assert file["features"].chunks == (1, 8, 16)
        assert file.attrs["schema"] == 3
        assert file.attrs["digest"] == SOURCE.digest


def test_a_store_of_earlier_versions_has_no_numbers_of_artists(
    tmp_path: Path, rows: np.ndarray
) -> None:
    write_all(tmp_path / "a.h5", rows)
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        del file["artist_id"]
    assert Store(tmp_path / "a.h5").artist_ids == [""] * 4


def test_an_interrupted_writer_goes_on(tmp_path: Path, rows: np.ndarray) -> None:
    write_all(tmp_path / "whole.h5", rows)
    with writer(tmp_path / "a.h5") as opened:
        opened.accept(rows[0], 30)
        opened.reject("silent: nothing")
        opened.accept(rows[2], 32)
    assert not (tmp_path / "a.h5").exists()
    with writer(tmp_path / "a.h5") as opened:
        assert opened.done == 3
        opened.accept(rows[3], 33)
        opened.accept(rows[4], 34)
        opened.finish(Scaling(silence=(-80,)))
    one, other = Store(tmp_path / "a.h5"), Store(tmp_path / "whole.h5")
    np.testing.assert_array_equal(one.read(range(4)), other.read(range(4)))
    assert one.rejected == other.rejected
    assert one.row_sha1 == other.row_sha1


def test_a_partial_file_of_something_else_is_kept(tmp_path: Path, rows: np.ndarray) -> None:
    with writer(tmp_path / "a.h5") as opened:
        opened.accept(rows[0], 30)
    with pytest.raises(InputError, match="unfinished store of other data"):
        writer(tmp_path / "a.h5", source=OTHER)
    with writer(tmp_path / "a.h5") as opened:
        assert opened.done == 1


def test_a_damaged_partial_file_is_begun_anew(tmp_path: Path) -> None:
    (tmp_path / "a.h5.partial").write_bytes(b"not HDF5")
    with writer(tmp_path / "a.h5") as opened:
        assert opened.done == 0


def test_odd_names_are_kept_as_far_as_they_can_be(tmp_path: Path, rows: np.ndarray) -> None:
    tracks = [Track("caf\udce9.mp3", "Ch\u00e2nson", "a\0b")]  # a Latin-1 file name, a NUL in a tag
    with writer(tmp_path / "a.h5", tracks) as opened:
        opened.accept(rows[0], 30)
        opened.finish(Scaling())
    store = Store(tmp_path / "a.h5")
    assert store.track_ids == ["café.mp3"]
    assert store.artists == ["ab"]
    assert store.classes == ["Ch\u00e2nson"]


KILLED = """
import os, sys
import numpy as np
from pathlib import Path
from typing import Any
from genreclf.data.datasets import Track
from genreclf.data.store import Source
from genreclf.data.store_writer import StoreWriter
OTHER = Source('folder', {}, {}, 'other audio', 'other table')
tracks = [Track(str(n), "Rock") for n in range(50)]
writer = StoreWriter(Path(sys.argv[1]), OTHER, tracks, (8, 16), np.dtype(np.float32))
for number in range(int(sys.argv[2])):
    writer.accept(np.full((8, 16), number, np.float32), 30)
os.kill(os.getpid(), 9)
"""


def test_a_killed_writer_leaves_what_it_wrote(tmp_path: Path) -> None:
    tracks = [Track(str(n), "Rock") for n in range(50)]
    path = tmp_path / "a.h5"
    killed = subprocess.run([sys.executable, "-c", KILLED, path, "20"], check=False)
    assert killed.returncode == -9
    with writer(path, tracks, OTHER) as opened:
        assert opened.done == 20
        for number in range(20, 50):
            opened.accept(np.full((8, 16), number), 30)
        opened.finish(Scaling())
    assert Store(path).read(range(50))[:, 0, 0].tolist() == list(range(50))


FULL = """
import resource, signal, sys
import numpy as np
from pathlib import Path
from typing import Any
from genreclf.data.datasets import Track
from genreclf.errors import InputError
from genreclf.data.store import Source
from genreclf.data.store_writer import StoreWriter
OTHER = Source('folder', {}, {}, 'other audio', 'other table')
tracks = [Track(str(n), "Rock") for n in range(50)]
row = np.random.default_rng(0).normal(size=(64, 64)).astype(np.float32)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
try:
    with StoreWriter(Path(sys.argv[1]), OTHER, tracks, row.shape, row.dtype) as writer:
        resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, resource.RLIM_INFINITY))
        for _ in tracks:
            writer.accept(row, 30)
except InputError as error:
    print(error)
"""


def test_a_disk_that_fills_up_is_one_clear_line_and_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    done = subprocess.run(
        [sys.executable, "-c", FULL, path], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(
        r".* after \d+ of 50 tracks \(File too large\).* the same command continues.*\n",
        done.stdout,
    )
    tracks = [Track(str(n), "Rock") for n in range(50)]
    with StoreWriter(path, OTHER, tracks, (64, 64), np.dtype(np.float32)) as opened:
        assert 5 < opened.done < 50


def test_too_little_disk_is_noticed_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = type("Usage", (), {"free": 1000})()
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
    with pytest.raises(InputError, match=r"needs 0 MB in .* only 0 MB are free; .*outputs="):
        writer(tmp_path / "a.h5")


def test_rows_of_another_shape_are_refused(tmp_path: Path) -> None:
    with writer(tmp_path / "a.h5") as opened, pytest.raises(InputError, match="track t0"):
        opened.accept(np.zeros((8, 15)), 30)


def test_no_tracks_and_missing_rows_are_refused(tmp_path: Path, rows: np.ndarray) -> None:
    """An empty dataset of one's own ended in an IndexError; a short one lost tracks silently."""
    with pytest.raises(InputError, match="there are no tracks to store"):
        writer(tmp_path / "a.h5", tracks=[])
    with writer(tmp_path / "b.h5") as opened:
        opened.accept(rows[0], 30)
        with pytest.raises(InputError, match="1 of 5 tracks have a row"):
            opened.finish(Scaling())


def test_no_row_at_all_is_refused(tmp_path: Path) -> None:
    with writer(tmp_path / "a.h5") as opened:
        for _ in TRACKS:
            opened.reject("does not decode")
        with pytest.raises(InputError, match="no track of 5 gave features; the first: /m/0"):
            opened.finish(Scaling())
    assert not (tmp_path / "a.h5").exists()


def test_a_store_of_other_settings_is_refused(tmp_path: Path, rows: np.ndarray) -> None:
    write_all(tmp_path / "a.h5", rows)
    store = Store(tmp_path / "a.h5")
    store.check_features(MEL)
    with pytest.raises(InputError, match="features n_mels=8, the config says 64"):
        store.check_features(Mel(n_mels=64))
    with pytest.raises(InputError, match="features name='mel', the config says 'mfcc'"):
        store.check_features(MFCC(n_mels=8, n_mfcc=8))


class LouderMel(Mel):
    """A feature of somebody else's that inherits the name and the settings."""


class NewerMel(Mel):
    """The same feature with other values."""

    version = 2


def test_another_class_or_version_of_the_features_is_refused_d1(
    tmp_path: Path, rows: np.ndarray
) -> None:
    write_all(tmp_path / "a.h5", rows)
    store = Store(tmp_path / "a.h5")
    with pytest.raises(InputError, match=r"by genreclf\.audio\.Mel, version 1, .*LouderMel"):
        store.check_features(LouderMel(n_mels=8))
    with pytest.raises(InputError, match=r"NewerMel, version 2"):
        store.check_features(NewerMel(n_mels=8))


def test_the_identity_of_a_store_is_frozen() -> None:
    """Golden digests: whoever changes them makes every store that users have useless."""
    assert SOURCE.audio == "9535592f78e1d9bf9b4e93cbe4f2f3c1c56b364c"
    assert SOURCE.table == "5ee417db3b93c1c65ac8d844cf1cc457e6d2178a"
    assert SOURCE.digest == "46269a30fc451b57deb0b4d5e41f017d3c1e2253"
    assert SOURCE.identity == {"class": "genreclf.audio.Mel", "version": 1, "n_mels": 8}


def test_tags_and_audio_have_digests_of_their_own() -> None:
    contents = ["0", "1", "2", "3", "4"]
    retagged = [replace(TRACKS[0], artist="somebody else"), *TRACKS[1:]]
    tags = describe_source("folder", MEL, retagged, contents)
    assert (tags.audio, tags.table == SOURCE.table) == (SOURCE.audio, False)
    audio = describe_source("folder", MEL, TRACKS, ["5", *contents[1:]])
    assert (audio.table, audio.audio == SOURCE.audio) == (SOURCE.table, False)
    moved = [replace(track, path=f"/elsewhere{track.path}") for track in TRACKS]
    assert describe_source("other name", MEL, moved, contents).digest == SOURCE.digest


def test_the_digest_of_a_split_follows_rows_genres_and_parts(
    make_store: Callable[..., Store], rows: np.ndarray
) -> None:
    split = {"train": np.array([0, 1, 2]), "val": np.array([3, 4])}
    before = digest_split(make_store(TRACKS, rows), split)
    assert before == "28c271bf7d6162a08ecb9de92aceabe2f7774bd2"
    renamed = [replace(track, id=f"new {track.id}", artist="x") for track in TRACKS]
    assert digest_split(make_store(renamed, rows), split) == before
    relabelled = [replace(TRACKS[0], genre="Folk"), *TRACKS[1:]]
    assert digest_split(make_store(relabelled, rows), split) != before
    assert digest_split(make_store(TRACKS, rows + 1), split) != before
    assert digest_split(make_store(TRACKS, rows, Scaling(2.0)), split) != before
    other = {"train": np.array([0, 1, 3]), "val": np.array([2, 4])}
    assert digest_split(make_store(TRACKS, rows), other) != before


def test_what_is_no_store_is_refused(tmp_path: Path, rows: np.ndarray) -> None:
    with pytest.raises(InputError, match="no such store"):
        Store(tmp_path / "none.h5")
    (tmp_path / "text.h5").write_text("hello")
    with pytest.raises(InputError, match="not a store"):
        Store(tmp_path / "text.h5")
    write_all(tmp_path / "a.h5", rows)
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        file.attrs["schema"] = 99
    with pytest.raises(InputError, match="schema 99, this version reads 3"):
        Store(tmp_path / "a.h5")


def test_a_store_travels_to_a_worker(tmp_path: Path, rows: np.ndarray) -> None:
    write_all(tmp_path / "a.h5", rows)
    store = Store(tmp_path / "a.h5")
    store.read([0])
    copy = pickle.loads(pickle.dumps(store))
    np.testing.assert_array_equal(copy.read([1]), rows[[2]])


def write_partial(path: Path, rows: int) -> tuple[Any, ...]:
    """Begin a store of three tracks and leave it unfinished; returns the writer's arguments."""
    tracks = [Track(str(n), "rock") for n in range(3)]
    source = Source("test", {"name": "test"}, {"class": "test"}, "audio", "table")
    arguments = (path, source, tracks, (2, 3), np.dtype(np.float32))
    with StoreWriter(*arguments) as writer:
        for _ in range(rows):
            writer.accept(np.ones((2, 3), np.float32), 1.0)
    return arguments


@contextlib.contextmanager
def hold_open(path: Path) -> Iterator[None]:
    """Let another process hold an HDF5 file open for writing."""
    code = "import h5py, sys; f = h5py.File(sys.argv[1], 'r+'); print('open', flush=True); input()"
    command = [sys.executable, "-c", code, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdin is not None
        holder.stdout.readline()
        yield
        holder.stdin.close()


def test_a_finished_store_is_read_while_others_hold_it_b14(tmp_path: Path) -> None:
    """B14: a store that another process has open was "not a store of this version"."""
    arguments = write_partial(tmp_path / "a.h5", 3)
    with StoreWriter(*arguments) as writer:
        writer.finish(Scaling())
    with hold_open(tmp_path / "a.h5"):
        assert len(Store(tmp_path / "a.h5")) == 3


def test_an_unfinished_store_that_is_locked_says_so_b14(tmp_path: Path) -> None:
    """B14: another process that holds the unfinished file must not make it start over."""
    arguments = write_partial(tmp_path / "a.h5", 1)
    refused = pytest.raises(InputError, match=r"a\.h5\.partial: locked: another process has it")
    with hold_open(tmp_path / "a.h5.partial"), refused:
        StoreWriter(*arguments)
    with StoreWriter(*arguments) as writer:
        assert writer.done == 1


def test_a_read_error_does_not_start_over_b26(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """B26: one failed read threw away all rows that had been computed."""
    arguments = write_partial(tmp_path / "a.h5", 2)
    with monkeypatch.context() as patch:

        def fail(*_: object, **__: object) -> None:
            raise OSError(errno.EIO, "Unable to synchronously open file (read failed, errno = 5)")

        patch.setattr(h5py, "File", fail)
        with pytest.raises(InputError, match=r"partial: cannot be read \(.*read failed"):
            StoreWriter(*arguments)
    with StoreWriter(*arguments) as writer:
        assert writer.done == 2


@pytest.mark.parametrize("size", [0, 1500])
def test_a_file_that_was_cut_off_is_set_aside_b26(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, size: int
) -> None:
    """B26: only a file that HDF5 calls truncated is started again, and the old one is kept."""
    arguments = write_partial(tmp_path / "a.h5", 2)
    partial = tmp_path / "a.h5.partial"
    content = partial.read_bytes()[:size]
    partial.write_bytes(content)
    with StoreWriter(*arguments) as writer:
        assert writer.done == 0
    kept = (tmp_path / "a.h5.partial.damaged").read_bytes()
    assert kept == content or not content  # HDF5 makes a new file of an empty one
    assert "all rows are computed again; it is now called a.h5.partial.damaged" in caplog.text
