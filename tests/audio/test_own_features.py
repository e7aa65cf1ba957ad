"""Features of classes outside genreclf (D1, D5), and what every class of features must keep."""

import dataclasses
import importlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import h5py
import numpy as np
import pytest

import genreclf
from genreclf.audio import MFCC, Chroma, Mel, MelFrames, Waveform, own_features
from genreclf.audio.descriptions import (
    build_features,
    describe_features,
    identify_features,
    locate_features,
)
from genreclf.audio.on_device import build_batch_features
from genreclf.audio.workers import extract
from genreclf.data import Folder
from genreclf.data.build_store import build_store, plan_store
from genreclf.data.store import Store
from genreclf.errors import InputError

SOURCE = '''
import dataclasses
from typing import ClassVar

import numpy as np

from genreclf.audio import Mel


@dataclasses.dataclass(frozen=True)
class LoudMel(Mel):
    """Mel with a setting more, which may be a text or negative."""

    boost: float = -6.0
    curve: str = "flat"

    def __call__(self, waveform, sample_rate):
        return super().__call__(waveform, sample_rate) + self.boost


class Loudness:
    """A plain class with nothing but what the protocol demands."""

    name = "loudness"
    sample_rate = 8000

    def __init__(self, duration, bins=4, hops=(100, 200)):
        self.duration, self.bins, self._hops = duration, bins, hops

    @property
    def shape(self):
        return self.bins, int(self.duration)

    def __call__(self, waveform, sample_rate):
        seconds = waveform.reshape(int(self.duration), -1)  # fails unless padded
        return np.repeat(np.log10(np.square(seconds).mean(axis=1) + 1e-6)[None], self.bins, axis=0)
'''


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., ModuleType]:
    """Writes and imports a module of features; again, after an edit."""
    monkeypatch.syspath_prepend(tmp_path / "site")
    (tmp_path / "site").mkdir()
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def load(old: str = "", new: str = "") -> ModuleType:
        assert old in SOURCE
        (tmp_path / "site" / "my_features.py").write_text(SOURCE.replace(old, new, 1))
        sys.modules.pop("my_features", None)
        importlib.invalidate_caches()
        return importlib.import_module("my_features")

    yield load  # pyright: ignore
    sys.modules.pop("my_features", None)


@dataclasses.dataclass(frozen=True)
class Wrong:
    """Features that do not keep what they declare."""

    fault: str = ""
    duration: float = 3.0

    name: ClassVar[str] = "wrong"
    sample_rate: ClassVar[int] = 8000
    shape: ClassVar[tuple[int, int]] = (2, 3)

    def __call__(self, waveform: np.ndarray, sample_rate: int) -> Any:
        values = np.zeros((2, 3))
        if self.fault == "shape":
            return values.T
        if self.fault == "kind":
            return values + 1j
        if self.fault == "infinite":
            return values + 1e300
        if self.fault == "nan":
            values[1, 2] = np.nan
        if self.fault == "crash":
            raise RuntimeError("no")
        return values


def test_own_features_are_described_by_class_and_settings(
    mine: Callable[..., ModuleType],
) -> None:
    """D5: an added setting survives the round trip, but only trusted code is imported."""
    module = mine()
    loud = module.LoudMel(duration=2.0, boost=3.0)
    described = describe_features(loud)
    assert described["_target_"] == "my_features.LoudMel"
    assert (described["boost"], described["curve"], described["duration"]) == (3.0, "flat", 2.0)
    assert build_features(described, ["my_features"]) == loud
    plain = describe_features(module.Loudness(3))
    assert plain == {
        "_target_": "my_features.Loudness",
        "duration": 3,
        "bins": 4,
        "hops": [100, 200],
    }
    assert describe_features(build_features(plain, ["my_features"])) == plain
    assert locate_features(plain) == plain
    with pytest.raises(InputError, match="my_features"):
        build_features(plain)


def test_numbers_of_numpy_are_described_as_plain_ones(mine: Callable[..., ModuleType]) -> None:
    """A checkpoint is read without running pickled code, which NumPy's numbers would need."""
    module = mine()
    described = describe_features(module.LoudMel(boost=np.float64(3), curve=np.str_("flat")))
    assert (type(described["boost"]), type(described["curve"])) == (float, str)
    described = describe_features(module.Loudness(3, hops=(np.float64(1), np.int64(2))))
    assert [type(each) for each in described["hops"]] == [float, int]


def test_an_edited_class_is_another_one_d1(mine: Callable[..., ModuleType]) -> None:
    """D1: a subclass of Mel is not Mel, and features are computed again when its code changes."""
    before = identify_features(mine().LoudMel())
    assert before["class"] == "my_features.LoudMel"
    assert before["version"] != identify_features(Mel())["version"]
    assert identify_features(mine().LoudMel()) == before
    assert identify_features(mine("+ self.boost", "- self.boost").LoudMel()) != before
    assert identify_features(mine().LoudMel(boost=1.5)) == {**before, "boost": 1.5}


