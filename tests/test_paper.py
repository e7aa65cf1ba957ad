"""The paper's constants, as `experiment=paper` and `experiment=paper_scripts` compose them."""

import math
from typing import Any

import hydra
import pytest
from omegaconf import OmegaConf

from genreclf import paper


def composed(experiment: str) -> dict[str, Any]:
    with hydra.initialize_config_module("genreclf.conf", version_base="1.3"):
        config = hydra.compose("config", [f"experiment={experiment}", "data.duration=30.0"])
    return OmegaConf.to_container(config, resolve=True)  # pyright: ignore


def test_table_vii() -> None:
    """Standard for all genres; strong for one extra copy of each Experimental track."""
    config = composed("paper")
    mix = {"noise": 0.005, "shift": 0.10, "mask_min": 0.02, "mask_max": 0.05, "fill": None}
    assert config["augmentation"].items() >= mix.items()
    strong = {"noise": 0.01, "shift": 0.15, "mask_min": 0.05, "mask_max": 0.10, "fill": None}
    assert config["oversampling"]["augmentation"].items() >= strong.items()
    assert config["oversampling"]["genres"] == ["Experimental"]
    assert config["oversampling"]["copies"] == 1


def test_table_vii_as_the_scripts_did() -> None:
    """Others unaugmented; Pop copied; noise in dB, gaps at 0 dB, smaller shifts, no masking."""
    config = composed("paper_scripts")
    assert config["augmentation"] == {"_target_": "torch.nn.Identity"}
    strong = {"noise": 0.01, "noise_unit": "value", "shift": 0.10, "mask_max": 0.0, "fill": 0.0}
    assert config["oversampling"]["augmentation"].items() >= strong.items()
    assert config["oversampling"]["genres"] == ["Pop"]
    assert config["oversampling"]["copies"] == 1


def test_the_scripts_standard_setting() -> None:
    with hydra.initialize_config_module("genreclf.conf", version_base="1.3"):
        config = hydra.compose("config", ["augmentation=scripts_standard"])
    expected = {"noise": 0.005, "noise_unit": "value", "shift": 0.05, "mask_max": 0.0, "fill": 0.0}
    assert dict(config.augmentation).items() >= expected.items()


@pytest.mark.parametrize("experiment", ["paper", "paper_scripts"])
def test_the_final_setting(experiment: str) -> None:
    config = composed(experiment)
    assert config["batch_size"] == 16
    assert config["trainer"]["max_epochs"] == 60
    assert config["normalise"]["_target_"] == "genreclf.training.keep_features"
    model = {"cell": "gru", "cnn_dropout": 0.2, "classifier_dropout": 0.4, "unused_gate": False}
    assert config["model"].items() >= model.items()
    adamw = {"lr": 1e-3, "beta1": 0.9, "beta2": 0.999, "weight_decay": 0.03}
    assert config["optimizer"].items() >= adamw.items()
    plateau = {"monitor": "val/accuracy", "patience": 5, "factor": 0.1}
    assert config["scheduler"].items() >= plateau.items()
    mel = {"sample_rate": 22050, "duration": 30.0, "n_fft": 2048, "hop_length": 512, "n_mels": 128}
    assert config["features"].items() >= mel.items()


def test_where_the_two_differ() -> None:
    """Each difference is a named option; there is no other."""
    report, scripts = composed("paper"), composed("paper_scripts")
    different = {key for key in report if report[key] != scripts[key]}
    assert different == {"model", "augmentation", "oversampling", "monitor", "patience"}
    assert {**report["model"], "axis": "frequency"} == scripts["model"]
    assert report["model"]["axis"] == "time"
    assert (report["monitor"], report["patience"]) == ("val/loss", 8)
    assert (scripts["monitor"], scripts["patience"]) == ("val/accuracy", 10)


ARCHIVES = {  # as FMA publishes them
    "fma_small": "ade154f733639d52e35e32f5593efe5be76c6d70",
    "fma_metadata": "f0df49ffe5f2a6008d7dc83c6915b31835dfe733",
    "fma_medium": "c67b69ea232021025fca9231fc1c7c1a063ab50b",
}


@pytest.mark.parametrize("subset", ["small", "medium"])
def test_fma_is_fetched_from_where_it_is_published(subset: str) -> None:
    with hydra.initialize_config_module("genreclf.conf", version_base="1.3"):
        data = hydra.compose("config", [f"data=fma_{subset}"]).data
    found = {entry.url: entry.sha1 for entry in data.archives}
    place = "https://os.unil.cloud.switch.ch/fma"
    names = ("fma_metadata", f"fma_{subset}")
    assert found == {f"{place}/{name}.zip": ARCHIVES[name] for name in names}
    dataset = hydra.utils.instantiate(data)
    assert (dataset.name, dataset.subset) == (f"fma_{subset}", subset)
    bad = {"98565", "98567", "98569", "99134", "107535", "108925", "133297"}
    assert set(dataset.known_bad) == bad


@pytest.mark.parametrize(
    "option",
    [
        *("scheduler=none", "scheduler=cosine", "optimizer=sgd", "optimizer=adam"),
        *("model=efficient_cnn", "model=conventional_cnn", "model=cnn_lstm"),
    ],
)
def test_other_options_go_with_the_experiments(option: str) -> None:
    for experiment in ("paper", "paper_scripts"):
        with hydra.initialize_config_module("genreclf.conf", version_base="1.3"):
            config = hydra.compose("config", [f"experiment={experiment}", option])
        group, _, name = option.partition("=")
        with hydra.initialize_config_module("genreclf.conf", version_base="1.3"):
            plain = hydra.compose("config", [option])
        assert config[group] == plain[group], name


def test_printed_and_true_names_are_the_same_eight() -> None:
    printed = [genre.printed for genre in paper.GENRES]
    assert printed == sorted(printed)
    assert sorted(paper.CLASSES) == printed
    assert paper.BY_TRUE_NAME["Pop"].printed == "Experimental"


def test_table_ix_adds_up() -> None:
    """Support 1,700; the averages are the printed .64; recall times support gives 63.65 %."""
    support = [genre.support for genre in paper.GENRES]
    assert sum(support) == 1700
    for figure in ("precision", "recall", "f1"):
        mean = sum(getattr(genre, figure) for genre in paper.GENRES) / 8
        assert math.isclose(mean, 0.64, abs_tol=0.006)
    right = sum(genre.recall * genre.support for genre in paper.GENRES)
    assert math.isclose(right / 1700, 0.6365, abs_tol=0.005)
    for genre in paper.GENRES:
        f1 = 2 * genre.precision * genre.recall / (genre.precision + genre.recall)
        assert math.isclose(genre.f1, f1, abs_tol=0.0101)
