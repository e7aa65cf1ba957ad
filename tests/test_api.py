"""The Python API: what `import genreclf` offers."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

import genreclf
from genreclf import models
from genreclf.audio.workers import extract_windows
from genreclf.errors import InputError
from genreclf.models.model_files import PRETRAINED

RATE = 22050
NAMES = [
    *("Classifier", "Model", "Prediction", "Run", "Runs", "Store", "StoreDataModule"),
    *("load", "read_runs"),
]


@pytest.fixture(scope="module")
def model() -> genreclf.Model:
    return genreclf.load("pretrained", "cpu")


@pytest.fixture(scope="module")
def clips(music: Path) -> list[Path]:
    return sorted(music.rglob("*.mp3"))[::8]


def make_noise(seconds: float, channels: int = 1, rate: int = RATE) -> np.ndarray:
    shape = channels, int(seconds * rate)
    return np.random.default_rng(0).uniform(-0.5, 0.5, shape).astype(np.float32)


def test_importing_it_imports_nothing_slow() -> None:
    slow = ["numpy", "torch", "pytorch_lightning", "librosa", "scipy", "h5py", "hydra"]
    code = (
        "import sys, genreclf; print(genreclf.__version__); "
        f"sys.exit(str([name for name in {slow} if name in sys.modules] or ''))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == genreclf.__version__
    assert not done.stderr.strip()


def test_it_lists_its_names_and_has_each_d18() -> None:
    """D18: the package offers its public names, a version, and types."""
    assert dir(genreclf) == NAMES
    assert all(getattr(genreclf, name).__doc__ for name in NAMES)
    assert (Path(genreclf.__file__).parent / "py.typed").exists()
    with pytest.raises(AttributeError):
        genreclf.nothing  # noqa: B018  # pyright: ignore


def test_a_model_has_classes_and_features(model: genreclf.Model) -> None:
    assert len(model.classes) == 8
    assert model.features.name == "mel_frames"
    assert model.device == torch.device("cpu")


def test_a_prediction_ranks_the_genres(model: genreclf.Model, clips: list[Path]) -> None:
    prediction = model.predict(clips[0])
    assert isinstance(prediction, genreclf.Prediction)
    assert prediction.path == str(clips[0])
    assert sorted(prediction.scores) == model.classes
    assert list(prediction.scores.values()) == sorted(prediction.scores.values(), reverse=True)
    assert prediction.genre == next(iter(prediction.scores))
    assert prediction.timeline[0].genre == prediction.genre
    assert prediction.timeline[0].score == prediction.scores[prediction.genre]
    assert not prediction.error
    assert model.predict(str(clips[0])) == prediction


def test_many_files_give_an_iterator_in_their_order(
    model: genreclf.Model, clips: list[Path], tmp_path: Path
) -> None:
    paths = [*clips, tmp_path / "gone.mp3"]
    found = model.predict(paths)
    assert isinstance(found, Iterator)
    *good, bad = found
    assert [prediction.path for prediction in good] == [str(path) for path in clips]
    alone = [model.predict(path) for path in clips]
    for prediction, expected in zip(good, alone, strict=True):
        assert prediction.scores == pytest.approx(expected.scores, abs=1e-5)
    assert (bad.error, bad.scores, bad.genre, bad.timeline) == ("no such file", {}, "", [])
    assert list(model.predict([])) == []
    assert list(model.predict(clips[:1])) == alone[:1]


def test_no_file_is_looked_at_before_it_is_asked_for(
    model: genreclf.Model, clips: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of an endless row of files, only as many as the processes are ahead."""
    monkeypatch.setattr("genreclf.evaluation.inputs.count_available_cores", lambda: 1)
    asked = []

    def repeat() -> Iterator[Path]:
        while True:
            asked.append(clips[0])
            yield clips[0]

    predictions = model.predict(repeat())
    assert not asked
    next(predictions)
    assert 0 < len(asked) < 50
    predictions.close()  # pyright: ignore


