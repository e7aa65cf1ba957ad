"""A study's settings: each has an effect or is refused in one line, before anything runs (A15)."""

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from genreclf.errors import InputError
from genreclf.studies.settings import StudySettings

DEFAULTS = {
    "phases": ["a", "b"],
    "overrides": [],
    "phase_overrides": {},
    "metric": "val/accuracy",
    "seeds": [0],
    "test": None,
}
KAPPA = "+metric.kappa._target_=torchmetrics.classification.MulticlassCohenKappa"
HAMMING = "+metric.hamming._target_=torchmetrics.classification.MulticlassHammingDistance"
PHASES = {
    "rate": "{optimizer.lr: '1e-4,3e-3'}",
    "width": "{+trainer.gradient_clip_val: '0.5,1.0'}",
    "nothing": "null",
    "empty": "{optimizer.lr: 'range(0,0)'}",
    "blank": "{optimizer.lr: ''}",
    "copies": "{oversampling.copies: '0,1'}",
}


@pytest.fixture
def options(tmp_path: Path) -> Path:
    """A folder of config options, like a user's own; a study may leave out all but its phases."""
    for group in ("phase/mine", "study"):
        (tmp_path / group).mkdir(parents=True)
    for name, params in PHASES.items():
        text = f"# @package _global_\nhydra: {{sweeper: {{params: {params}}}}}\ntest: false\n"
        if name == "copies":
            text += "oversampling: {genres: null}\n"
        (tmp_path / "phase" / f"{name}.yaml").write_text(text)
    (tmp_path / "study" / "own.yaml").write_text("phases: [rate, width]\n")
    (tmp_path / "study" / "misspelled.yaml").write_text("phases: [rate]\nmetrics: val/loss\n")
    (tmp_path / "study" / "stale.yaml").write_text(
        "phases: [rate]\nphase_overrides: {width: [model=cnn_gru]}\n"
    )
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("optimizer.lr=1e-2", "optimizer.lr=1e-2: phase rate chooses optimizer.lr; remove this"),
        ("seed=3", "seed=3: use study.seeds=[...] instead"),
        ("phase=grid", "phase=grid: use study.phases=[...] instead"),
        ("study.overrides=['seed=3']", "study.overrides: seed=3: use study.seeds=[...] instead"),
        ("study.phases=[]", "study.phases and study.seeds: give at least one of each"),
        ("study.phases=rate", "study.phases=rate: "),
        ("study.phases=[rate,rate]", "study.phases: rate is in the list twice"),
        ("study.phases=[rates]", "In 'config': Could not find 'phase/rates'"),
        ("study.phases=[empty]", "phase empty: hydra.sweeper.params.optimizer.lr lists no values"),
        ("study.phases=[blank]", "phase blank: hydra.sweeper.params.optimizer.lr lists no values"),
        ("study.phases=[copies]", "oversampling.genres=[...] is needed: phase copies copies"),
        ("study.seeds=[0,0]", "study.seeds: 0 is in the list twice"),
        ("study.seeds=[a]", "study.seeds="),
        ("study.seeds=[-1]", "study.seeds: -1 is not a number from 0 to"),
        ("study.metric=val/acc", "study.metric=val/acc: choose one of val/loss"),
        # Metrics of one's own are as good as for monitor=...; the genre is asked for next.
        (f"study.metric=val/kappa {KAPPA} study.phases=[copies]", "oversampling.genres=[...] is"),
        (f"study.metric=val/hamming {HAMMING}", "study.metric=val/hamming: lower is better"),
        ("study.metric=null study.test=rate", "study.test=rate: with study.metric=null no phase"),
        ("study.test=width study.phases=[rate]", "study.test: the phases of this study are rate,"),
        ("study.test=rate test=true", "test=true: only the winner of phase rate is tested"),
        ("+study.phase_override.rate=['a=1']", "study.phase_override: "),
        ("+study.phase_overrides.rat=['a=1']", "study.phase_overrides.rat: "),
        ("+study.phase_overrides.rate=a", "study.phase_overrides.rate=a: "),
        (
            "+study.phase_overrides.rate=['optimizer.lr=1']",
            "study.phase_overrides.rate: optimizer.lr=1: this phase varies optimizer.lr itself",
        ),
        ("+study.phase_overrides.rate=['modle=svm']", "Could not override 'modle'"),
        (
            "study=encoders split=artist",
            "phase statistics_folds varies split.number, which does not exist with the split that",
        ),
        ("study=misspelled", "study.metrics: "),
        ("study=stale", "study.phase_overrides.width: the phases of this study are rate"),
        ("hydra/sweeper=basic", "hydra/sweeper: the phases of a study say what varies"),
    ],
)
def test_what_a_study_cannot_do_is_refused_a15(
    options: Path,
    command: Callable[..., str],
    capsys: pytest.CaptureFixture[str],
    arguments: str,
    message: str,
) -> None:
    """A15: no option of a study is ignored; each mistake is one line, before any run."""
    chosen = ["study=own"] * ("study=" not in arguments.split(".")[0])
    with pytest.raises(SystemExit):
        command("study", "--config-dir", str(options), *chosen, *arguments.split(" "))
    error = capsys.readouterr().err.splitlines()
    assert error[-1].startswith(f"genreclf: {message}")
    assert len(error) == 1
    assert not list(options.glob("study/*/study.json"))


def test_every_setting_has_a_default_but_the_phases() -> None:
    file = Path(__file__).parents[2] / "conf" / "study.yaml"
    assert yaml.safe_load(file.read_text())["study"] == {**DEFAULTS, "phases": []}
    assert StudySettings.read({**DEFAULTS}).seeds == [0]


def test_a_test_phase_is_a_phase_of_the_study() -> None:
    with pytest.raises(InputError, match=r"study\.phases: test stands for the test at the end"):
        StudySettings.read({**DEFAULTS, "phases": ["a", "test"], "test": "a"})


def test_the_weakest_genre_has_to_be_named_by_hand_a14(
    music: Path, command: Callable[..., str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """A14: without a study there is no winner whose weakest genre could be enhanced."""
    data = ["data=folder", f"data.root={music}", "oversampling.copies=1"]
    with pytest.raises(SystemExit):
        command("train", "phase=enhancement", *data)
    assert "genreclf: oversampling.genres=[...] is needed" in capsys.readouterr().err
    assert not list(tmp_path.glob("stores/*.h5")), "refused before anything is decoded"
