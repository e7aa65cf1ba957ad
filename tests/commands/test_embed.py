"""`genreclf embed`: the embeddings of any tree of files, each file answered."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import EMBEDDING, heed_ctrl_c
from pyarrow import parquet

from genreclf.audio import tags
from genreclf.data import Npz
from genreclf.data.library_files import read_library


@pytest.fixture
def tree(music: Path, tmp_path: Path) -> Path:
    """Four clips at three depths, one with a name that is not UTF-8, and four bad files."""
    root, clips = tmp_path / "collection", sorted(music.rglob("*.mp3"))
    (root / "deep" / "er").mkdir(parents=True)
    for name, clip in zip(("a.mp3", "deep/b.mp3", "deep/er/日本.mp3"), clips, strict=False):
        shutil.copy(clip, root / name)
    shutil.copy(clips[3], os.fsencode(root) + b"/caf\xe9.mp3")
    shutil.copy(clips[3], root / "café.mp3")
    (root / "page.mp3").write_text("<!DOCTYPE html><html>")
    (root / "empty.wav").touch()
    soundfile.write(root / "silent.flac", np.zeros(66150), 22050)
    soundfile.write(root / "short.wav", np.random.default_rng(0).normal(0, 0.1, 9000), 22050)
    return root


def test_any_tree_of_files_is_embedded_b11(
    command: Callable[..., str], tree: Path, tmp_path: Path
) -> None:
    """B11: names that are not UTF-8 are kept apart from those that look alike."""
    file = tmp_path / "library.parquet"
    for _ in range(2):  # the second time, from the store
        assert command("embed", *EMBEDDING, f"data.root={tree}", f"file={file}") == str(file)
    found = read_library(file)
    names = {Path(path).name for path in found.texts["path"]}
    assert names == {"a.mp3", "b.mp3", "日本.mp3", os.fsdecode(b"caf\xe9.mp3"), "café.mp3"}
    ends = [Path(path).relative_to(tree).as_posix() for path in found.texts["path"]]
    assert found.texts["track_id"] == ends
    assert set(found.texts["genre"]) == {""}
    assert all(found.texts["artist"])
    assert all(found.texts["title"])
    assert found.size == 40
    table = parquet.read_table(file)
    assert "caf\\udce9.mp3" in {Path(path).name for path in table["path"].to_pylist()}


def test_each_bad_file_costs_a_line(tree: Path, tmp_path: Path) -> None:
    done = run(*EMBEDDING, f"data.root={tree}", f"file={tmp_path}/a.npz", f"outputs={tmp_path}")
    assert done.returncode == 0, done.stderr
    lines = (done.stdout + done.stderr).splitlines()
    bad = {"page.mp3": "HTML", "empty.wav": "empty", "silent.flac": "silent", "short.wav": "short"}
    for name, reason in bad.items():
        (line,) = (each for each in lines if f"{name}: " in each and "tags" not in each)
        assert reason in line
    assert lines[-1] == f"{tmp_path}/a.npz"
    assert "5 embeddings of 40 values" in lines[-2]


def test_tags_are_read_once(
    command: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Artists, albums and titles come from one reading, also of files without any tags."""
    started, read, start, open_tags = [], list[str](), tags.map_in_order, tags._read_here
    for name in ("1.au", "2.au", "3.au"):
        soundfile.write(tmp_path / name, np.random.default_rng(0).normal(0, 0.1, 66150), 22050)
    monkeypatch.setattr(tags, "map_in_order", lambda *given: started.append(1) or start(*given))
    monkeypatch.setattr(tags, "_read_here", lambda path: [read.append(path), open_tags(path)][1])
    for count in (1, 2):  # the second time, from the store
        command("embed", *EMBEDDING, f"data.root={tmp_path}", f"file={tmp_path}/a.npz")
        assert (len(started), len(read)) == (count, 3 * count)


def test_titles_of_data_that_reads_no_tags_are_read(
    command: Callable[..., str], music: Path, tmp_path: Path
) -> None:
    """A table gives artists and albums of its own, and no titles."""
    clips = sorted(music.rglob("*.mp3"))[:2]
    rows = "".join(f"{clip},a,Someone\n" for clip in clips)
    (tmp_path / "a.csv").write_text(f"path,genre,artist\n{rows}")
    table, file = ["data=table", f"data.path={tmp_path}/a.csv"], tmp_path / "a.npz"
    for data in (table, []):  # the second time, of the store that it names
        command("embed", *EMBEDDING, *data, f"store={tmp_path}/a.h5", f"file={file}")
        found = read_library(file)
        assert all(found.texts["title"])
        assert set(found.texts["artist"]) == {"Someone"}