@pytest.mark.parametrize("rate", [22050, 44100, 16000])
@pytest.mark.parametrize("kind", ["pretrained", "fixed_rate"])
def test_a_waveform_gives_what_its_file_gives(
    rate: int, kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """In stereo, longer than a window, at the features' rate and at others."""
    model: genreclf.Model = request.getfixturevalue("model" if kind == "pretrained" else kind)
    waveform = make_noise(33.5 if kind == "pretrained" else 6, channels=2, rate=rate)
    soundfile.write(tmp_path / "a.wav", waveform.T, rate, subtype="FLOAT")
    of_file, of_waveform = model.predict(tmp_path / "a.wav"), model.predict((waveform, rate))
    assert of_waveform.path == ""
    assert len(of_file.timeline) > 1
    assert of_waveform.timeline == of_file.timeline
    assert of_waveform.scores == of_file.scores
    assert model.predict((torch.from_numpy(waveform), float(rate))) == of_waveform
    np.testing.assert_array_equal(
        model.embed(tmp_path / "a.wav"), model.embed((waveform.astype(np.float64), rate))
    )


@pytest.fixture(scope="module")
def fixed_rate(tmp_path_factory: pytest.TempPathFactory) -> genreclf.Model:
    """An untrained CNN-GRU with windows of 2.5 s at 22,050 Hz, from a checkpoint file."""
    features = {"name": "mel", "duration": 2.5, "n_mels": 32}
    return load_untrained(tmp_path_factory.mktemp("model"), "CNNRNN", features)


def load_untrained(folder: Path, name: str, features: dict) -> genreclf.Model:
    torch.manual_seed(0)
    net = getattr(models, name)(3)
    described = {
        "format": 1,
        "classes": ["a", "b", "c"],
        "model": {"_target_": f"genreclf.models.{name}"},
        "features": features,
        "bins": 32,
        "trained_on": {},
    }
    weights = {f"net.{key}": value for key, value in net.state_dict().items()}
    content = {"genreclf": described, "state_dict": weights, "epoch": 0}
    torch.save(content, folder / "best.ckpt")
    return genreclf.load(folder / "best.ckpt", "cpu")


def test_a_model_comes_from_a_name_a_file_or_a_folder(
    model: genreclf.Model, fixed_rate: genreclf.Model, clips: list[Path], tmp_path: Path
) -> None:
    assert genreclf.load(PRETRAINED, "cpu").predict(clips[0]) == model.predict(clips[0])
    own = load_untrained(tmp_path, "CNNRNN", {"name": "mel", "duration": 2.5, "n_mels": 32})
    of_folder = genreclf.load(tmp_path, "cpu")
    assert of_folder.predict(clips[0]) == own.predict(clips[0]) == fixed_rate.predict(clips[0])
    for gone, line in (("gone.ckpt", "no such file"), (tmp_path.parent, "no model.json")):
        with pytest.raises(InputError, match=line):
            genreclf.load(gone)
    with pytest.raises(InputError, match="device=tape: choose auto, cpu or cuda"):
        genreclf.load(device="tape")


def test_an_embedding_is_what_the_last_layer_decides_by(
    model: genreclf.Model, clips: list[Path]
) -> None:
    embedding = model.embed(clips[0])
    assert (embedding.dtype, embedding.shape) == (np.float32, (608,))
    last = model.trained.net.classifier[1]  # pyright: ignore
    with torch.no_grad():
        scores = last(torch.from_numpy(embedding)).softmax(dim=0).tolist()
    expected = model.predict(clips[0]).scores
    assert dict(zip(model.classes, scores, strict=True)) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    ("name", "size"), [("CNNRNN", 32), ("EfficientCNN", 32), ("ConventionalCNN", 256)]
)
def test_a_model_without_an_embedding_gives_the_input_of_its_last_layer(
    name: str, size: int, tmp_path: Path
) -> None:
    features = {"name": "mel", "duration": 2.5, "n_mels": 32}
    model, audio = load_untrained(tmp_path, name, features), (make_noise(6), RATE)
    embedding = model.embed(audio)
    assert (embedding.dtype, embedding.shape) == (np.float32, (size,))
    windows = [each for each in extract_windows((audio[0], RATE), model.features) if each]
    last = model.trained.net.classifier[-1]  # pyright: ignore
    inputs: list[torch.Tensor] = []
    last.register_forward_pre_hook(lambda _, arguments: inputs.append(arguments[0]))
    rows = torch.from_numpy(np.stack([window.features for window in windows]))
    with torch.no_grad():
        model.trained.net(rows)
    assert len(windows) == 2
    np.testing.assert_allclose(embedding, inputs[0].mean(dim=0), atol=1e-6)


