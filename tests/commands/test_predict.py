import csv
import dataclasses
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest
import soundfile
import torch
from conftest import TINY
from rich.cells import cell_len

import genreclf
from genreclf.audio import Mel, MelFrames, decode
from genreclf.audio.workers import extract, extract_windows
from genreclf.commands import plain_options, predict
from genreclf.data import Folder
from genreclf.data.build_store import build_store
from genreclf.errors import InputError
from genreclf.evaluation import inputs
from genreclf.evaluation.prediction import Prediction, TimelineEntry
from genreclf.models.checkpoint import load_checkpoint
from genreclf.paths import format_path

RATE = 22050


@pytest.fixture(scope="session")
def checkpoint(music: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    data = ["data=folder", f"data.root={music}", "data.duration=2.5", *TINY]
    place = tmp_path_factory.mktemp("predict")
    return trained(*data, f"outputs={place}")


def trained(*arguments: str) -> str:
    """The checkpoint of one epoch."""
    command = [sys.executable, "-m", "genreclf", "train", *arguments, "trainer.max_epochs=1"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return str(Path(done.stdout.splitlines()[-1]).parent / "best.ckpt")


@pytest.fixture
def files(tmp_path: Path, music: Path) -> Path:
    """Good clips, one of them an MP3, at two depths; and one of each kind that cannot be used."""
    folder = tmp_path / "my music"
    (folder / "deep" / "er").mkdir(parents=True)
    mp3 = next(music.rglob("*.mp3"))
    (folder / "a.mp3").write_bytes(mp3.read_bytes())
    (folder / "deep" / "er" / "b.MP3").write_bytes(mp3.read_bytes())
    (folder / "notes.txt").write_text("no audio")
    (folder / "broken.mp3").write_bytes(b"no audio either" * 100)
    (folder / "empty.wav").touch()
    soundfile.write(folder / "silent.wav", np.zeros(3 * RATE), RATE)
    soundfile.write(folder / "short.wav", noise(1), RATE)
    return folder


def noise(seconds: float, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-0.5, 0.5, int(seconds * RATE))


@pytest.mark.slow
def test_folders_are_searched_and_each_bad_file_has_its_line(
    checkpoint: str, files: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert predict.main([str(files), "--checkpoint", checkpoint, "--format", "json"]) == 1
    out, err = capfd.readouterr()
    lines = [json.loads(line) for line in out.splitlines()]
    found = {Path(line.pop("path")).relative_to(files).as_posix(): line for line in lines}
    assert list(found) == sorted(found)
    errors = {path: line["error"] for path, line in found.items() if "error" in line}
    assert errors["empty.wav"] == "does not decode: the file is empty"
    assert errors["short.wav"].startswith("too short: 1.00 s")
    assert errors["silent.wav"].startswith("silent")
    assert errors["broken.mp3"] == "not audio: text"
    assert set(found) - set(errors) == {"a.mp3", "deep/er/b.MP3"}
    assert err == "genreclf: skipped 1 file that is not audio: 1 .txt\n"
    assert found["a.mp3"] == found["deep/er/b.MP3"]
    scores = found["a.mp3"]["scores"]
    assert found["a.mp3"]["genre"] == next(iter(scores))
    assert list(scores.values()) == sorted(scores.values(), reverse=True)
    assert sum(scores.values()) == pytest.approx(1)


def test_scores_are_those_of_the_features_and_the_net(checkpoint: str, music: Path) -> None:
    trained = load_checkpoint(checkpoint)
    path = sorted(music.rglob("*.mp3"))[5]
    prediction = genreclf.load(checkpoint, "cpu").predict(path)
    features, *_ = extract(path, trained.features)
    with torch.inference_mode():
        rows = trained.normalise(torch.from_numpy(features)[None])
        expected = trained.net.eval()(rows).softmax(dim=1)[0].numpy()
    got = [prediction.scores[genre] for genre in trained.classes]
    np.testing.assert_allclose(got, expected, atol=1e-5)


def test_a_long_file_has_a_timeline_whose_mean_are_its_scores(
    checkpoint: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "long.flac"
    soundfile.write(path, noise(9.5), RATE)  # three windows of 2.5 s and 2 s, the last one whole
    assert predict.main([str(path), "--checkpoint", checkpoint, "--format", "json"]) == 0
    line = json.loads(capfd.readouterr().out)
    parts = [(part["start"], part["end"]) for part in line["timeline"]]
    np.testing.assert_allclose(parts, [(0, 2.5), (2.5, 5), (5, 7.5), (7, 9.5)])
    parts = list(decode.read_windows(path, None, 2.5))
    for number, (_, waveform, rate, *_) in enumerate(parts):
        soundfile.write(tmp_path / f"{number}.wav", waveform, rate, subtype="FLOAT")
    paths = [str(tmp_path / f"{number}.wav") for number in range(len(parts))]
    alone = list(genreclf.load(checkpoint).predict(paths))
    for genre, score in line["scores"].items():
        mean = np.mean([prediction.scores[genre] for prediction in alone])
        assert score == pytest.approx(mean, abs=1e-5)
    for part, prediction in zip(line["timeline"], alone, strict=True):
        assert part["score"] == pytest.approx(prediction.scores[part["genre"]], abs=1e-5)


def test_the_table_shows_the_likeliest_genres_and_where_they_change(
    checkpoint: str, files: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert predict.main([str(files), "--checkpoint", checkpoint, "--top", "2"]) == 1
    out, err = capfd.readouterr()
    vocabulary, first, second = out.splitlines()
    assert vocabulary == "vocabulary: 4 genres: Ambient, Dance, Folk, Rock"
    assert first.startswith(str(files / "a.mp3"))
    assert first.count(" %") == 2
    assert first.partition(".mp3")[2].split() == second.partition(".MP3")[2].split()
    assert f"genreclf: {files / 'empty.wav'}: does not decode" in err
    windows = [(0.0, 30.0, "Rock", 0.9), (30.0, 60.0, "Rock", 0.8), (60.0, 90.0, "Jazz", 0.7)]
    timeline = [TimelineEntry(*window) for window in windows]
    predict.WRITERS["table"](["x"], 1)(Prediction("x", {"Rock": 0.8}, timeline))
    assert capfd.readouterr().out.splitlines() == ["x  Rock  80 %", "   (0:00 Rock, 1:00 Jazz)"]


def test_csv_has_a_row_for_each_genre(
    checkpoint: str, files: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    arguments = [str(files / "a.mp3"), str(files / "empty.wav"), "--format", "csv"]
    assert predict.main([*arguments, "--checkpoint", checkpoint]) == 1
    rows = list(csv.DictReader(io.StringIO(capfd.readouterr().out)))
    assert [bool(row["error"]) for row in rows] == [False] * 4 + [True]
    assert sum(float(row["score"]) for row in rows[:4]) == pytest.approx(1, abs=1e-5)


def test_many_files_are_decoded_by_several_processes_with_the_same_result(
    checkpoint: str, music: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [str(path) for path in sorted(music.rglob("*.mp3"))]
    model = genreclf.load(checkpoint)
    monkeypatch.setattr(inputs, "count_available_cores", lambda: 1)
    alone = list(model.predict(paths))
    monkeypatch.setattr(inputs, "count_available_cores", lambda: 2)
    for found, expected in zip(model.predict(paths), alone, strict=True):
        assert found.scores == pytest.approx(expected.scores, abs=1e-6)  # other batches
    assert [prediction.path for prediction in alone] == paths


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ([], "required: FILE_OR_FOLDER"),
        (["a.mp3", "--checkpoint", "x", "--top", "0"], "a whole number of at least 1 is needed"),
        (["a.mp3", "--checkpoint", "x", "--format", "xml"], "invalid choice: 'xml'"),
    ],
)
def test_wrong_usage_ends_with_2(
    arguments: list[str], line: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        predict.main(arguments)
    assert stop.value.code == 2
    assert line in capfd.readouterr().err


def test_what_is_not_there_has_a_line(
    checkpoint: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "nothing").mkdir()
    paths = [str(tmp_path / "nothing"), str(tmp_path / "gone.mp3")]
    assert predict.main([*paths, "--checkpoint", checkpoint]) == 1
    folder, file = capfd.readouterr().err.splitlines()
    assert "nothing: no audio file in this folder" in folder
    assert "gone.mp3: no such file" in file
    assert predict.main([*paths, "--checkpoint", "gone.ckpt"]) == 1
    assert "no such file" in capfd.readouterr().err


@pytest.mark.slow
def test_features_that_audio_does_not_give_are_refused(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    np.savez(
        tmp_path / "a.npz",
        features=np.random.default_rng(0).normal(size=(60, 8, 16)),
        labels=np.array(["a", "b"] * 30),
        track_ids=np.arange(60),
    )
    data = ["data=npz", f"data.path={tmp_path}/a.npz", "report=false"]
    checkpoint = trained(*data, f"outputs={tmp_path}")
    assert predict.main(["a.mp3", "--checkpoint", checkpoint]) == 1
    assert "precomputed features, which cannot be computed from audio" in capfd.readouterr().err


def test_a_run_folder_stands_for_its_best_checkpoint(
    checkpoint: str, music: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    clip = str(next(music.rglob("*.mp3")))
    for given in (checkpoint, str(Path(checkpoint).parent)):
        assert predict.main([clip, "--checkpoint", given, "--format", "json"]) == 0
    first, second = capfd.readouterr().out.splitlines()
    assert first == second


@pytest.mark.parametrize("device", ["cuda:7", "tape", "meta"])
def test_a_device_that_is_not_there_has_a_line(
    device: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert predict.main(["a.mp3", "--device", device]) == 1
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith(f"genreclf: --device {device}: ")
    assert "cpu" in line


@pytest.mark.parametrize("model", ["fma8", "tags"])
def test_it_imports_neither_training_nor_what_features_do_without(
    model: str, music: Path, request: pytest.FixtureRequest
) -> None:
    """They would take longer to import, and more memory, than a clip takes to predict."""
    if model == "tags":
        request.getfixturevalue("musicnn_weights")
    slow = ["pytorch_lightning", "torchmetrics", "torchaudio", "sklearn", "scipy", "yaml"]
    slow += ["librosa", "pandas", "matplotlib", "hydra", "wandb", "rich.console", "h5py"]
    code = (
        "import sys; from genreclf.commands.predict import main\n"
        f"status = main([{str(next(music.rglob('*.mp3')))!r}, '--checkpoint', {model!r}])\n"
        f"found = [name for name in {slow} if name in sys.modules]\n"
        "sys.exit(str(found) if found else status)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    if model == "fma8":  # musicnn does not need this band
        (note,) = done.stderr.splitlines()
        assert "lacks the band above 11025 Hz" in note
    else:
        assert not done.stderr
    assert done.returncode == 0


def test_a_closed_pipe_is_no_error_message(checkpoint: str, music: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "genreclf", "predict", music / "Rock", "--checkpoint", checkpoint],
        stdout=write,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(write)
    assert done.returncode == 1
    assert not done.stderr


def test_processes_that_decode_do_without_pytorch() -> None:
    """To import it takes each of them longer than to decode a clip."""
    code = "import sys, genreclf.audio.workers; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_trusted_modules_of_the_current_folder_are_found_b6(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """B6: training found them next to --config-dir, prediction did not."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("PYTHONPATH", "before")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lab_module.py").write_text("")
    (tmp_path / "numpy.py").write_text("")
    plain_options.find_modules_here(["numpy", "nowhere"])
    assert str(tmp_path) not in sys.path
    plain_options.find_modules_here(["lab_module.Net"])
    assert sys.path[-1] == str(tmp_path)
    assert os.environ["PYTHONPATH"].split(os.pathsep) == ["before", str(tmp_path)]


def test_what_to_trust_is_said_as_predict_takes_it_b8(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """B8: the line said trust=[...], which predict does not know."""

    def refuse(*_: object) -> None:
        raise InputError(
            "a.B is not imported; add trust=[a.B,torch.nn.Tanh] or checkpoint=b, "
            "not /map=c/ or d.device=e"
        )

    monkeypatch.setattr(genreclf, "load", refuse)
    assert predict.main(["a.wav"]) == 1
    assert capsys.readouterr().err == (
        "genreclf: a.B is not imported; add --trust a.B --trust torch.nn.Tanh or --checkpoint b, "
        "not /map=c/ or d.device=e\n"
    )


@pytest.fixture
def model(checkpoint: str) -> genreclf.Model:
    return genreclf.load(checkpoint, "cpu")


@pytest.mark.parametrize("level", [0.0, 3e-5])
def test_silence_has_no_vote_c8(model: genreclf.Model, level: float, tmp_path: Path) -> None:
    """C8: music followed by silence, exact or nearly, has the genre of the music."""
    music, rest = noise(5), level * noise(6.5, 1)
    alone = model.predict((music, RATE))
    assert model.predict((np.concatenate([music, rest]), RATE)).scores == pytest.approx(
        alone.scores
    )
    for longer in (np.concatenate([music, noise(n, 2)]) for n in (0.5, 3.0)):
        alone = model.predict((longer, RATE))
        found = model.predict((np.concatenate([rest, longer, rest]), RATE))
        assert len(found.timeline) == len(alone.timeline)
        assert found.scores == pytest.approx(alone.scores, abs=1e-4)


def test_hours_of_silence_are_no_stall(tmp_path: Path) -> None:
    """C4: a worker shows that it goes on while a file is silent."""
    path = tmp_path / "silent.flac"
    samples = np.zeros(60 * RATE, np.int16)
    samples[: 10 * RATE] = 1000 * noise(10)
    soundfile.write(path, samples, RATE)
    windows = list(extract_windows(str(path), MelFrames(duration=5.0)))
    assert [window is None for window in windows] == [False] * 2 + [True] * 11


def test_features_that_are_not_finite_are_a_line_for_their_file_c2(
    checkpoint: str, tmp_path: Path, music: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """C2: a file of absurd samples is rejected by name in predict and prepare, and no other is."""
    root = tmp_path / "music"
    shutil.copytree(music, root)
    loud = root / "Rock" / "loud.wav"
    soundfile.write(loud, 1e30 * noise(3), RATE, subtype="DOUBLE")
    files = [str(loud), str(root / "Rock" / "01-01.mp3")]
    assert predict.main([*files, "--checkpoint", checkpoint, "--format", "json"]) == 1
    bad, good = map(json.loads, capfd.readouterr().out.splitlines())
    assert "finite" in bad["error"] or "full scale" in bad["error"]
    assert good["genre"]
    features = Mel(duration=2.5, n_mels=16, n_fft=1024, hop_length=1024)
    store = build_store(Folder(root, 2.5), features, outputs=tmp_path)
    assert len(store) == 48
    (rejected,) = store.rejected
    assert rejected["track_id"] == "Rock/loud.wav"


def test_windows_may_overlap(model: genreclf.Model, capfd: pytest.CaptureFixture[str]) -> None:
    """C10: with an overlap of one half there are about twice as many windows."""
    audio = (noise(10), RATE)
    starts = [window.start for window in model.predict(audio, overlap=0.5).timeline]
    np.testing.assert_allclose(starts, np.arange(0, 7.6, 1.25), atol=1e-3)
    for wrong in (1.0, -0.1, float("nan"), "a"):
        with pytest.raises(InputError, match="at least 0 and below 1"):
            model.predict(audio, overlap=wrong)  # pyright: ignore
    with pytest.raises(SystemExit):
        predict.main(["a.wav", "--overlap", "1"])
    assert "a number from 0 to below 1 is needed" in capfd.readouterr().err


def test_a_long_timeline_fits_on_a_terminal_c10(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """C10: a mix of 3 h with hundreds of changes is a few lines; JSON has every window."""
    monkeypatch.setenv("COLUMNS", "80")
    genres = np.random.default_rng(0).choice(["Experimental", "International", "Rock"], 360)
    timeline = [TimelineEntry(30.0 * i, 30.0 * i + 30, str(g), 0.5) for i, g in enumerate(genres)]
    blocks = ["Experimental", "International"] * 3
    for i in range(360):
        timeline.append(TimelineEntry(10800 + 30.0 * i, 10830 + 30.0 * i, blocks[i // 60], 0.9))
    prediction = Prediction("mix.flac", {"Rock": 1.0}, timeline)
    predict.WRITERS["table"](["mix.flac"], None)(prediction)
    _, *rest = capsys.readouterr().out.splitlines()
    assert 1 <= len(rest) <= 4
    assert all(len(line) <= 80 for line in rest)
    assert "3:30:00 International" in "".join(rest)
    predict.WRITERS["json"](["mix.flac"], None)(prediction)
    assert len(json.loads(capsys.readouterr().out)["timeline"]) == 720


def test_notes_are_shown_in_each_format(capsys: pytest.CaptureFixture[str]) -> None:
    """C11: what decoding has to say about a file is on stderr, in JSON and in a column of CSV."""
    prediction = Prediction("a.mp3", {"Rock": 1.0}, [], notes=["only 20 of 60 s decode", "8 kHz"])
    predict.WRITERS["json"](["a.mp3"], None)(prediction)
    assert json.loads(capsys.readouterr().out)["notes"] == prediction.notes
    predict.WRITERS["csv"](["a.mp3"], None)(prediction)
    (row,) = csv.DictReader(io.StringIO(capsys.readouterr().out))
    assert row["notes"] == "only 20 of 60 s decode; 8 kHz"
    timeline = [TimelineEntry(0, 30, "Rock", 1.0)]
    predict.WRITERS["table"](["a.mp3"], None)(dataclasses.replace(prediction, timeline=timeline))
    assert capsys.readouterr().err.splitlines() == [
        "genreclf: a.mp3: only 20 of 60 s decode",
        "genreclf: a.mp3: 8 kHz",
    ]


def test_columns_of_the_table_are_aligned_on_the_screen(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A letter takes 0, 1 or 2 columns; a name is shown as in all other messages."""
    accent, bytes_ = "cafe\u0301.mp3", os.fsdecode(b"latin1 \xe9.mp3")
    names = ["日本の音楽.mp3", accent, bytes_, "🎸 👩‍🎤.mp3", "שיר.mp3", "\u202egpj.mp3", "a.mp3"]
    write = predict.WRITERS["table"](names, None)
    for name in names:
        timeline = [TimelineEntry(0, 30, "Pop", 1.0)]
        write(Prediction(name, {"ロック": 0.75, "Pop": 0.25}, timeline, "", []))
    lines = capsys.readouterr().out.splitlines()
    for name, line in zip(names, lines, strict=True):
        assert line.startswith(format_path(name))
    assert {cell_len(line.partition("ロック")[0]) for line in lines} == {17}
    assert {cell_len(line.partition("Pop")[0]) for line in lines} == {31}
    assert lines[5].startswith(r"\u202egpj.mp3")


def test_genres_cannot_break_a_line_of_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    genres = ["\x1b[31mred", "a\nb"]
    timeline = [TimelineEntry(30 * n, 30 * n + 30, genre, 1.0) for n, genre in enumerate(genres)]
    write = predict.WRITERS["table"](["a.mp3"], None)
    write(Prediction("a.mp3", dict.fromkeys(genres, 0.5), timeline * 4, "", []))
    output = capsys.readouterr().out
    assert "\x1b" not in output
    assert output.splitlines()[0].startswith(r"a.mp3  \x1b[31mred")


PREDICT = [sys.executable, "-m", "genreclf", "predict"]
NAMES = ["日本.mp3", os.fsdecode(b"latin1 \xe9.mp3"), "line\nbreak \x1b[31m.mp3"]


@pytest.mark.skipif(os.name == "nt", reason="names that Windows does not allow")
@pytest.mark.parametrize("kind", ["table", "json", "csv"])
def test_names_beyond_the_terminals_encoding_b11(
    kind: str, checkpoint: str, music: Path, tmp_path: Path
) -> None:
    """B11: JSON and CSV are UTF-8 in every terminal, and the table escapes what it cannot show."""
    clip = next(music.rglob("*.mp3")).read_bytes()
    for name in NAMES:
        Path(tmp_path, name).write_bytes(clip)
    done = subprocess.run(
        [*PREDICT, *NAMES, "--checkpoint", checkpoint, "--format", kind],
        cwd=tmp_path,
        env={**os.environ, "PYTHONIOENCODING": "cp1252"},
        capture_output=True,
    )
    assert (done.returncode, b"Traceback" in done.stderr) == (0, False), done.stderr
    if kind == "table":
        _, *lines = done.stdout.decode("cp1252").splitlines()
        starts = [r"\u65e5\u672c.mp3", r"latin1 \xe9.mp3", r"line\nbreak \x1b[31m.mp3"]
        assert all(line.startswith(start) for line, start in zip(lines, starts, strict=True))
    elif kind == "json":
        rows = map(json.loads, done.stdout.decode().splitlines())
        assert [row["path"] for row in rows] == NAMES
    else:
        rows = csv.DictReader(io.StringIO(done.stdout.decode()))
        found = list(dict.fromkeys(row["path"] for row in rows))
        assert found == [NAMES[0], r"latin1 \udce9.mp3", NAMES[2]]


@pytest.mark.skipif(os.name == "nt", reason="no SIGTERM")
def test_sigterm_leaves_nothing_behind_c9(checkpoint: str, music: Path, tmp_path: Path) -> None:
    """C9: a predict that is terminated ends with 143, without processes or files left behind."""
    files = [str(each) for each in music.rglob("*.mp3")] * 20
    process = subprocess.Popen(
        [*PREDICT, *files, "--checkpoint", checkpoint],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        text=True,
        start_new_session=True,
    )
    assert process.stdout
    process.stdout.readline()
    children = psutil.Process(process.pid).children(recursive=True)
    assert len(children) >= 2
    process.terminate()
    process.communicate(timeout=60)
    assert process.returncode == 143
    _, alive = psutil.wait_procs(children, timeout=20)
    assert not alive
    assert not list(tmp_path.iterdir())


class CrashingMel(Mel):
    """Features of the user's own that crash the process for one clip."""

    def __call__(self, waveform: np.ndarray, sample_rate: int) -> np.ndarray:
        if np.abs(waveform).max() < 0.02:
            os._exit(7)
        return super().__call__(waveform, sample_rate)


@pytest.mark.slow
def test_a_crash_costs_one_line_in_predict_and_prepare_c4(
    music: Path, tmp_path: Path, model: genreclf.Model
) -> None:
    """C4: a file that crashes its process has a line that says so; all others are answered."""
    root = tmp_path / "music"
    shutil.copytree(music, root)
    soundfile.write(root / "Rock" / "quiet.wav", 0.01 * noise(3), RATE)
    features = CrashingMel(duration=2.5, n_mels=32, n_fft=1024, hop_length=1024)
    store = build_store(Folder(root, 2.5), features, outputs=tmp_path)
    assert len(store) == 48
    (rejected,) = store.rejected
    assert rejected["reason"] == "computing features=mel ended its process (exit status 7)"
    model.features = features
    paths = sorted(map(str, root.glob("*/*")))
    found = list(model.predict(paths))
    assert [prediction.path for prediction in found] == paths
    errors = {Path(each.path).name: each.error for each in found if each.error}
    assert errors == {"quiet.wav": "computing features=mel ended its process (exit status 7)"}


def test_each_file_is_answered_once_and_an_empty_path_costs_a_line(
    tmp_path: Path, music: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """However often it is named: in folders that contain each other, by links, with dots."""
    folder = tmp_path / "a" / "b"
    folder.mkdir(parents=True)
    shutil.copy(next(music.rglob("*.mp3")), folder / "song.mp3")
    os.mkfifo(folder / "pipe.mp3")
    (tmp_path / "link.mp3").symlink_to(folder / "song.mp3")
    given = [folder, tmp_path / "a", folder / "song.mp3", f"{folder}/../b", tmp_path / "link.mp3"]
    status = predict.main(["", *map(str, given), "--checkpoint", "fma8", "--format", "json"])
    out, err = capsys.readouterr()
    assert status == 1
    assert [json.loads(line)["path"] for line in out.splitlines()] == [
        "",
        str(folder / "song.mp3"),
    ]
    assert json.loads(out.splitlines()[0])["error"] == "the path is empty; the current folder is ."
    assert err.count("song.mp3") == 0


def test_a_carriage_return_in_a_name_is_quoted_in_csv(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = "a\rb.mp3"
    predict.main([str(tmp_path / name), "--checkpoint", "fma8", "--format", "csv"])
    header, row = csv.reader(io.StringIO(capsys.readouterr().out, newline=""))
    assert row[header.index("path")] == str(tmp_path / name)
