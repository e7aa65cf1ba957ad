"""What is unlike the training data is called unknown."""

import csv
import dataclasses
import io
import json
import shutil
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nonmusic
import numpy as np
import pytest
import soundfile
import soxr
import torch

import genreclf
from genreclf.audio import MelFrames, Precomputed
from genreclf.commands import predict
from genreclf.data.store import Scaling
from genreclf.data.summaries import (
    expand_waveform,
    measure_texture,
    summarise_features,
    trim_padding,
)
from genreclf.errors import InputError
from genreclf.models.checkpoint import load_checkpoint
from genreclf.models.model_files import (
    DESCRIPTION,
    NOVELTY,
    PRETRAINED,
    read_exported,
    write_exported,
)
from genreclf.models.novelty import THRESHOLD, Novelty, limit_band, make_copies
from genreclf.training.classifier import Classifier
from genreclf.training.novelty import add_novelty

SOUNDS: dict[str, Callable[[], np.ndarray]] = {
    "white noise": lambda: nonmusic.make_noise(0),
    "pink noise": lambda: nonmusic.make_noise(1),
    "hum": lambda: nonmusic.make_hum(50),
    "sine": lambda: nonmusic.make_tones(440),
    "clicks in silence": lambda: nonmusic.make_bursts(1, 0.001),
    "applause": lambda: nonmusic.make_bursts(60, 0.004),
}


@pytest.fixture(scope="module")
def model() -> genreclf.Model:
    return genreclf.load("fma8", "cpu")


@pytest.mark.parametrize("kind", SOUNDS)
def test_what_is_not_music_is_unknown_b17(kind: str, model: genreclf.Model) -> None:
    """B17: noise, hum, tones, clicks and applause get no genre from the bundled model."""
    samples = SOUNDS[kind]().astype(np.float32)
    found = model.predict((samples, nonmusic.RATE))
    assert found.is_unknown
    assert found.genre == found.timeline[0].genre == "unknown"
    assert found.novelty is not None
    assert found.novelty > THRESHOLD
    assert sum(found.scores.values()) == pytest.approx(1, abs=1e-4)
    allowed = model.predict((samples, nonmusic.RATE), threshold=1)
    assert allowed.genre == next(iter(found.scores))


@pytest.mark.parametrize("voice", ["en", "de+f2", "fr"])
def test_speech_is_unknown_b17(voice: str, model: genreclf.Model) -> None:
    """B17: speech gets no genre; needs espeak-ng."""
    if not nonmusic.has_speech():
        pytest.skip("espeak-ng is not installed (Debian: apt-get install espeak-ng)")
    samples = nonmusic.speak(voice).astype(np.float32)
    assert model.predict((samples, nonmusic.RATE)).genre == "unknown"


@pytest.mark.slow
def test_music_keeps_its_genre_b17(real_music: Path, model: genreclf.Model) -> None:
    """B17: of music by other artists and labels, at most a tenth is called unknown."""
    paths = sorted(map(str, real_music.glob("*/*.mp3")))[::6]
    unknown = [each.is_unknown for each in model.predict(paths)]
    assert np.mean(unknown) <= 0.1


def test_a_clip_of_the_training_data_is_known(fma_clip: Path, model: genreclf.Model) -> None:
    found = model.predict(fma_clip)
    assert found.genre == "Hip-Hop"
    assert found.novelty is not None
    assert found.novelty < 0.9


