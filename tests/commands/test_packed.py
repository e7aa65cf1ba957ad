"""hydra/launcher=packed: every run is what it would be alone."""

import json
import os
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import forks
import hydra
import pytest
import torch
from conftest import TINY

from genreclf.commands.packed.distribution import choose_gpu
from genreclf.commands.packed.groups import Job, divide_groups, group_jobs
from genreclf.commands.packed.launcher import PackedLauncher
from genreclf.errors import InputError
from genreclf.training import memory, turns
from genreclf.training.pack import TakeTurns

Command = Callable[..., str]
PACKED = "hydra/launcher=packed"
MODULE = """
import torch
from torch import nn

from genreclf.training import turns


class Net(nn.Module):
    def __init__(self, classes, size=4, dropout=0.5):
        super().__init__()
        self.squeeze = nn.AdaptiveAvgPool1d(size)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(size, classes)

    def forward(self, features):
        return self.head(self.dropout(self.squeeze(features.mean(dim=1))))


class Hungry(Net):
    def forward(self, features):
        member = turns.get_member()
        if member and member.steps >= 2 and member.sharing > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return super().forward(features)
"""

KILL = """
import os, signal

from genreclf.__main__ import main
from genreclf.training.pack import TakeTurns

pass_on = TakeTurns.on_train_batch_end


def kill(self, trainer, *others, **more):
    if trainer.current_epoch == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    pass_on(self, trainer, *others, **more)


TakeTurns.on_train_batch_end = kill
main()
"""


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small runs leave little garbage; to look for it takes long."""
    monkeypatch.setattr(memory, "release_memory", lambda: None)


@pytest.fixture
def sweep(
    command: Command,
    music: Path,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., dict[str, Path]]:
    """Runs a sweep with a small model of one's own; returns the runs' folders by name."""
    options = tmp_path / "options" / "model"
    options.mkdir(parents=True)
    (options.parent / "packed_net.py").write_text(MODULE)
    monkeypatch.syspath_prepend(options.parent)
    for option, name in {"tiny": "Net", "hungry": "Hungry"}.items():
        text = f"_target_: packed_net.{name}\nsize: 4\ndropout: 0.5\n"
        (options / f"{option}.yaml").write_text(text)
    store = tmp_path_factory.getbasetemp() / "shared.h5"

    def run(place: str, *arguments: str, killed: bool = False) -> dict[str, Path]:
        outputs = tmp_path / place
        data = ["data=folder", f"data.root={music}", "data.duration=2.5", *TINY, f"store={store}"]
        data += ["--config-dir", str(options.parent)]
        model = [] if any(text.startswith("model=") for text in arguments) else ["model=tiny"]
        epochs = [] if any("max_epochs" in text for text in arguments) else ["trainer.max_epochs=2"]
        words = ["train", "-m", *data, *model, *epochs, *arguments, f"outputs={outputs}"]
        if killed:
            assert forks.run("-c", KILL, *words, cwd=options.parent).returncode == -signal.SIGKILL
        else:
            command(*words)
        return {folder.name: folder for folder in (outputs / "train").glob("*-*")}

    return run


def read_run(folder: Path) -> dict[str, Any]:
    """Read everything that a run leaves, except times and places."""
    result = json.loads((folder / "result.json").read_text())
    del result["seconds"], result["packed"], result["config"]["outputs"], result["data"]["store"]
    for session in result["sessions"]:
        session.pop("packed", None)
    weights = torch.load(folder / "best.ckpt", weights_only=False)["state_dict"]
    lines = (folder / "train.log").read_text().splitlines()
    log = [re.sub(r"^\[[^]]*\]|\d+ s$", "", line) for line in lines if "shared.h5" not in line]
    return {
        "files": sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()),
        "result": result,
        "weights": {name: value.tolist() for name, value in weights.items()},
        "metrics": (folder / "csv" / "version_0" / "metrics.csv").read_text(),
        "predictions": (folder / "predictions.csv").read_text(),
        "log": log,
    }


def assert_equal_runs(packed: dict[str, Path], alone: dict[str, Path]) -> None:
    assert packed.keys() == alone.keys()
    for name, folder in packed.items():
        found, expected = read_run(folder), read_run(alone[name])
        for part in expected:
            assert found[part] == expected[part], f"{part} of {name}"


def count_sharing(runs: dict[str, Path]) -> list[int]:
    return [json.loads((run / "result.json").read_text())["packed"] for run in runs.values()]


VARIED = ["optimizer.lr=0.001,0.01", "label_smoothing=0,0.1", "mixup=0.3", "trainer.max_epochs=3"]


@pytest.mark.slow
def test_each_run_is_what_it_would_be_alone(sweep: Callable[..., dict[str, Path]]) -> None:
    alone = sweep("alone", *VARIED)
    packed = sweep("packed", *VARIED, PACKED, "hydra.launcher.max_runs=3")
    assert count_sharing(alone) == [1] * 4
    assert max(count_sharing(packed)) == 3
    assert_equal_runs(packed, alone)


@pytest.mark.slow
def test_networks_of_the_package_are_packed(sweep: Callable[..., dict[str, Path]]) -> None:
    """Different networks, with a moving average of the weights, and the features cached."""
    arguments = ["model=cnn_gru,efficient_cnn", "ema=0.9", "cache=memory"]
    assert_equal_runs(sweep("packed", *arguments, PACKED), sweep("alone", *arguments))


@pytest.mark.slow
def test_the_54_points_of_the_grid(sweep: Callable[..., dict[str, Path]]) -> None:
    grid = [
        "optimizer.beta2=0.98,0.999",
        "model.dropout=0.1,0.2,0.3",
        "model.size=2,3,4",
        "optimizer.weight_decay=0.01,0.02,0.03",
        *("trainer.max_epochs=1", "batch_size=4", "logger=none"),
    ]
    packed = sweep("packed", *grid, PACKED)
    assert len(packed) == 54
    assert max(count_sharing(packed)) > 2
    some = sorted(packed)[::18]  # to train them all alone takes long
    alone = {}
    for name in some:
        overrides = json.loads((packed[name] / "result.json").read_text())["overrides"]
        point = [text for text in overrides if text.startswith(("optimizer", "model."))]
        fixed = [text for text in grid if "," not in text]
        alone |= sweep("alone", *fixed, *point)
    for name in some:
        found, expected = read_result(packed[name]), read_result(alone[name])
        assert found == expected


def read_result(folder: Path) -> dict[str, Any]:
    result = json.loads((folder / "result.json").read_text())
    return {key: result[key] for key in ("history", "metrics", "test", "val", "best_epoch")}


@pytest.mark.slow
def test_an_interrupted_pack_is_continued_packed_or_singly(
    sweep: Callable[..., dict[str, Path]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Ctrl-C in the second epoch: all members end, and the same command gives the same results."""
    arguments = ["optimizer.lr=0.001,0.002,0.01", "trainer.max_epochs=4", "logger=none"]
    alone = sweep("alone", *arguments)
    pass_on = TakeTurns.on_train_batch_end

    def interrupt(self: TakeTurns, trainer: Any, *others: Any, **more: Any) -> None:
        if trainer.current_epoch == 2:
            os.kill(os.getpid(), signal.SIGINT)
        pass_on(self, trainer, *others, **more)

    for place in ("packed", "singly"):
        with monkeypatch.context() as patch:
            patch.setattr(TakeTurns, "on_train_batch_end", interrupt)
            with pytest.raises(SystemExit) as exited:
                sweep(place, *arguments, PACKED)
        assert exited.value.code == 130
        assert (
            "genreclf: interrupted; the same command continues from here" in capsys.readouterr().err
        )
        again = sweep(place, *arguments, *([PACKED] if place == "packed" else []))
        assert {name: read_result(run) for name, run in again.items()} == {
            name: read_result(run) for name, run in alone.items()
        }
        sessions = [
            json.loads((run / "result.json").read_text())["sessions"] for run in again.values()
        ]
        assert max(map(len, sessions)) == 2, "at least one has been resumed"