@pytest.mark.slow
def test_data_with_genres_can_be_trained_on_as_npz(
    command: Callable[..., str], music: Path, tmp_path: Path
) -> None:
    file = tmp_path / "a.npz"
    command("embed", *EMBEDDING, "data=folder", f"data.root={music}", f"file={file}")
    assert len(Npz(file).tracks()) == 48
    train = ["train", "data=npz", f"data.path={file}", "model=svm", "split=artist", "report=false"]
    assert command(*train).endswith("result.json")


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "genreclf", "embed", *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
    )


def fail(command: Callable[..., str], capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit):
        command("embed", *arguments)
    return capsys.readouterr().err.splitlines()[-1]


def test_mistakes_are_a_line_before_anything_is_decoded(
    command: Callable[..., str],
    music: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    root, file = f"data.root={music}", f"file={tmp_path}/a.npz"
    for name in ("empty", "empty.npz"):
        (tmp_path / name).mkdir()
    (tmp_path / "a.npz.file").touch()
    cases = {
        (f"file={tmp_path}/a.npz.file/a.npz", root): "cannot be written (Not a directory); choose",
        (f"file={'a' * 300}.npz", root): "cannot be written (File name too long); choose another",
        (f"file={tmp_path}/empty.npz", root): "empty.npz: a folder; the name of a file is needed",
        (file, root, f"store={tmp_path}/a.npz.file/a.h5"): "a.h5 cannot be written (Not a direct",
        ("file=a.csv", root): "file=a.csv: its name has to end in .parquet or .npz",
        (root,): "file",
        (file, root, "features=mel"): "features=mel: 128 values in each of 1292 frames are no emb",
        (file, f"data.root={tmp_path}/empty"): "no audio file in this folder (.mp3, .wav, ",
        (file, f"data.root={tmp_path}/none"): "none: no such folder",
        (file, root, "store=a.h5", "features=musicnn_frames"): "are no embedding",
    }
    monkeypatch.chdir(tmp_path)
    for arguments, message in cases.items():
        assert message in fail(command, capsys, *arguments), arguments
    monkeypatch.setenv("GENRECLF_CACHE", str(tmp_path))
    line = "features=musicnn needs the weights of musicnn: type genreclf download model=musicnn"
    assert line in fail(command, capsys, file, root)
    assert not list(tmp_path.rglob("*.h5*"))


@pytest.mark.slow
def test_tracks_without_genres_are_not_trained_on(
    command: Callable[..., str], music: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = ["data=files", f"data.root={music}", "data.duration=2.5"]
    for name in ("train", "evaluate"):
        arguments = [*data, *["checkpoint=pretrained"] * (name == "evaluate")]
        with pytest.raises(SystemExit):
            command(name, *arguments)
        assert "these tracks have no genres, as with data=files" in capsys.readouterr().err


@pytest.mark.slow
def test_after_kill_9_it_goes_on(music: Path, tmp_path: Path) -> None:
    root = tmp_path / "many"
    for copy in range(4):
        shutil.copytree(music, root / str(copy))
    arguments = [*EMBEDDING, f"data.root={root}", f"outputs={tmp_path}", "workers=1"]
    command = [sys.executable, "-m", "genreclf", "embed", *arguments, f"file={tmp_path}/a.npz"]
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, preexec_fn=heed_ctrl_c, start_new_session=True
    )
    deadline, changes = time.monotonic() + 60, set[int]()
    while len(changes) < 5 and time.monotonic() < deadline:  # until some tracks are in
        changes |= {file.stat().st_mtime_ns for file in tmp_path.glob("stores/*.partial")}
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait(60)
    assert len(changes) >= 5
    assert not (tmp_path / "a.npz").exists()
    done = run(*arguments, f"file={tmp_path}/a.npz")
    assert "continuing after" in done.stdout, done.stderr
    found = read_library(tmp_path / "a.npz")
    rows = np.concatenate(list(found.read_blocks()))
    assert len(rows) == 4 * 48
    assert len({row.tobytes() for row in rows}) == 48
