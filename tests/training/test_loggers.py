import json
import os
import re
import signal
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import wandb
from conftest import TINY
from pytorch_lightning.loggers import CSVLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from wandb.proto.wandb_internal_pb2 import Record

from genreclf.__main__ import COMMANDS
from genreclf.commands import hydra_app
from genreclf.training.callbacks import History
from genreclf.training.wandb import make_wandb_logger

pytestmark = pytest.mark.slow  # each trains a model, and W&B has to finish writing

Train = Callable[..., dict[str, Any]]


# Python's start-up file, which notes each host that is looked up, and fails.
NOTE_LOOKUPS = """
import socket

def note(host, *_, **__):
    with open({!r}, "a") as file:
        file.write(f"{{host}}\\n")
    raise OSError("no network in this test")

socket.getaddrinfo = socket.gethostbyname = note
"""


def records(file: Path) -> Iterator[Any]:
    """What an offline run left: LevelDB's log of protobuf records, in blocks of 32 KiB."""
    data, place, whole = file.read_bytes(), 7, b""
    assert data.startswith(b":W&B")
    while place < len(data):
        if (left := 32768 - place % 32768) < 7:
            place += left  # no header fits in what is left of a block
            continue
        _, size, kind = struct.unpack_from("<IHB", data, place)
        whole += data[place + 7 : place + 7 + size]
        place += 7 + size
        if kind in (1, 4):  # a whole record, or the last part of one
            yield Record.FromString(whole)
            whole = b""


class Offline:
    """An offline run, as `wandb sync` would send it."""

    def __init__(self, folder: Path) -> None:
        (file,) = folder.glob("*.wandb")
        self.files = folder / "files"
        self.config: dict[str, Any] = {}
        self.summary: dict[str, Any] = {}
        self.history: list[dict[str, Any]] = []
        self.artifacts: dict[str, Any] = {}
        for record in records(file):
            match record.WhichOneof("record_type"):
                case "run":
                    self.run = record.run
                case "config":
                    self.config |= self._plain(record.config.update)
                case "summary":
                    self.summary |= self._plain(record.summary.update)
                case "history":
                    self.history.append(self._plain(record.history.item))
                case "artifact":
                    self.artifacts[record.artifact.type] = record.artifact
                case "exit":
                    self.exit_code = record.exit.exit_code

    @staticmethod
    def _plain(items: Any) -> dict[str, Any]:
        return {
            ".".join(item.nested_key) or item.key: json.loads(item.value_json) for item in items
        }

    def curve(self, metric: str) -> list[tuple[int, float]]:
        return [(step["epoch"], step[metric]) for step in self.history if metric in step]

    def table(self, key: str) -> list[dict[str, Any]]:
        table = json.loads((self.files / self.summary[f"{key}.path"]).read_text())
        return [dict(zip(table["columns"], row, strict=True)) for row in table["data"]]


def read_offline_runs(place: Path) -> list[Offline]:
    """In the order in which they began.

    A30: `wandb.finish()` returns while W&B's service process still writes: it must end first.
    """
    wandb.teardown()
    runs = [Offline(folder) for folder in place.rglob("offline-run-*")]
    return sorted(runs, key=lambda offline: offline.run.start_time.ToNanoseconds())