def test_predict_writes_unknown_in_all_formats(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """B17: the table, JSON and CSV say unknown, keep the scores, and heed --threshold."""
    path = str(tmp_path / "noise.wav")
    soundfile.write(path, nonmusic.make_noise(0)[: 10 * nonmusic.RATE], nonmusic.RATE)
    assert predict.main([path, "--checkpoint", "fma8"]) == 0
    assert "unknown (nearest: " in capfd.readouterr().out
    assert predict.main([path, "--checkpoint", "fma8", "--format", "json"]) == 0
    line = json.loads(capfd.readouterr().out)
    assert (line["genre"], line["unknown"], len(line["scores"])) == ("unknown", True, 8)
    assert line["novelty"] > THRESHOLD
    assert predict.main([path, "--checkpoint", "fma8", "--format", "csv", "--top", "1"]) == 0
    (row,) = csv.DictReader(io.StringIO(capfd.readouterr().out))
    assert row["unknown"] == "true"
    assert float(row["novelty"]) > THRESHOLD
    assert predict.main([path, "--checkpoint", "fma8", "--format", "json", "--threshold", "1"]) == 0
    assert json.loads(capfd.readouterr().out)["unknown"] is False
    with pytest.raises(SystemExit):
        predict.main([path, "--checkpoint", "fma8", "--threshold", "2"])
    assert "from 0 to 1" in capfd.readouterr().err


def test_an_exported_model_without_a_novelty_score_still_predicts(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """B17: a model of an earlier version loads and calls nothing unknown; --threshold says why."""
    folder = tmp_path / "old"
    shutil.copytree(PRETRAINED, folder, ignore=shutil.ignore_patterns(NOVELTY))
    samples = nonmusic.make_noise(0)[: 10 * nonmusic.RATE].astype(np.float32)
    found = genreclf.load(folder, "cpu").predict((samples, nonmusic.RATE))
    assert (found.novelty, found.is_unknown, found.timeline[0].novelty) == (None, False, None)
    soundfile.write(tmp_path / "noise.wav", samples, nonmusic.RATE)
    given = [str(tmp_path / "noise.wav"), "--checkpoint", str(folder)]
    assert predict.main([*given, "--format", "json"]) == 0
    line = json.loads(capfd.readouterr().out)
    assert (line["novelty"], line["unknown"]) == (None, False)
    assert predict.main([*given, "--threshold", "0.9"]) == 1
    assert "--threshold: this model cannot tell" in capfd.readouterr().err
    assert predict.main([*given, "--format", "json", "--threshold", "1"]) == 0  # "never" is true
    assert json.loads(capfd.readouterr().out)["unknown"] is False


def test_a_threshold_outside_its_range_is_one_line(model: genreclf.Model) -> None:
    with pytest.raises(InputError, match="threshold=2: a number from 0 to 1"):
        model.predict((np.zeros(44100, np.float32), 44100), threshold=2)


def test_the_novelty_is_the_share_of_held_out_tracks_below() -> None:
    random = np.random.default_rng(0)
    held_out = random.standard_normal((400, 8, 64)).cumsum(axis=2)
    summaries = np.stack([*map(summarise_features, held_out)])
    shorter = [copy for row in held_out[200:] for copy in make_copies(row, 0, spectral=False)]
    copies = np.stack([*map(summarise_features, shorter)])
    novelty = Novelty.fit(summaries[:200], summaries[200:], copies)
    rated = novelty.rate(held_out[200:])
    assert np.mean(rated > THRESHOLD) == pytest.approx(0.05, abs=0.006)
    assert np.median(rated) == pytest.approx(0.5, abs=0.01)
    (noise,) = novelty.rate([random.standard_normal((8, 64))])
    assert noise > 0.999
    again = Novelty.read(novelty.list_tensors())
    assert again is not None
    np.testing.assert_allclose(again.rate(held_out[:20]), novelty.rate(held_out[:20]), atol=1e-3)


def test_copies_that_lack_something_are_not_much_more_often_unknown() -> None:
    """Clips of a few seconds and music at low rates are farther from the mean by themselves."""
    random = np.random.default_rng(0)
    rows = random.standard_normal((600, 16, 64)).cumsum(axis=2).cumsum(axis=1)
    known = np.stack([*map(summarise_features, rows[:400])])
    copies = [make_copies(row, place, spectral=True) for place, row in enumerate(rows)]
    summaries = np.stack([summarise_features(each) for made in copies[:400] for each in made])
    novelty = Novelty.fit(known[:200], known[200:], summaries[600:])
    without = dataclasses.replace(novelty, slopes=np.zeros(2))
    others = [each for made in copies[400:] for each in made]
    assert novelty.slopes.min() >= 0
    assert novelty.slopes.max() > 0
    assert np.mean(novelty.rate(others)) < np.mean(without.rate(others))


def test_noise_has_a_texture_of_its_own() -> None:
    """Its bands change independently; those of music change together, with notes and beats."""
    random = np.random.default_rng(0)
    noise = random.standard_normal((64, 128))
    beats = 0.5 * noise + random.standard_normal(128)
    alone, together = map(measure_texture, (noise, beats))
    assert alone[0] < 0.1 < 0.7 < together[0]
    assert alone[1] < 0.25 < 0.7 < together[1]
    assert measure_texture(np.zeros((64, 128))).tolist() == [0, 0, 0]
    louder = measure_texture(2 * noise)
    assert louder[2] - alone[2] == pytest.approx(np.log(2), abs=0.01)
    extent = summarise_features(np.pad(noise + 9, ((0, 64), (0, 128))))[-2:]
    assert extent == pytest.approx([0.5, 1], abs=0.1)


@pytest.mark.parametrize("rate", [8000, 44100])
@pytest.mark.parametrize("exponent", [0, 1, 2])
def test_short_noise_at_low_rates_is_unknown_b17(
    exponent: int, rate: int, model: genreclf.Model
) -> None:
    """B17: white noise at 8 kHz passed for music, and so did brown noise of 5 s."""
    samples = nonmusic.make_noise(exponent)[: 5 * nonmusic.RATE]
    resampled = soxr.resample(samples, nonmusic.RATE, rate).astype(np.float32)
    assert model.predict((resampled, rate)).is_unknown


def test_a_score_of_another_version_is_not_used() -> None:
    tensors = read_exported(PRETRAINED)["genreclf"]["novelty"]
    assert Novelty.read(tensors) is not None
    assert Novelty.read({name: tensors[name] for name in tensors if name != "texture"}) is None


def test_summaries_take_any_features() -> None:
    random = np.random.default_rng(0)
    for shape in ((1, 60000), (1, 300), (12, 40), (13, 5), (50, 200), (128, 1292)):
        row = random.standard_normal(shape).astype(np.float32)
        assert np.isfinite(summarise_features(row)).all()
        assert np.isfinite(summarise_features(np.zeros_like(row))).all()
    assert summarise_features(np.ones((200, 1))).shape == (205,)
    assert expand_waveform(random.standard_normal((1, 60000))).shape[1] > 100
    padded = np.pad(random.standard_normal((3, 10)), ((0, 0), (0, 5)))
    assert trim_padding(padded).shape == (3, 10)
    assert (limit_band(np.ones((20, 4)) * np.arange(20)[:, None], 0)[9:] == 0).all()


@pytest.mark.slow
def test_a_model_of_the_user_has_a_score_and_export_keeps_it(
    train: Callable[..., dict[str, Any]],
    command: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """B17: the score is fitted in training, without a change of results, and exported."""
    small = ["model=attentive_cnn", "model.channels=[4,4,4,4]", "model.mixed=8"]
    options = [*small, "split=artist", "test=false"]
    few = train(*options)  # too few validation tracks
    monkeypatch.setattr("genreclf.training.novelty.LEAST", 4)
    run = train(*options, "seed=1")
    monkeypatch.setattr("genreclf.training.novelty.LEAST", 10**6)
    same = train(*options, "seed=1", f"outputs={tmp_path / 'other'}")
    assert run["metrics"] == same["metrics"]
    assert load_checkpoint(few["folder"]).novelty is None
    fitted = load_checkpoint(run["folder"]).novelty
    assert fitted is not None
    folder = command("export", f"checkpoint={run['folder']}", f"folder={tmp_path / 'gift'}")
    exported = load_checkpoint(folder).novelty
    assert exported is not None
    np.testing.assert_array_equal(exported.directions, fitted.directions)
    command("export", f"checkpoint={few['folder']}", f"folder={tmp_path / 'gift'}")
    assert load_checkpoint(folder).novelty is None  # not that of the model before


@pytest.mark.slow
def test_a_failure_of_the_fit_costs_no_run(
    train: Callable[..., dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """B17: whatever goes wrong while the score is fitted is one warning."""
    monkeypatch.setattr("genreclf.training.novelty.LEAST", 1)
    monkeypatch.setattr("genreclf.training.novelty.fit_novelty", lambda *_: 1 / 0)
    run = train("seed=3")
    assert load_checkpoint(run["folder"]).novelty is None
    assert (run["folder"] / "train.log").read_text().count("no novelty score (") == 1


@pytest.mark.slow
def test_a_linear_model_has_a_score(
    train: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has no epochs, but a checkpoint."""
    monkeypatch.setattr("genreclf.training.novelty.LEAST", 4)
    run = train("model=linear", "split=artist", "test=false")
    assert load_checkpoint(run["folder"]).novelty is not None


@dataclasses.dataclass
class Listed:
    """Features of the user, an ordinary dataclass: it cannot be a key of a dict."""

    bands: list[int] = dataclasses.field(default_factory=lambda: [1, 2])

    def __call__(self, waveform: np.ndarray, sample_rate: int) -> np.ndarray:
        return waveform[None]


def offer_data(bins: int, frames: int, digest: str = "a") -> Any:
    """Make what `add_novelty` needs of a data module: tracks of noise."""
    random = np.random.default_rng(0)
    store = SimpleNamespace(
        source=SimpleNamespace(digest=digest),
        scaling=Scaling(),
        read=lambda rows: random.standard_normal((len(rows), bins, frames), np.float32),
    )
    split = {"train": np.arange(40), "val": np.arange(40, 70)}
    return SimpleNamespace(
        store=store, split=split, shape=(bins, frames), batch_features=torch.nn.Identity()
    )


def test_the_score_is_fitted_where_it_can_be_used(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Not for precomputed features, a model without weights, or thousands of numbers."""
    caplog.set_level("INFO")
    net, mel = torch.nn.Linear(2, 2), MelFrames()
    fitted = Classifier(net, ["a", "b"])
    add_novelty(fitted, offer_data(16, 8), mel)
    assert fitted.description["novelty"]
    assert not caplog.messages
    monkeypatch.setattr("genreclf.training.novelty.fit_novelty", lambda *_: 1 / 0)
    for model, data, features in (
        (net, offer_data(16, 8), Precomputed()),
        (torch.nn.Identity(), offer_data(16, 8), mel),
        (net, offer_data(3000, 1), mel),
    ):
        classifier = Classifier(model, ["a", "b"])
        add_novelty(classifier, data, features)
        assert "novelty" not in classifier.description
    assert [message[:30] for message in caplog.messages] == ["3000 features are too many to "]


def test_features_that_cannot_be_hashed_have_a_score(caplog: pytest.LogCaptureFixture) -> None:
    classifier = Classifier(torch.nn.Linear(2, 2), ["a", "b"])
    add_novelty(classifier, offer_data(16, 8, "b"), Listed())
    assert classifier.description["novelty"]
    assert not caplog.messages


def test_an_interrupted_export_over_another_model_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither a score of one model next to another's weights, nor one that is missing, is read."""
    bundled, folder = read_exported(PRETRAINED), tmp_path / "model"
    write_exported(folder, bundled, "card")
    rated = read_exported(folder)
    assert rated["genreclf"].keys() == bundled["genreclf"].keys()
    described = json.loads((folder / DESCRIPTION).read_text())
    assert described["novelty_sha256"] == sha256((folder / NOVELTY).read_bytes()).hexdigest()
    content = (folder / NOVELTY).read_bytes()
    (folder / NOVELTY).write_bytes(content[:-4] + b"1234")
    with pytest.raises(InputError, match=f"{NOVELTY} is not the one that"):
        read_exported(folder)
    (folder / NOVELTY).unlink()
    with pytest.raises(InputError, match=f"no {NOVELTY} in this folder"):
        read_exported(folder)
    without = {key: value for key, value in bundled["genreclf"].items() if key != "novelty"}
    write_exported(folder, {**bundled, "genreclf": without}, "card")
    (folder / NOVELTY).write_bytes(content)  # as if it could not be deleted
    assert "novelty" not in read_exported(folder)["genreclf"]

    def fail(*_: object, **__: object) -> bytes:
        raise OSError("disk full")

    write_exported(folder, bundled, "card")
    with monkeypatch.context() as patched:
        patched.setattr("genreclf.models.model_files.json.dumps", fail)
        with pytest.raises(OSError, match="disk full"):
            write_exported(folder, {**bundled, "genreclf": without}, "card")
    assert "novelty" in read_exported(folder)["genreclf"]


def test_the_bundled_file_is_small_and_plain() -> None:
    assert (PRETRAINED / NOVELTY).stat().st_size < 300_000
    assert isinstance(load_checkpoint("pretrained").novelty, Novelty)
