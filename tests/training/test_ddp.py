"""One run by two processes on the CPU: real ones, connected by gloo on the loopback device.

A CPU has no synchronised batch normalisation, and two processes shuffle differently from one. So
a whole run is not compared with that of one process. What is compared: steps of a model without
batch normalisation on batches that hold all tracks, where the order does not matter; a run that was
interrupted with one that was not; and the shares of the processes with the training part.
"""

import contextlib
import logging
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import forks
import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from conftest import TINY, heed_ctrl_c
from torch import nn

from genreclf.data.datamodule import StoreDataModule
from genreclf.data.datasets import Track
from genreclf.data.store import Store
from genreclf.errors import InputError
from genreclf.evaluation.runs import Predictions
from genreclf.files import read_json
from genreclf.training import launch, process_group
from genreclf.training.callbacks import History
from genreclf.training.classifier import Classifier

LOG = "log"
TWO = ["trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2"]
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--local-addr=127.0.0.1"]
TORCHRUN += ["--nproc-per-node=2"]


@pytest.fixture(scope="module")
def shared(music: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Arguments of a small run; its store is made once."""
    store = tmp_path_factory.mktemp("ddp") / "store.h5"
    data = ["data=folder", f"data.root={music}", "data.duration=2.5", *TINY, f"store={store}"]
    forks.run("-m", "genreclf", "prepare", *data[:-2], data[-1]).check_returncode()
    return [*data, "model=efficient_cnn"]


@contextlib.contextmanager
def started(arguments: list[str], outputs: Path) -> Iterator[subprocess.Popen]:
    """`genreclf train`; whatever is left of its processes at the end is a failure."""
    outputs.mkdir(exist_ok=True)
    with (outputs / LOG).open("w") as file:
        process = subprocess.Popen(
            [sys.executable, *arguments, f"outputs={outputs}"],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=file,
            stderr=subprocess.STDOUT,
            preexec_fn=heed_ctrl_c,
            start_new_session=True,
        )
    try:
        yield process
        process.wait(120)
        wait_until(lambda: not find_processes(outputs))
    finally:
        for left in find_processes(outputs):
            with contextlib.suppress(ProcessLookupError):
                os.kill(left, signal.SIGKILL)
        process.wait()


def find_processes(outputs: Path) -> list[int]:
    """Processes with this folder among their arguments."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            arguments = (folder / "cmdline").read_bytes().split(b"\0")
            if f"outputs={outputs}".encode() in arguments:
                found.append(int(folder.name))
    return found


def wait_until(true: Callable[[], Any], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def run_train(arguments: list[str], outputs: Path, status: int = 0) -> str:
    with started(arguments, outputs) as process:
        pass
    output = (outputs / LOG).read_text()
    assert process.returncode == status, output
    assert "Warning" not in output
    assert "Traceback" not in output
    return output


def find_checkpoint_time(outputs: Path) -> int:
    """When the last checkpoint was written."""
    return max((path.stat().st_mtime_ns for path in outputs.glob("train/*/last.ckpt")), default=0)


def read_losses(outputs: Path) -> np.ndarray:
    (path,) = outputs.glob("train/*/result.json")
    history = read_json(path)["history"]
    return np.array([[epoch["train/loss"], epoch["val/loss"]] for epoch in history])


@pytest.mark.slow
def test_a_run_that_was_cut_twice_continues_as_if_it_had_not_been(
    shared: list[str], tmp_path: Path
) -> None:
    """A process is killed, then the command gets Ctrl-C; torchrun starts the whole run."""
    command = ["-m", "genreclf", "train", *TWO, *shared, "trainer.max_epochs=20", "patience=20"]
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    run_train([*TORCHRUN, *command], whole)
    (folder,) = whole.glob("train/*")
    assert {file.name for file in folder.iterdir()} == {
        *(".lock", "csv", "train.log", "config.yaml"),
        *("best.ckpt", "predictions.csv", "result.json"),
    }
    assert len(Predictions.read(folder / "predictions.csv").track_ids) == 10
    for number, status, line in (
        (signal.SIGKILL, 1, "process 2 of 2 failed (exit status -9; out of memory?); the same"),
        (signal.SIGINT, 130, "interrupted; the same command continues from here"),
    ):
        before = find_checkpoint_time(cut)
        with started(command, cut) as process:
            wait_until(lambda: find_checkpoint_time(cut) > before)  # noqa: B023
            others = [pid for pid in find_processes(cut) if read_rank(pid) == "1"]
            os.kill(process.pid if number == signal.SIGINT else others[0], number)
        output = (cut / LOG).read_text()
        assert process.returncode == status, output
        assert output.splitlines()[-1].startswith(f"genreclf: {line}")
        assert "Traceback" not in output
    run_train(command, cut)
    np.testing.assert_allclose(read_losses(cut), read_losses(whole), atol=1e-5, rtol=0)
    assert not list(cut.glob("train/*/last.ckpt"))


def test_a_process_ends_when_its_parent_is_killed() -> None:
    work = "from genreclf.training import launch; launch.exit_with_parent(); print(1, flush=True)"
    child = f"{work}; import time; time.sleep(60)"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    with subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()
        process.kill()
        assert process.stdout.read() == b"", "until the child has closed it"


# torch's launcher does not close the files of what the processes write.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_command_that_fails_in_each_process_is_one_line() -> None:
    launch.start_processes(2, ["--version"])
    with pytest.raises(InputError, match=r"process . of 2 failed \(.*(no command|status 2)"):
        launch.start_processes(2, ["nonsense"])
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def read_rank(pid: int) -> str | None:
    variables = Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0")
    return dict(text.split("=", 1) for text in variables if "=" in text).get("RANK")


@pytest.mark.parametrize(
    ("variables", "arguments", "line"),
    [
        ({}, ["batch_size=3"], "batch_size=3 cannot be divided among 2 processes"),
        ({}, ["trainer.num_nodes=2"], "trainer.num_nodes=2: start the command on each machine"),
        (
            {"RANK": "1", "WORLD_SIZE": "4", "LOCAL_RANK": "1"},
            ["trainer=default"],
            "torchrun or srun started 4 processes, but trainer.devices times trainer.num_nodes is",
        ),
        (
            {"SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "4", "SLURM_NTASKS": "4"},
            [],
            "torchrun or srun started 4 processes, but trainer.devices times trainer.num_nodes is",
        ),
    ],
)
def test_processes_that_cannot_train_are_refused_a10(
    command: Callable[..., str],
    music: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    variables: dict[str, str],
    arguments: list[str],
    line: str,
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    two = [text for text in TWO if "trainer=default" not in arguments]
    monkeypatch.setattr(logging, "disable", lambda: None)  # which a process of rank 1 calls
    with pytest.raises(SystemExit):
        command("train", *two, *arguments, "data=folder", f"data.root={music}", *TINY)
    assert capsys.readouterr().err.splitlines()[-1].startswith(f"genreclf: {line}")


def test_slurm_without_srun_means_one_process_a10(
    train: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """B18: in a Slurm job without srun, the variables of the whole job ended in a traceback."""
    slurm = {"NTASKS": "4", "PROCID": "0", "LOCALID": "0", "NODEID": "0", "JOB_ID": "12"}
    for name, value in slurm.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    assert train("model=efficient_cnn")["device"] == "CPU"


@pytest.mark.slow
def test_a_refusal_of_rank_0_ends_the_other_ranks_a10(
    music: Path, command: Callable[..., str], tmp_path: Path
) -> None:
    """A10: only rank 0 sees that something is wrong; the others do not wait for it.

    As srun starts them: nobody ends a process because another one has failed.
    """
    store = f"store={tmp_path}/one.h5"
    data = ["data=folder", f"data.root={music}", "data.genres=[Rock]", "data.duration=2.5"]
    command("prepare", *data, *TINY[:-1], store)
    words = ["-m", "genreclf", "train", *TWO, *data[:2], *data[3:], *TINY, store]
    for done in forks.run_ranks(*words, f"outputs={tmp_path}/out", cwd=tmp_path):
        error = done.stderr
        assert done.returncode == 1, error
        line = "genreclf: one genre only (Rock) in the usable tracks; two are needed"
        assert line in error.splitlines()
        assert "Traceback" not in error


@pytest.mark.slow
def test_parameters_without_a_gradient_work_a11(shared: list[str], tmp_path: Path) -> None:
    """A11: with model.unused_gate=true, DDP gets no gradient for some parameters, step by step."""
    arguments = [text for text in shared if not text.startswith("model")]
    gate = ["model=cnn_gru", "model.unused_gate=true", "batch_size=8", "trainer.max_epochs=2"]
    words = ["-m", "genreclf", "train", *TWO, *arguments, *gate, f"outputs={tmp_path}"]
    for done in forks.run_ranks(*words, cwd=tmp_path):
        assert done.returncode == 0, done.stderr
        assert not re.search("Warning|Traceback", done.stdout + done.stderr)
    assert len(read_losses(tmp_path)) == 2


def make_parts_of_steps(store: Store) -> tuple[Classifier, StoreDataModule]:
    """A model without batch normalisation, and batches of all 12 training tracks."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(8 * 16, 2))
    classifier = Classifier(net, ["a", "b"], lambda given: torch.optim.SGD(given, lr=0.1))
    split = {"train": np.arange(12), "val": np.arange(12, 17)}
    return classifier, StoreDataModule(store, split, batch_size=12, seed=3)


def make_trainer(**settings: Any) -> pl.Trainer:
    quiet: dict[str, Any] = {"enable_progress_bar": False, "enable_model_summary": False}
    quiet |= {"enable_checkpointing": False, "logger": False, "accelerator": "cpu"}
    return pl.Trainer(max_epochs=4, **quiet | settings)


def fit_in_one_of_two(rank: int, path: Path, folder: Path, port: int) -> None:
    """What each of two processes does; it saves weights, losses and the tracks it trained on."""
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "GLOO_SOCKET_IFNAME": "lo"}
    ranks = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2}
    os.environ |= {name: str(value) for name, value in {**address, **ranks}.items()}
    classifier, data = make_parts_of_steps(Store(path))
    two = {"devices": 2, "strategy": "ddp"}
    settings = process_group.list_settings(make_trainer(**two))
    trainer = make_trainer(**two | settings)
    trainer.fit(classifier, data)
    rows = []
    for epoch in range(2):
        loader = data.train_dataloader()
        loader.sampler.set_epoch(epoch)  # pyright: ignore
        rows.append([row for *_, batch in loader for row in batch.tolist()])
    losses = {key: float(value) for key, value in trainer.callback_metrics.items()}
    torch.save((classifier.net.state_dict(), losses, rows), folder / f"{rank}.pt")
    torch.distributed.destroy_process_group()


def test_a_machine_has_no_more_processes_than_devices_a10(monkeypatch: pytest.MonkeyPatch) -> None:
    """A10: srun --ntasks=4 may start three processes on one machine and one on another."""
    for name, value in {"PROCID": "2", "LOCALID": "2", "STEP_NUM_TASKS": "4"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    probe = process_group.make_probe(lambda **kw: make_trainer(devices=2, num_nodes=2, **kw))
    with pytest.raises(InputError, match="add --ntasks-per-node=2"):
        process_group.check_processes(probe, batch_size=4)
    monkeypatch.setenv("SLURM_LOCALID", "0")
    process_group.check_processes(probe, batch_size=4)


@pytest.mark.slow
def test_two_processes_take_the_steps_of_one(
    make_store: Callable[..., Store], random_rows: Callable[..., np.ndarray], tmp_path: Path
) -> None:
    store = make_store([Track(str(n), "ab"[n % 2]) for n in range(17)], random_rows(17))
    classifier, data = make_parts_of_steps(store)
    trainer = make_trainer()
    trainer.fit(classifier, data)
    port = process_group.LightningEnvironment().main_port
    arguments = f"Path({str(store.path)!r}), Path({str(tmp_path)!r}), {port}"
    words = "from pathlib import Path; from test_ddp import fit_in_one_of_two as fit; fit"
    folder = Path(__file__).parent
    both = [forks.Fork("-c", f"{words}({rank}, {arguments})", cwd=folder) for rank in range(2)]
    for done in [fork.wait() for fork in both]:
        assert done.returncode == 0, done.stderr
    weights, losses, rows = zip(*(torch.load(tmp_path / f"{n}.pt") for n in range(2)), strict=True)
    for name, expected in classifier.net.state_dict().items():
        torch.testing.assert_close(weights[0][name], expected, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(weights[0][name], weights[1][name], atol=0, rtol=0)
    for name, value in trainer.callback_metrics.items():
        assert losses[0][name] == losses[1][name] == pytest.approx(float(value), abs=1e-5)
    for first, second in zip(*rows, strict=True):
        assert sorted(first + second) == list(range(12))
    assert rows[0][0] != rows[0][1], "another order in another epoch"


@pytest.mark.parametrize(
    ("statuses", "line"),
    [
        ({0: 130, 1: -9}, r"process 2 of 3 failed \(exit status -9; out of memory\?\)"),
        ({0: launch.LOST, 1: -signal.SIGTERM, 2: 1}, r"process 3 of 3 failed \(why\)"),
        ({0: 1, 1: launch.LOST}, r"process 1 of 3 failed \(exit status 1; out of memory\?\)"),
    ],
)
def test_the_process_that_failed_first_is_named(
    tmp_path: Path, statuses: dict[int, int], line: str
) -> None:
    for rank, text in ((1, ""), (2, "Traceback\ngenreclf: why\n")):
        (tmp_path / f"attempt_0/{rank}").mkdir(parents=True)
        (tmp_path / f"attempt_0/{rank}/stderr.log").write_text(text)
    with pytest.raises(InputError, match=line):
        launch._raise_failure(statuses, 3, tmp_path)
    with pytest.raises(MemoryError):
        launch._raise_failure({0: launch.LOST, 1: launch.EXHAUSTED}, 3, tmp_path)


def test_each_process_has_its_own_random_numbers_and_the_first_those_of_one() -> None:
    seeds = []
    for rank in range(2):
        trainer: Any = type("Trainer", (), {"current_epoch": 3, "global_rank": rank})
        History(7).on_train_epoch_start(trainer, None)  # pyright: ignore[reportArgumentType]
        seeds.append(torch.initial_seed())
    assert seeds[0] == np.random.SeedSequence([7, 3]).generate_state(1)[0]
    assert seeds[1] != seeds[0]
