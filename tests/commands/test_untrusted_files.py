"""Files of strangers: no text in them is resolved by Hydra, and no code that they name is run."""

import dataclasses
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import pytest
import torch
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn, JobStatus

from genreclf.audio import Mel
from genreclf.audio.descriptions import build_features, describe_features, locate_features
from genreclf.commands import identity, study
from genreclf.commands.optuna_sweeper import OptunaSweeper
from genreclf.data import Synthetic
from genreclf.data.build_store import build_store
from genreclf.data.store import Store
from genreclf.errors import InputError
from genreclf.evaluation.runs import Run
from genreclf.models import EfficientCNN
from genreclf.models.checkpoint import load_checkpoint
from genreclf.studies.study import Phase, Point, Study

Command = Callable[..., str]
CALL = "${oc.create:{_target_:stranger.Payload}}"  # what Hydra's instantiate would import and call
MEL = {"sample_rate": 22050, "duration": 2.5, "n_fft": 1024, "hop_length": 1024, "n_mels": 32}
FEATURES: dict[str, dict[str, Any]] = {
    "switch": {"name": "mel", **MEL, "on_device": CALL},
    "number": {"name": "mel", **MEL, "n_mels": CALL},
    "nested": {"name": "mel", **MEL, "on_device": {"_target_": "stranger.Payload"}},
    "list": {"name": "mel", **MEL, "on_device": [{"deep": [CALL]}]},
    "key": {"name": "mel", **MEL, CALL: 1},
    "name": {"name": CALL, **MEL},
    "target": {"_target_": "stranger.Payload"},
    "interpolated target": {"_target_": "${oc.decode:stranger.Payload}"},
    "class of ours": {"_target_": "genreclf.audio.Mel", **MEL, "on_device": CALL},
    "argument": {"_target_": "genreclf.audio.Mel", "_args_": [{"_target_": "stranger.Payload"}]},
    "text argument": {"_target_": "genreclf.audio.Mel", "_args_": [CALL]},
    "partial": {"_target_": "genreclf.audio.Mel", "_partial_": True, **MEL},
    "partial of a call": {"_target_": "genreclf.audio.Mel", "_partial_": CALL},
    "no features": {"_target_": "genreclf.models.EfficientCNN", "classes": 2},
    "no mapping": ["name", "mel"],  # pyright: ignore
}


@pytest.fixture
def marker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that appears when anything of the importable module `stranger` is imported."""
    place = tmp_path / "code"
    place.mkdir()
    file = place / "imported"
    (place / "stranger.py").write_text(f"open({str(file)!r}, 'w').close()\nPayload = dict\n")
    monkeypatch.syspath_prepend(str(place))
    monkeypatch.delitem(sys.modules, "stranger", raising=False)
    return file


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store that `genreclf train` accepts."""
    folder = tmp_path_factory.mktemp("stores")
    data = Synthetic(folder / "music", duration=2.5, artists=3, clips=1)
    return build_store(data, Mel(**MEL), outputs=folder, workers=1).path


@pytest.mark.parametrize("kind", FEATURES)
def test_features_in_a_file_are_plain_values_that_nothing_resolves(marker: Path, kind: str) -> None:
    """No text, list, key or `_target_` among the settings of features runs code."""
    with pytest.raises(InputError):
        build_features(FEATURES[kind])
    assert not marker.exists()


@pytest.mark.parametrize("text", [CALL, "a ${oc.env:HOME}", "\\${b}", "${b}"])
def test_text_that_hydra_would_replace_does_not_become_a_config(text: str) -> None:
    """Not even settings of a class that is trusted."""
    with pytest.raises(InputError, match=r"text with \$\{ is not accepted"):
        locate_features({"_target_": "mine.Features", "words": [{"a": text}]})