@pytest.mark.slow
@pytest.mark.parametrize("launcher", [PACKED, "hydra/launcher=basic"])
def test_a_killed_pack_is_continued_packed_or_singly(
    sweep: Callable[..., dict[str, Path]], launcher: str
) -> None:
    """After `kill -9`, nothing of the process is left but its files."""
    arguments = ["optimizer.lr=0.001,0.002,0.01", "trainer.max_epochs=4", "logger=none"]
    alone = sweep("alone", *arguments)
    killed = sweep("packed", *arguments, PACKED, killed=True)
    assert not any((run / "result.json").exists() for run in killed.values())
    again = sweep("packed", *arguments, launcher)
    assert {name: read_result(run) for name, run in again.items()} == {
        name: read_result(run) for name, run in alone.items()
    }


@pytest.mark.slow
def test_failures_are_of_one_run_alone(
    sweep: Callable[..., dict[str, Path]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two diverge; two do not fit in memory next to others, and are repeated alone."""
    arguments = [
        *("model=tiny,hungry", "optimizer=sgd", "optimizer.lr=0.01,1e30"),
        *("trainer.max_epochs=4", "logger=none"),
    ]
    with pytest.raises(SystemExit):
        sweep("packed", *arguments, PACKED)
    error = capsys.readouterr().err
    with pytest.raises(SystemExit):
        sweep("alone", *arguments)
    assert re.search(r"does not fit in the memory of .* next to \d other runs", error)
    outcomes = []
    for place in ("packed", "alone"):
        folders = sorted((tmp_path / place / "train").glob("*-*"))
        failures = [
            json.loads(path.read_text()) for path in tmp_path.glob(f"{place}/*/*/fail*.json")
        ]
        assert [(each["diverged"], each["out_of_memory"]) for each in failures] == [
            (True, False)
        ] * 2
        done = [folder for folder in folders if (folder / "result.json").exists()]
        outcomes.append({folder.name: read_result(folder) for folder in done})
    assert outcomes[0] == outcomes[1]
    assert len(outcomes[0]) == 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("logger", "place", "text"),
    [
        ("wandb", "wandb/offline-run-*/*.wandb", b"best/val/loss"),
        ("tensorboard", "tensorboard/version_0/events*", b"val/loss"),
        ("mlflow", "", b""),
    ],
)
def test_each_run_has_loggers_of_its_own(
    sweep: Callable[..., dict[str, Path]], logger: str, place: str, text: bytes
) -> None:
    arguments = ["optimizer.lr=0.001,0.002,0.01", "trainer.max_epochs=3", f"logger={logger}"]
    runs = sweep("packed", *arguments, PACKED)
    assert max(count_sharing(runs)) == 3
    contents = set()
    for run in runs.values():
        assert json.loads((run / "result.json").read_text())["logged"]
        assert "failed" not in (run / "train.log").read_text()
        if place:
            written = b"".join(file.read_bytes() for file in run.glob(place))
            assert text in written
            contents.add(written)
    assert len(contents) == 3 * bool(place)


@pytest.mark.slow
def test_packs_are_distributed_over_processes(sweep: Callable[..., dict[str, Path]]) -> None:
    """Two seeds are two packs, and joblib runs both at a time."""
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    arguments = ["seed=0,1", "optimizer.lr=0.001,0.01", "logger=none", "trainer.max_epochs=3"]
    inner = ["hydra.launcher.inner=joblib", "+hydra.launcher.settings.n_jobs=2"]
    packed = sweep("packed", *arguments, PACKED, *inner)
    assert sorted(count_sharing(packed)) == [2, 2, 2, 2]
    alone = sweep("alone", *arguments)
    assert {name: read_result(run) for name, run in packed.items()} == {
        name: read_result(run) for name, run in alone.items()
    }


@pytest.mark.parametrize(
    ("visible", "devices", "chosen"),
    [("", 1, "1"), ("4,5", 1, "5"), ("4,5", [0], "4,5"), ("4,5", 2, "4,5")],
)
def test_packs_of_joblib_take_the_gpus_in_turn(
    monkeypatch: pytest.MonkeyPatch, visible: str, devices: Any, chosen: str
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    choose_gpu(3, devices)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == chosen


def compose_jobs(*points: list[str]) -> list[Job]:
    with hydra.initialize_config_module("genreclf.conf", version_base="1.3"):
        configs = [hydra.compose("config", point, return_hydra_config=True) for point in points]
    for config in configs:
        hydra.core.hydra_config.HydraConfig.instance().set_config(config)  # pyright: ignore
    return [Job(n, point, c) for n, (point, c) in enumerate(zip(points, configs, strict=True))]


@pytest.fixture
def clean_hydra() -> Any:
    instance = hydra.core.hydra_config.HydraConfig.instance()  # pyright: ignore
    before = instance.cfg
    yield
    instance.cfg = before


@pytest.mark.usefixtures("clean_hydra")
def test_groups_are_derived_from_the_configs() -> None:
    """What is written differently but is the same is packed; other data, seeds, batches are not."""
    jobs = compose_jobs(
        ["optimizer.lr=0.1"],
        ["optimizer=sgd", "model=efficient_cnn", "trainer.max_epochs=3", "+seed=0"][:3],
        ["seed=1"],
        ["batch_size=8"],
        ["batch_size=16", "scheduler=none"],
        ["augmentation=none"],
        ["seed=1", "mixup=0.2"],
        ["split=artist"],
        ["features=chroma"],
    )
    groups = [([job.number for job in group], reason) for group, reason in group_jobs(jobs)]
    only = "no other run has its data, batch size, augmentation and seed"
    assert groups == [
        ([0, 1, 4], ""),
        ([2, 6], ""),
        *(([number], only) for number in (3, 5, 7, 8)),
    ]


@pytest.mark.usefixtures("clean_hydra")
@pytest.mark.parametrize(
    ("overrides", "reason"),
    [
        (["model=svm"], "model=svm is not trained in epochs"),
        (["debug=fast"], "debug=fast"),
        (["trainer=ddp"], "several processes"),
        (["trainer.devices=2"], "several processes"),
        (["trainer.devices=[0]"], ""),
        (["trainer=gpu"], ""),
    ],
)
def test_what_cannot_be_packed_says_why(overrides: list[str], reason: str) -> None:
    ((_, found),) = group_jobs(compose_jobs(overrides, [*overrides, "optimizer.lr=0.1"]))
    assert reason in found
    assert bool(reason) == bool(found)


def test_groups_are_divided_among_processes() -> None:
    def make(count: int) -> list[Job]:
        return [Job(number, [], None) for number in range(count)]  # pyright: ignore

    def divide(*counts: int, packs: int, max_runs: int | None = None) -> list[int]:
        return [len(pack) for pack in divide_groups([*map(make, counts)], packs, max_runs)]

    assert divide(54, packs=4) == [14, 14, 14, 12]
    assert divide(54, packs=1) == [54]
    assert divide(54, packs=1, max_runs=7) == [7] * 7 + [5]
    assert divide(10, 1, 1, packs=3) == [5, 5, 1, 1] or divide(10, 1, 1, packs=3) == [4, 4, 2, 1, 1]
    assert divide(3, packs=8) == [1, 1, 1]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_runs": 0}, "max_runs=0: at least 1"),
        ({"settings": {"n_jobs": 2}}, "set it"),
        ({"inner": "packed"}, "choose another launcher"),
    ],
)
def test_wrong_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        PackedLauncher(**settings)


def test_members_are_not_confused_with_other_threads() -> None:
    assert turns.get_member() is None
    assert turns.note_exhaustion() == 0