def test_a_declared_version_replaces_the_source(mine: Callable[..., ModuleType]) -> None:
    versioned = 'name = "loudness"\n    version = 3'
    first = identify_features(mine('name = "loudness"', versioned).Loudness(30))
    assert first == {"class": "my_features.Loudness", "version": 3, "duration": 30}
    edited = mine('name = "loudness"', versioned + "\n    comment = 1")
    assert identify_features(edited.Loudness(30.0)) == first


def test_what_is_not_declared_has_a_default(mine: Callable[..., ModuleType]) -> None:
    loudness = mine().Loudness(3.0)
    assert own_features.get_stored(loudness) is loudness
    assert own_features.get_silence(loudness) == pytest.approx((-6.0,) * 4)
    assert own_features.get_silence(Mel()) == (-80.0,)
    own_features.check_features(loudness)
    with pytest.raises(InputError, match=r"set features\.on_device=false"):
        own_features.check_features(mine().LoudMel(on_device=True))
    with pytest.raises(InputError, match=r"set features\.on_device=false"):
        build_batch_features(mine().LoudMel(on_device=True))


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ('name = "loudness"', "", "my_features.Loudness has no name, which features need"),
        ('"loudness"', '"my/loudness"', "its name 'my/loudness' is not one word"),
        ("self.duration, self.bins", "self.duration, self.count", "keep the argument bins"),
        ("bins, hops\n", "2 * bins, hops\n", "it has others"),
        ("return self.bins, int", "return int", "two numbers, is needed"),  # D19
        ("return np.repeat", "return np.gone", "fails in my_features.py, line"),  # C12
        ("hops=(100, 200)", "hops=np.array([1])", "Loudness.hops is a ndarray; only numbers"),
        ("self.bins, int", "self.bins + 1, int", r"shape \(4, 3\), but .* is \(5, 3\)"),
        (
            "__call__(self, waveform, sample_rate):\n        sec",
            "run(self, a, b):\n        sec",
            "no __c",
        ),
    ],
)
def test_wrong_classes_are_refused_before_anything_is_read(
    mine: Callable[..., ModuleType], music: Path, tmp_path: Path, old: str, new: str, line: str
) -> None:
    with pytest.raises(InputError, match=line):
        plan_store(Folder(music), mine(old, new).Loudness(3.0), outputs=tmp_path)
    assert not (tmp_path / "stores").exists()


@pytest.mark.parametrize(
    ("fault", "line"),
    [
        ("shape", r"values of shape \(3, 2\), but its attribute shape is \(2, 3\)"),
        ("kind", "values of type complex128, not real numbers"),
        ("nan", "values that are not finite numbers"),
        ("infinite", "values that are not finite numbers"),
    ],
)
def test_wrong_values_name_the_track(music: Path, fault: str, line: str) -> None:
    """F5: a value that no network can use stops the extraction, with the name of the file."""
    file = str(music / "Rock" / "01-01.mp3")
    with pytest.raises(InputError, match=f"01-01.mp3: features=wrong: {line}; correct Wrong"):
        extract(file, Wrong(fault))


def test_a_crash_names_the_track(music: Path) -> None:
    """C12: an error in the code of features is one line, with the line of the code."""
    file = str(music / "Rock" / "01-01.mp3")
    line = r"01-01.mp3: features=wrong: computing them fails in test_own_features.py, line \d+: Run"
    with pytest.raises(InputError, match=line):
        extract(file, Wrong("crash"))


def test_a_store_of_own_features(
    mine: Callable[..., ModuleType], music: Path, tmp_path: Path
) -> None:
    """D1: each class has a store of its own, although the clips are shorter than 3 s."""
    dataset, module = Folder(music, duration=3.0), mine()
    stores = [
        build_store(dataset, features, outputs=tmp_path, workers=1)
        for features in (
            module.Loudness(3.0),
            module.LoudMel(duration=3.0, n_mels=8),
            Mel(duration=3.0, n_mels=8),
        )
    ]
    assert stores[0].shape == (4, 3)
    assert stores[0].scaling.silence == pytest.approx((-6.0,) * 4)
    assert (stores[0].read(range(4))[:, :, 2] > -6).all()
    np.testing.assert_array_equal(stores[1].read([0]), stores[2].read([0]) - 6)
    stores[1].check_features(module.LoudMel(duration=3.0, n_mels=8))
    with pytest.raises(InputError, match="name another store"):
        stores[1].check_features(Mel(duration=3.0, n_mels=8))