@pytest.mark.parametrize(
    ("audio", "line"),
    [
        ((make_noise(3).astype(np.int16), RATE), "int16 of shape"),
        ((make_noise(3).T, RATE), r"\(channels, samples\) is needed, transpose it"),
        ((make_noise(3)[None], RATE), r"of shape \(1, 1, 66150\)"),
        ((make_noise(3), 0), "sample_rate=0: a number of Hz is needed"),
        ((make_noise(3), "fast"), "sample_rate='fast'"),
        ((make_noise(3), float("nan")), "sample_rate=nan"),
        (make_noise(3), r"\(waveform, sample_rate\) or an iterable of these is needed"),
        (7, "not int"),
        ([7], r"a path or \(waveform, sample_rate\) is needed, not int"),
    ],
)
def test_what_is_no_audio_is_refused(model: genreclf.Model, audio: object, line: str) -> None:
    with pytest.raises(InputError, match=line):
        list(model.predict(audio))  # pyright: ignore


@pytest.mark.parametrize(
    ("audio", "line"),
    [
        (([0.0] * 9000, RATE), r"a waveform is given as \(waveform, sample_rate\), in this order"),
        ((RATE, make_noise(3)), r"a waveform is given as \(waveform, sample_rate\), in this order"),
        (["song.mp3", 7], r"a waveform is given as"),
        (["a.mp3", "b.mp3", None], r"a path or \(waveform, sample_rate\) is needed, not NoneType"),
    ],
)
def test_what_is_no_audio_is_refused_when_it_is_given(
    model: genreclf.Model, audio: Any, line: str
) -> None:
    """C15: it was refused when the first prediction was requested, if at all."""
    with pytest.raises(InputError, match=line):
        model.predict(audio)
    model.predict(["a.mp3", Path("b.mp3"), (make_noise(3), RATE)])


@pytest.mark.parametrize("checkpoint", [None, 5, ["fma8"]])
def test_what_names_no_checkpoint_is_one_line(checkpoint: Any) -> None:
    with pytest.raises(InputError, match="the path of a checkpoint, or a name such as tags, is ne"):
        genreclf.load(checkpoint)


def test_a_checkpoint_that_git_lfs_has_not_fetched_is_named(tmp_path: Path) -> None:
    path = tmp_path / "best.ckpt"
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:aaaa\n")
    with pytest.raises(InputError, match=r"best\.ckpt: a pointer of Git LFS.*: git lfs pull"):
        genreclf.load(path)


@pytest.mark.parametrize(
    ("waveform", "reason"),
    [
        (make_noise(1), "too short: 1.00 s"),
        (np.zeros(3 * RATE, np.float32), "silent"),
        (np.full(3 * RATE, np.nan, np.float32), "samples that are not finite numbers"),
        (np.zeros(0, np.float32), "too short: 0.00 s"),
    ],
)
def test_audio_without_use_gives_its_reason(
    model: genreclf.Model, waveform: np.ndarray, reason: str
) -> None:
    assert reason in model.predict((waveform, RATE)).error
    with pytest.raises(InputError, match=f"waveform: .*{reason}"):
        model.embed((waveform, RATE))
    with pytest.raises(InputError, match=r"gone\.mp3: no such file"):
        model.embed("gone.mp3")


def test_a_folder_is_no_audio_file(model: genreclf.Model, music: Path) -> None:
    assert model.predict(music).error == "a folder; the paths of its files are needed"


def test_features_that_audio_does_not_give_are_refused(tmp_path: Path) -> None:
    model = load_untrained(tmp_path, "CNNRNN", {"name": "precomputed"})
    for use in (model.predict, model.embed):
        with pytest.raises(InputError, match="cannot be computed from audio"):
            use("a.mp3")


def test_damaged_weights_give_no_scores(tmp_path: Path) -> None:
    model = load_untrained(tmp_path, "CNNRNN", {"name": "mel", "duration": 2.5, "n_mels": 32})
    model.trained.net.classifier[1].bias.data[0] = torch.nan  # pyright: ignore
    with pytest.raises(InputError, match="weights are damaged"):
        model.predict((make_noise(3), RATE))
