"""`genreclf similar`: nearest tracks of a library, copies of the same recording first."""

import csv
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import EMBEDDING
from encode import make_song, run_ffmpeg

from genreclf.audio import tags
from genreclf.audio.descriptions import describe_features, identify_features
from genreclf.commands import similar
from genreclf.data.library import Library
from genreclf.data.library_files import read_library, write_library
from genreclf.data.similarity import Neighbour
from genreclf.errors import InputError

RATE = 22050


@pytest.fixture(scope="module")
def songs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five songs, a copy of the first one that is cut by 2.2 s, and one with an odd name."""
    folder = tmp_path_factory.mktemp("songs")
    for seed in range(5):
        soundfile.write(folder / f"{seed}.flac", make_song(seed), RATE)
    (folder / "copies").mkdir()
    tags = ("-metadata", "artist=The Band", "-metadata", "title=Song, again")
    arguments = ("-ss", "2.2", "-b:a", "96k", *tags)
    run_ffmpeg("-i", folder / "0.flac", *arguments, folder / "copies" / "cut.mp3")
    shutil.copy(folder / "4.flac", os.fsencode(folder) + b"/caf\xe9.flac")
    return folder


@pytest.fixture(scope="module")
def library(songs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from genreclf.commands import hydra_app

    file = tmp_path_factory.mktemp("library") / "library.parquet"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HYDRA_FULL_ERROR", "1")
        place = [f"data.root={songs}", f"file={file}", f"outputs={file.parent}"]
        hydra_app.run("embed", "embed", [*EMBEDDING, *place])
    return file


def test_a_table_shows_the_same_recording_first(
    songs: Path, library: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert similar.main([str(songs / "0.flac"), "--library", str(library), "--top", "3"]) == 0
    first, *others = capsys.readouterr().out.splitlines()
    assert first.endswith(f"{songs}/copies/cut.mp3  The Band - Song, again  the same recording")
    assert len(others) == 2
    assert not any("same recording" in line for line in others)


def test_json_and_csv_hold_every_file_b11(
    songs: Path, library: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """B11: and bytes that are not UTF-8, as escapes."""
    quiet, bad = tmp_path / "quiet.wav", tmp_path / "bad.mp3"
    soundfile.write(quiet, 0.1 * make_song(4), RATE)
    bad.write_text("<html><body>not found</body></html>")
    files = [str(quiet), str(bad), str(songs)]
    given = [*files, "--library", str(library), "--format"]
    assert similar.main([*given, "json"]) == 1
    output = capsys.readouterr().out
    assert '/caf\\udce9.flac"' in output
    assert '"track_id": "caf\\udce9.flac"' in output  # as in the path, and as predict has paths
    found, failed, folder = map(json.loads, output.splitlines())
    assert failed == {"path": str(bad), "error": failed["error"]}
    assert "HTML" in failed["error"]
    assert folder["error"] == "a folder; the path of a file is needed"
    same = {Path(each["path"]).name for each in found["similar"] if each["same_recording"]}
    assert same == {"4.flac", os.fsdecode(b"caf\xe9.flac")}
    assert [each["same_recording"] for each in found["similar"]] == [True] * 2 + [False] * 5
    assert set(found["similar"][0]) == {
        *("path", "similarity", "same_recording", "title", "artist", "album", "genre", "track_id")
    }
    assert similar.main([*given, "csv", "--top", "2"]) == 1
    rows = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    assert [(row["file"], row["rank"]) for row in rows] == [
        *((files[0], "1"), (files[0], "2"), (files[1], ""), (files[2], ""))
    ]
    assert rows[0]["same_recording"] == "true"
    assert "HTML" in rows[2]["error"]


def test_audio_that_is_gone_is_not_compared(
    songs: Path, library: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = read_library(library)
    found.texts["path"][:] = [f"/gone/{name}" for name in found.texts["track_id"]]
    write_library(tmp_path / "moved.npz", found)
    song = str(songs / "0.flac")
    assert similar.main([song, "--library", str(tmp_path / "moved.npz")]) == 0
    output = capsys.readouterr()
    assert output.err == (
        f"genreclf: {song}: none of these files can be read to compare their recordings\n"
    )
    assert len(output.out.splitlines()) == 7


def test_titles_are_read_in_one_go_of_a_store(
    songs: Path, library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of each file without tags, such as these, a process of its own had to read them."""
    found, started = read_library(library), []
    names = ("1.au", "2.au", "3.au")
    for name in names:
        soundfile.write(tmp_path / name, make_song(0, 1), RATE)
    found.texts["path"][:3] = [str(tmp_path / name) for name in names]
    found.texts["title"][:] = [""] * 3 + ["Known"] * 4
    start = tags.map_in_order
    monkeypatch.setattr(tags, "map_in_order", lambda *given: started.append(1) or start(*given))
    near = [Neighbour(row, 0.5, False) for row in range(7)]
    shown = similar._describe(near, found)
    assert [each.title for each in shown] == found.texts["title"]
    assert not started, "embed has read them"
    similar._describe(near, Library(**{**vars(found), "has_titles": False}))
    assert len(started) == 1