@pytest.mark.slow
def test_a_run_with_own_features(
    mine: Callable[..., ModuleType],
    train: Callable[..., dict[str, Any]],
    command: Callable[..., str],
    music: Path,
    tmp_path: Path,
) -> None:
    """D5: your own feature with one extra setting trains to the end, and its model is usable."""
    mine()
    option = tmp_path / "conf" / "features" / "loud.yaml"
    option.parent.mkdir(parents=True)
    option.write_text(
        "_target_: my_features.LoudMel\nduration: ${data.duration}\nn_mels: 16\nboost: -6.0\n"
    )
    given = ["features=loud", "model=efficient_cnn", f"outputs={tmp_path}"]
    place = ["--config-dir", str(tmp_path / "conf")]
    first = train(*given, *place)
    assert first["data"]["shape"] == [16, 108]
    other = train(*given, "features.boost=-3.0", *place)
    assert other["folder"] != first["folder"]
    paths = [run["folder"] / run["data"]["store"] for run in (first, other)]
    one, another = map(Store, paths)
    np.testing.assert_allclose(one.read([0]) + 3, another.read([0]), atol=1e-4)
    with pytest.raises(InputError, match=r"trust=\[my_features.LoudMel\]"):
        genreclf.load(first["folder"])
    model = genreclf.load(first["folder"], "cpu", trust=["my_features"])
    assert model.features.boost == -6.0
    assert model.predict(music / "Rock" / "01-01.mp3").genre in model.classes
    given = [f"checkpoint={first['folder']}", "data=folder", f"data.root={music}"]
    path = command("evaluate", *given, "split=stratified", "trust=[my_features]")
    evaluation = json.loads(Path(path).read_text())
    assert evaluation["confusion"] == first["test"]["confusion"]
    assert evaluation["trained_on"] == 0


@pytest.mark.parametrize(
    "described",
    [
        {"_target_": "my_features.Loudness", "duration": 3.0},
        {"_target_": "os.mkdir", "path": "made"},
    ],
)
def test_a_strangers_store_runs_no_code(
    mine: Callable[..., ModuleType],
    command: Callable[..., str],
    music: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    described: dict[str, Any],
) -> None:
    """The class that a named store says its features have is imported only if it is trusted."""
    loudness = mine().Loudness(3.0)
    store = build_store(Folder(music, duration=3.0), loudness, outputs=tmp_path, workers=1)
    with h5py.File(store.path, "r+") as file:
        file.attrs["features"] = json.dumps(described)
        file.attrs["identity"] = json.dumps({"class": described["_target_"], "version": 1})
    sys.modules.pop("my_features")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit):
        command("train", f"store={store.path}")
    assert f"trust=[{described['_target_']}]" in capsys.readouterr().err
    assert "my_features" not in sys.modules
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("n_fft", [512, 511, 1023, 441])
@pytest.mark.parametrize("hop_length", [441, 220, 511, 1])
@pytest.mark.parametrize("rate", [22050, 16000, 11025])
def test_declared_shapes_are_actual_shapes_a18(n_fft: int, hop_length: int, rate: int) -> None:
    """A18: for any setting, also on the device, where all agree with librosa."""
    import librosa
    import torch

    duration = 0.2 if hop_length == 1 else 1.0
    common: Any = {"duration": duration, "n_fft": n_fft, "hop_length": hop_length}
    waveform = np.random.default_rng(0).normal(0, 0.1, int(duration * rate)).astype(np.float32)
    power = librosa.feature.melspectrogram(
        y=waveform, sr=rate, n_fft=n_fft, hop_length=hop_length, n_mels=20
    )
    mel = Mel(rate, n_mels=20, **common)
    np.testing.assert_allclose(
        mel(waveform, rate), librosa.power_to_db(power, ref=np.max), atol=1e-3
    )
    spectral = (mel, MFCC(rate, n_mels=20, n_mfcc=7, **common), Chroma(rate, **common))
    for features in (
        *spectral,
        MelFrames(rate, n_mels=20, frames=9, **common),
        Waveform(rate, duration),
    ):
        values = own_features.compute_features(features, waveform, rate)
        assert values.shape == features.shape
    for features in spectral:
        on_device = dataclasses.replace(features, on_device=True)
        batch = build_batch_features(on_device)(torch.from_numpy(waveform)[None, None])
        assert batch.shape[1:] == on_device.shape
        np.testing.assert_allclose(batch[0], features(waveform, rate), atol=0.01)


def test_a_new_version_of_the_extended_class_counts(
    mine: Callable[..., ModuleType], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = identify_features(mine().LoudMel())
    monkeypatch.setattr(Mel, "version", 2)
    assert identify_features(mine().LoudMel()) == {**before, "inherited": 2}