@pytest.fixture(scope="module")
def tracked(music: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A run of a phase of a study: what result.json says, and as `offline` what W&B has of it."""
    place = tmp_path_factory.mktemp("tracked")
    arguments = [
        *("data=folder", f"data.root={music}", "data.duration=2.5", *TINY, "phase=best"),
        "hydra.sweeper.params=null",  # one run of the sweep, with the defaults
        *("trainer.max_epochs=2", "seed=7", "logger=wandb", f"outputs={place}"),
        f"store={tmp_path_factory.getbasetemp()}/shared.h5",
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WANDB_RUN_GROUP", "paper-folder-1a2b3c4d")
        hydra_app.run("train", COMMANDS["train"].config, arguments)
    (result,) = place.rglob("result.json")
    (offline,) = read_offline_runs(place)
    return {**json.loads(result.read_text()), "folder": result.parent, "offline": offline}


def test_wandb_knows_study_phase_and_what_differs(tracked: dict[str, Any]) -> None:
    run = tracked["offline"].run
    assert (run.project, run.run_group, run.job_type) == (
        *("genreclf", "paper-folder-1a2b3c4d", "best"),
    )
    assert run.display_name == (
        "data.duration=2.5 data=folder features.hop_length=1024 features.n_fft=1024 "
        "features.n_mels=32 seed=7 trainer.max_epochs=2"
    )


def test_wandb_has_the_resolved_config(tracked: dict[str, Any]) -> None:
    config = tracked["offline"].config
    assert config["optimizer"] == tracked["config"]["optimizer"]
    assert config["optimizer"]["beta2"] == 0.999
    assert config["model"]["cnn_dropout"] == tracked["config"]["model"]["cnn_dropout"]
    assert config["batch_size"] == 16


@pytest.mark.parametrize("metric", ["lr", "train/loss", "val/accuracy", "val/loss"])
def test_wandb_has_the_curves(tracked: dict[str, Any], metric: str) -> None:
    assert tracked["offline"].curve(metric) == [
        (epoch["epoch"], pytest.approx(epoch[metric])) for epoch in tracked["history"]
    ]


def test_wandb_has_the_best_values_as_summaries(tracked: dict[str, Any]) -> None:
    summary = tracked["offline"].summary
    for metric in ("train/loss", "val/loss", "val/accuracy", "val/f1_macro"):
        assert summary[f"best/{metric}"] == pytest.approx(tracked["metrics"][metric])
    assert summary["test/accuracy"] == tracked["test"]["accuracy"]
    for key in ("best_epoch", "params", "seconds"):
        assert summary[key] == tracked[key]


def test_wandb_has_the_confusion_matrix(tracked: dict[str, Any]) -> None:
    offline, classes = tracked["offline"], tracked["data"]["classes"]
    assert offline.table("confusion_matrix_table") == [
        {"Actual": true, "Predicted": predicted, "nPredictions": count}
        for true, counts in zip(classes, tracked["test"]["confusion"], strict=True)
        for predicted, count in zip(classes, counts, strict=True)
    ]
    chart = offline.config["_wandb.visualize.confusion_matrix"]["panel_config"]
    assert chart["panelDefId"] == "wandb/confusion_matrix/v1"
    assert chart["stringSettings"]["title"] == "Confusion matrix, test part"


def test_wandb_has_the_roc_curves(tracked: dict[str, Any]) -> None:
    offline = tracked["offline"]
    points = offline.table("roc_table")
    assert {point["class"] for point in points} == set(tracked["data"]["classes"])
    assert points[0] == {"fpr": 0, "tpr": 0, "class": tracked["data"]["classes"][0]}
    chart = offline.config["_wandb.visualize.roc"]["panel_config"]
    assert chart["panelDefId"] == "wandb/area-under-curve/v0"


def test_wandb_has_the_wrong_tracks(tracked: dict[str, Any]) -> None:
    predictions = (tracked["folder"] / "predictions.csv").read_text().splitlines()[1:]
    rows = [line.split(",") for line in predictions]
    wrong = {row[0]: (row[1], row[2]) for row in rows if row[1] != row[2]}
    table = tracked["offline"].table("wrong_tracks")
    assert {row["track_id"]: (row["genre"], row["predicted"]) for row in table} == wrong
    for row in table:
        assert row["artist"].startswith(row["genre"])  # in the generated music
        assert row["probability"] > row["probability of genre"]


def test_wandb_has_spectrograms(tracked: dict[str, Any]) -> None:
    offline = tracked["offline"]
    assert offline.summary["spectrograms.count"] == 6
    for name in offline.summary["spectrograms.filenames"]:
        assert (offline.files / name).read_bytes().startswith(b"\x89PNG")
    assert "predicted" in offline.summary["spectrograms.captions"][0]


def test_wandb_has_the_checkpoint(tracked: dict[str, Any]) -> None:
    artifact = tracked["offline"].artifacts["model"]
    assert artifact.name == f"model-{tracked['folder'].name}"
    (file,) = artifact.manifest.contents
    assert Path(file.local_path) == tracked["folder"] / "best.ckpt"
    metadata = json.loads(artifact.metadata)
    assert metadata["val/accuracy"] == tracked["metrics"]["val/accuracy"]
    assert "best" in artifact.aliases


def test_a_resumed_run_logs_all_its_epochs(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = History.on_train_epoch_start

    def interrupt(self: History, trainer: Any, module: Any) -> None:
        if trainer.current_epoch == 2:
            raise KeyboardInterrupt
        start(self, trainer, module)

    handler = signal.getsignal(signal.SIGINT)
    with monkeypatch.context() as patched:
        patched.setattr(History, "on_train_epoch_start", interrupt)
        with pytest.raises(SystemExit):
            train("logger=wandb", "trainer.max_epochs=3")
    signal.signal(signal.SIGINT, handler)
    result = train("logger=wandb", "trainer.max_epochs=3")
    cut, resumed = read_offline_runs(tmp_path)
    assert (cut.exit_code, resumed.exit_code) == (1, 0)
    assert cut.run.display_name == resumed.run.display_name
    assert len(cut.curve("val/accuracy")) == 2
    for metric in ("lr", "val/accuracy"):
        assert resumed.curve(metric) == [
            (epoch["epoch"], pytest.approx(epoch[metric])) for epoch in result["history"]
        ]


@pytest.mark.parametrize(
    ("name", "shown"),
    [("", "folder-cnn_gru-1a2b3c4d"), ("a=1 " * 99, "a=1 " * 29 + "... 1a2b3c4d")],
    ids=["no override", "more than W&B takes"],
)
def test_a_run_has_a_name_of_its_own(tmp_path: Path, name: str, shown: str) -> None:
    logger = make_wandb_logger(tmp_path / "folder-cnn_gru-1a2b3c4d", "p", name=name)
    assert logger._wandb_init["name"] == shown


def test_wandb_is_online_when_logged_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_MODE", raising=False)
    for logged_in, mode in ((True, None), (False, "offline")):
        monkeypatch.setattr("wandb.login", lambda logged_in=logged_in, **_: logged_in)
        assert make_wandb_logger(tmp_path, "p")._wandb_init["mode"] == mode


@pytest.mark.slow
def test_a_sweep_logs_offline_when_not_logged_in(
    music: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """As a user has it who never heard of W&B: no key, no terminal, no setting.

    D19: a plain sweep is grouped, and its runs are named by what differs.
    F12: nothing leaves the machine unless asked, not even a question for W&B's address.
    """
    kept = {key: value for key, value in os.environ.items() if not key.startswith("WANDB")}
    (tmp_path / "sitecustomize.py").write_text(NOTE_LOOKUPS.format(str(tmp_path / "asked")))
    kept["PYTHONPATH"] = os.pathsep.join([str(tmp_path), kept.get("PYTHONPATH", "")])
    arguments = ["train", "-m", "data=folder", f"data.root={music}", "data.duration=2.5", *TINY]
    done = subprocess.run(
        [
            *(sys.executable, "-m", "genreclf", *arguments, "logger=wandb", "seed=0,1"),
            *("trainer.max_epochs=1", f"outputs={tmp_path}"),
            f"store={tmp_path_factory.getbasetemp()}/shared.h5",
        ],
        env=kept,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert not (tmp_path / "asked").exists(), (tmp_path / "asked").read_text()
    runs = read_offline_runs(tmp_path)
    assert sorted(run.run.display_name for run in runs) == ["seed=0", "seed=1"]
    assert [run.run.job_type for run in runs] == ["sweep", "sweep"]
    (group,) = {run.run.run_group for run in runs}
    assert re.fullmatch(r"seed-[0-9a-f]{8}", group)


def test_tensorboard_has_the_curves(train: Train) -> None:
    result = train("logger=tensorboard", "trainer.max_epochs=2")
    (folder,) = result["folder"].glob("tensorboard/version_*")
    events = EventAccumulator(str(folder)).Reload()
    for metric in ("lr", "train/loss", "val/accuracy"):
        assert [event.value for event in events.Scalars(metric)] == [
            pytest.approx(epoch[metric]) for epoch in result["history"]
        ]
    (tested,) = events.Scalars("test/accuracy")
    assert tested.value == pytest.approx(result["test"]["accuracy"])


def test_the_extra_is_named_where_tensorboard_is_missing(
    train: Train, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(SystemExit):
        train("logger=tensorboard")
    assert "pip install 'genreclf[tensorboard]'" in capsys.readouterr().err


def test_csv_has_the_learning_rate(train: Train) -> None:
    result = train("logger=csv")
    header, *rows = (result["folder"] / "csv/version_0/metrics.csv").read_text().splitlines()
    column = header.split(",").index("lr")
    rates = [row.split(",")[column] for row in rows if row.split(",")[column]]
    assert [float(rate) for rate in rates] == [epoch["lr"] for epoch in result["history"]]


def break_csv(patch: pytest.MonkeyPatch, method: str) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise OSError("No space left on device")

    if method == "experiment":
        patch.setattr(CSVLogger, method, property(fail))
    else:
        patch.setattr(CSVLogger, method, fail)


def read_csv_epochs(folder: Path) -> list[str]:
    """The lines of the newest metrics.csv, without its header."""
    newest = max(folder.glob("csv/version_*/metrics.csv"))
    return newest.read_text().splitlines()[1:]


@pytest.mark.parametrize(
    "method", ["__init__", "experiment", "log_hyperparams", "log_metrics", "save", "finalize"]
)
def test_a_failing_logger_does_not_cost_the_result_a1(
    train: Train, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A1: one line of warning; and the same command logs the finished run when that works again."""
    with monkeypatch.context() as patch:
        break_csv(patch, method)
        result = train()
    log = (result["folder"] / "train.log").read_text()
    assert log.count("failed and logs nothing more") == 1
    assert "OSError: No space left on device" in log
    assert result["logged"] == []
    assert not (result["folder"] / "failure.json").exists()
    again = train()
    assert again["logged"] == [{"_target_": "pytorch_lightning.loggers.CSVLogger"}]
    assert len(read_csv_epochs(result["folder"])) >= len(again["history"])


@pytest.mark.parametrize("place", ["wandb.init", "genreclf.training.wandb._make_media"])
def test_wandb_that_fails_does_not_cost_the_result_a1(
    train: Train, tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A1: when the network is down at the start, or a chart cannot be made at the end."""

    def fail(*_: Any, **__: Any) -> None:
        raise wandb.errors.CommError("the network is down")

    with monkeypatch.context() as patch:
        patch.setattr(place, fail)
        result = train("logger=wandb")
    assert result["test"]["n"] == 10
    assert result["logged"] == []
    assert "CommError: the network is down" in (result["folder"] / "train.log").read_text()
    train("logger=wandb")
    (offline,) = [run for run in read_offline_runs(tmp_path) if run.exit_code == 0]
    assert offline.summary["test/accuracy"] == result["test"]["accuracy"]


@pytest.mark.parametrize("cache", ["memory", "float16", "device"])
def test_wandb_shows_spectrograms_with_any_cache_a1(
    train: Train, tmp_path: Path, cache: str
) -> None:
    """A1: the batches of a cache are rows, but what W&B shows are features."""
    train(f"cache={cache}", "logger=wandb")
    (offline,) = read_offline_runs(tmp_path)
    assert offline.summary["spectrograms.count"] == 6


def test_another_logger_on_a_finished_run_logs_its_result_d7(train: Train, tmp_path: Path) -> None:
    """D7, A15: history, test metrics, charts and checkpoint; and only once in each place."""
    result = train("logger=none", "trainer.max_epochs=2")
    assert not (result["folder"] / "csv").exists()
    for _ in range(2):
        again = train("logger=wandb", "trainer.max_epochs=2", "num_workers=1")
    (offline,) = read_offline_runs(tmp_path)
    for metric in ("lr", "train/loss", "val/accuracy"):
        assert offline.curve(metric) == [
            (epoch["epoch"], pytest.approx(epoch[metric])) for epoch in result["history"]
        ]
    assert offline.summary["test/accuracy"] == result["test"]["accuracy"]
    assert offline.summary["best_epoch"] == result["best_epoch"]
    assert offline.summary["spectrograms.count"] == 6
    assert offline.artifacts["model"].name == f"model-{result['folder'].name}"
    assert again["history"] == result["history"]
    assert [place["project"] for place in again["logged"]] == ["genreclf"]
    assert train("trainer.max_epochs=2")["logged"] == again["logged"], "csv is only the default"
    train("logger=wandb", "logger.project=other", "trainer.max_epochs=2")
    assert [run.run.project for run in read_offline_runs(tmp_path)] == ["genreclf", "other"]


def test_no_logger_and_several_d12(train: Train, tmp_path: Path) -> None:
    """D12: logger=none turns logging off; an option of your own can have several loggers."""
    folder = train("logger=none")["folder"]
    assert {file.name for file in folder.iterdir()} == {
        *(".lock", "train.log", "config.yaml", "best.ckpt", "predictions.csv", "result.json"),
    }
    (tmp_path / "mine" / "logger").mkdir(parents=True)
    (tmp_path / "mine" / "logger" / "both.yaml").write_text(
        "# Two loggers.\ndefaults:\n  - csv@table\n  - tensorboard@curves\n"
    )
    folder = ["--config-dir", str(tmp_path / "mine")]  # an option of Hydra stands last
    result = train("logger=both", "seed=3", f"outputs={tmp_path}", *folder)
    assert list(result["folder"].glob("csv/version_0/metrics.csv"))
    assert list(result["folder"].glob("tensorboard/version_0/events*"))
    assert len(result["logged"]) == 1


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        (["logger.nmae=x"], "Could not override 'logger.nmae'"),
        (["+logger.nmae=x"], "logger.nmae: there is no such key; did you mean logger.name?"),
    ],
)
def test_a_wrong_setting_of_a_logger_is_refused(
    train: Train, capsys: pytest.CaptureFixture[str], settings: list[str], line: str
) -> None:
    with pytest.raises(SystemExit):
        train(*settings)
    assert line in capsys.readouterr().err


@pytest.mark.slow
def test_the_fastest_trainer_logs_to_wandb_a1(train: Train, tmp_path: Path) -> None:
    """A1: trainer=gpu caches on the device, compiles and computes in bfloat16; it works on a CPU.

    Compiling is left out: it takes minutes on a CPU. test_train compiles.
    """
    settings = ["trainer=gpu", "trainer.accelerator=cpu", "compile=false", "logger=wandb"]
    result = train(*settings, "model=efficient_cnn")
    (offline,) = read_offline_runs(tmp_path)
    assert offline.exit_code == 0
    assert offline.summary["test/accuracy"] == result["test"]["accuracy"]


def test_mlflow_has_parameters_metrics_and_artifacts(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a real SQLite store: the run of a phase, by name and tags."""
    mlflow = pytest.importorskip(
        "mlflow", reason="logger=mlflow needs an extra: pip install 'genreclf[mlflow]'"
    )
    monkeypatch.setenv("WANDB_RUN_GROUP", "paper-folder-1a2b3c4d")
    result = train(
        "logger=mlflow", "trainer.max_epochs=2", "phase=best", "model=cnn_gru", "report=true"
    )
    client = mlflow.tracking.MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    experiment = client.get_experiment_by_name("genreclf")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"
    assert "trainer.max_epochs=2" in run.info.run_name
    tags = {"group": "paper-folder-1a2b3c4d", "job_type": "best", "folder": result["folder"].name}
    assert tags.items() <= run.data.tags.items()
    assert run.data.params["optimizer/lr"] == str(result["config"]["optimizer"]["lr"])
    for metric in ("lr", "train/loss", "val/accuracy"):
        found = [point.value for point in client.get_metric_history(run.info.run_id, metric)]
        assert found == pytest.approx([epoch[metric] for epoch in result["history"]])
    assert run.data.metrics["test/accuracy"] == result["test"]["accuracy"]
    assert run.data.metrics["best/val/loss"] == pytest.approx(result["metrics"]["val/loss"])
    kept = {file.path for file in client.list_artifacts(run.info.run_id)}
    assert kept == {"best.ckpt", "report.html", "result.json", "predictions.csv"}
    copy = Path(run.info.artifact_uri.removeprefix("file://"), "best.ckpt")
    assert copy.read_bytes() == (result["folder"] / "best.ckpt").read_bytes()
    assert tmp_path / "mlflow_artifacts" in copy.parents


def test_the_extra_is_named_before_anything_is_decoded(
    command: Callable[..., str],
    music: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(SystemExit):
        command("train", "data=folder", f"data.root={music}", *TINY, "logger=mlflow")
    assert "pip install 'genreclf[mlflow]'" in capsys.readouterr().err
    assert not list(tmp_path.rglob("*.h5"))