@pytest.mark.parametrize("kind", FEATURES)
def test_the_features_of_a_store_run_no_code(
    command: Command,
    store: Path,
    marker: Path,
    tmp_path: Path,
    kind: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """`genreclf train store=FILE` takes the features over; the file may come from anyone."""
    bad = shutil.copy(store, tmp_path / "bad.h5")
    with h5py.File(bad, "a") as file:
        file.attrs["features"] = json.dumps(FEATURES[kind])
    with pytest.raises(SystemExit):
        command("train", f"store={bad}", "model=efficient_cnn", "trainer.max_epochs=1")
    assert not marker.exists()
    assert f"genreclf: store={bad}: " in capsys.readouterr().err


def test_the_config_gets_the_settings_of_the_features_and_nothing_else() -> None:
    """What Hydra sees is what genreclf says of them, not a copy of what the file says."""
    stored = {"_target_": "genreclf.audio.Mel", **MEL, "_convert_": "all", "_recursive_": False}
    built = build_features(stored)
    assert locate_features(describe_features(built)) == {
        "_target_": "genreclf.audio.Mel",
        **dataclasses.asdict(Mel(**MEL)),
    }


@pytest.mark.parametrize("name", ["../../elsewhere", "/elsewhere", "a\\b", CALL])
def test_the_dataset_of_a_store_names_no_other_folder(
    store: Path, tmp_path: Path, name: str
) -> None:
    """The folder of a run begins with this name."""
    bad = shutil.copy(store, tmp_path / "bad.h5")
    with h5py.File(bad, "a") as file:
        file.attrs["dataset"] = name
    with pytest.raises(InputError, match="the name of its dataset"):
        Store(bad)


def test_a_store_whose_attributes_are_damaged_is_one_line(store: Path, tmp_path: Path) -> None:
    bad = shutil.copy(store, tmp_path / "bad.h5")
    with h5py.File(bad, "a") as file:
        file.attrs["features"] = "{"
    with pytest.raises(InputError, match="not a store of this version"):
        Store(bad)


@pytest.mark.parametrize("part", ["model", "features"])
@pytest.mark.parametrize("value", [CALL, {"_target_": "stranger.Payload"}, [[CALL]]])
def test_the_settings_of_a_checkpoint_run_no_code(
    marker: Path, tmp_path: Path, part: str, value: Any
) -> None:
    """The same holds for checkpoints, whichever class the settings are for."""
    described = {
        "format": 1,
        "model": {"_target_": "genreclf.models.EfficientCNN"},
        "features": {"name": "mel", **MEL},
        "classes": ["a", "b"],
        "bins": 32,
        "trained_on": {},
    }
    described[part]["cnn_dropout" if part == "model" else "on_device"] = value
    weights = {f"net.{key}": value for key, value in EfficientCNN(2).state_dict().items()}
    file = tmp_path / "best.ckpt"
    torch.save({"genreclf": described, "epoch": 0, "state_dict": weights}, file)
    with pytest.raises(InputError):
        load_checkpoint(file)
    assert not marker.exists()


def test_the_config_in_a_result_is_not_resolved(monkeypatch: pytest.MonkeyPatch) -> None:
    """A result.json in a shared folder is compared with the config as it is."""
    monkeypatch.setenv("SECRET", "1234")
    recorded = {"seed": "${oc.env:SECRET}", "model": {"_target_": CALL, "size": [1, "${a}"]}}
    assert identity.flatten(recorded) == {
        "seed": "${oc.env:SECRET}",
        "model._target_": CALL,
        "model.size": ["1.0", "${a}"],
    }


def test_a_genre_is_text_in_the_overrides_of_a_study() -> None:
    """The name of a genre comes from the data, and becomes an override of the next phase."""

    def find(name: str) -> str:
        result = {"val": {"per_genre": {name: {"recall": 0.5, "support": 1}}}}
        point = Point(["a=1"], [])
        point.__dict__["runs"] = [Run(Path(), result)]
        phase = Phase("one", points=[point], winner=0)
        return study._find_genre(Study("mine", "val/accuracy", [0], [], [phase]), Phase("two"))

    for name in ("Rock", 'a"b', "a\\b", "a\\", '\\"', "x, y]", "~", "null", "a'b"):
        assert OverridesParser.create().parse_override(find(name)).value() == [name]
    for name in (CALL, "\\${a}"):
        with pytest.raises(InputError, match="rename it"):
            find(name)


def test_keys_in_a_database_of_optuna_are_no_overrides(tmp_path: Path) -> None:
    """Only the keys that this command searches reach Hydra; the database is a file."""
    optuna = pytest.importorskip("optuna")
    space = {"optimizer.lr": optuna.distributions.FloatDistribution(0.1, 1.0)}
    params = {"optimizer.lr": 0.5, "+callback.x": "{_target_: stranger.Payload}"}
    foreign = {"+callback.x": optuna.distributions.CategoricalDistribution([params["+callback.x"]])}
    made = optuna.create_study(storage=f"sqlite:///{tmp_path}/o.db")
    made.add_trial(
        optuna.trial.create_trial(
            state=optuna.trial.TrialState.WAITING, params=params, distributions=space | foreign
        )
    )
    launched: list[list[str]] = []

    class Launcher:
        def launch(self, batch: Any, first: int) -> list[JobReturn]:
            launched.extend(batch)
            job = JobReturn(status=JobStatus.COMPLETED)
            job.return_value = 0.5
            return [job]

    sweeper = OptunaSweeper(1, 1, 0, None, {})
    sweeper.launcher, sweeper.minimize, sweeper.metric = Launcher(), True, "val/loss"
    sweeper.validate_batch_is_legal = lambda batch: None  # pyright: ignore
    sweeper._run_trials(made, ["seed=1"], space)
    assert launched == [["seed=1", "optimizer.lr=0.5"]]