def fail(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert similar.main(list(arguments)) == 1
    output = capsys.readouterr()
    assert output.out == ""
    (line,) = output.err.splitlines()
    return line


def change(library: Path, path: Path, **values: object) -> str:
    """Write a library again with other values."""
    write_library(path, Library(**{**vars(read_library(library)), **values}))
    return str(path)


def test_a_library_that_cannot_be_used_is_one_line(
    songs: Path, library: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    song, file = str(songs / "0.flac"), tmp_path / "a.npz"
    found = read_library(library)
    line = fail(capsys, song, "--library", str(tmp_path / "none.npz"))
    assert line == f"genreclf: {tmp_path}/none.npz: no such file or folder"
    other = change(library, file, identity={**found.identity, "version": 0})
    assert fail(capsys, song, "--library", other).startswith(
        f"genreclf: {file}: its embeddings were made by genreclf.audio.Mel, version 0, this "
        "installation has genreclf.audio.Mel, version 1: write it again with genreclf embed"
    )
    short = np.zeros((7, 3), np.float32)
    other = change(library, file, size=3, read_blocks=lambda: iter([short]))
    assert "have 3 values, but features=mel have 40" in fail(capsys, song, "--library", other)
    finished = change(library, file, features={"name": "precomputed"})
    assert "did not come from audio" in fail(capsys, song, "--library", finished)
    unknown = change(library, file, features={"name": "unheard-of"})
    assert "not known to this version of genreclf" in fail(capsys, song, "--library", unknown)
    own = change(library, file, features={"_target_": "mypackage.Loudness"})
    assert "--trust mypackage" in fail(capsys, song, "--library", own)
    empty = change(
        library,
        file,
        durations=np.zeros(0, np.float32),
        texts={name: [] for name in found.texts},
        read_blocks=lambda: iter(()),
    )
    assert "no tracks in it" in fail(capsys, song, "--library", empty)
    (tmp_path / "empty").mkdir()
    line = fail(capsys, song, "--library", str(tmp_path / "empty"), "--outputs", str(tmp_path))
    assert "no audio file in this folder" in line


def test_weights_that_are_missing_are_one_line(
    songs: Path,
    library: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from genreclf.models import MusicnnEmbedding

    monkeypatch.setenv("GENRECLF_CACHE", str(tmp_path))
    features = MusicnnEmbedding()
    identity, described = identify_features(features), describe_features(features)
    embedded = change(library, tmp_path / "a.npz", features=described, identity=identity)
    line = "needs the weights of musicnn: type genreclf download model=musicnn"
    song, outputs = str(songs / "0.flac"), str(tmp_path)
    assert line in fail(capsys, song, "--library", str(songs), "--outputs", outputs)
    assert line in fail(capsys, song, "--library", embedded)


def test_options_are_named_as_similar_takes_them(
    songs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The line of a full disk said outputs=..., which similar does not know."""

    def refuse(*_: object, **__: object) -> None:
        raise InputError("the disk is full; choose another: outputs=... or trust=[a.B]")

    monkeypatch.setattr(similar, "_open_library", refuse)
    line = fail(capsys, str(songs / "0.flac"), "--library", str(tmp_path))
    assert line == "genreclf: the disk is full; choose another: --outputs ... or --trust a.B"


def test_a_library_is_named_as_it_was_typed(
    musicnn_weights: Path, songs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Errors and warnings of data=files name data.root, which similar does not know."""
    place = tmp_path / "music"
    place.mkdir()
    given = [str(songs / "0.flac"), "--library", str(place), "--outputs", str(tmp_path)]
    assert fail(capsys, *given).startswith(f"genreclf: --library {place}: no audio file in this")
    (place / "bad.mp3").write_text("<html>")
    (place / "link").symlink_to(place)
    assert similar.main(given) == 1  # no track gives an embedding
    assert capsys.readouterr().err.startswith("genreclf: --library: ")
    shutil.rmtree(tmp_path / "stores")
    (tmp_path / "stores").touch()
    line = fail(capsys, *given)
    assert line.startswith(f"genreclf: --outputs {tmp_path}/stores/digests.json cannot be written")


def test_wrong_usage_has_status_2(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in ([], ["a.mp3"], ["a.mp3", "--library", "b", "--top", "0"]):
        with pytest.raises(SystemExit) as raised:
            similar.main(arguments)
        assert raised.value.code == 2
    assert "--top" in capsys.readouterr().err


@pytest.mark.slow
def test_a_folder_is_embedded_once(
    musicnn_weights: Path,
    songs: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = [str(songs / "0.flac"), "--library", str(songs), "--outputs", str(tmp_path)]
    assert similar.main([*given, "--format", "json"]) == 0
    output = capsys.readouterr()
    (first, *others) = json.loads(output.out)["similar"]
    assert first["same_recording"]
    assert (first["artist"], first["title"]) == ("The Band", "Song, again")
    assert "7/7" in output.err
    assert len(others) == 5
    (store,) = tmp_path.glob("stores/*.h5")
    before = store.stat().st_mtime_ns
    assert similar.main(given) == 0
    assert store.stat().st_mtime_ns == before
    assert capsys.readouterr().err == ""


@pytest.mark.slow
def test_the_same_recording_of_real_music_is_found(
    musicnn_weights: Path,
    real_music: Path,
    tmp_path: Path,
    command: Callable[..., str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """072 and 075 are one song; 080 is by the same artist."""
    for name in ("rock/072", "rock/075", "rock/080", "classical/054"):
        shutil.copy(real_music / f"{name}.mp3", tmp_path)
    command("embed", f"data.root={tmp_path}", f"file={tmp_path}/a.npz")
    song = str(tmp_path / "072.mp3")
    assert similar.main([song, "--library", f"{tmp_path}/a.npz", "--format", "csv"]) == 0
    rows = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    assert [Path(row["path"]).name for row in rows][:2] == ["075.mp3", "080.mp3"]
    assert [row["same_recording"] for row in rows] == ["true", "false", "false"]
