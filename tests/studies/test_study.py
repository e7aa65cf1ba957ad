"""Studies with small phases that can be run, killed and resumed within a test."""

import math
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import hydra
import numpy as np
import pytest
import torch
from conftest import TINY
from omegaconf import OmegaConf

from genreclf.commands import study_overrides
from genreclf.commands.compose import read_sweep
from genreclf.evaluation.runs import Predictions
from genreclf.files import write_json
from genreclf.studies.estimate import Workload, count_used_tracks, describe_estimate
from genreclf.studies.ranking import choose_best, find_weakest_genre
from genreclf.studies.study import Phase, Point, Study

SMALL = [text for text in TINY if text != "report=false"]
PHASES = {
    "tiny_model": 'model: "efficient_cnn,cnn_gru"',
    "tiny_rate": 'optimizer.lr: "1e-4,3e-3"',
    "tiny_axis": 'model.axis: "time,depth,frequency"',
    "tiny_batch": 'batch_size: "2,33"',
}


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of config options, like a user's own."""
    folder = tmp_path_factory.mktemp("options")
    for group in ("phase", "study"):
        (folder / group).mkdir()
    for name, params in PHASES.items():
        text = f"# @package _global_\nhydra: {{sweeper: {{params: {{{params}}}}}}}\ntest: false\n"
        (folder / "phase" / f"{name}.yaml").write_text(text)
    (folder / "study" / "tiny.yaml").write_text(
        "phases: [tiny_model, tiny_rate]\noverrides: [optimizer=adam]\nmetric: val/loss\n"
        "test: tiny_rate\n"
    )
    return folder


@pytest.fixture(scope="module")
def arguments(options: Path, music: Path) -> Callable[..., list[str]]:
    """The command line of a small study below `outputs`."""

    def make(outputs: Path, *more: str) -> list[str]:
        data = ["data=folder", f"data.root={music}", "data.duration=2.5", *SMALL]
        store = f"store={options.parent / 'study.h5'}"
        head = [sys.executable, "-m", "genreclf", "study", "--config-dir", str(options)]
        return [
            *head,
            "study=tiny",
            *data,
            store,
            "trainer.max_epochs=2",
            f"outputs={outputs}",
            *more,
        ]

    return make


def finish(command: list[str], **settings: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=600, **settings)


def read(outputs: Path) -> Study:
    (folder,) = (outputs / "study").iterdir()
    return Study.read(folder)


@pytest.fixture(scope="module")
def whole(arguments: Callable[..., list[str]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The outputs of a study that was not interrupted."""
    outputs = tmp_path_factory.mktemp("whole")
    done = finish(arguments(outputs))
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].endswith("report.html")
    return outputs


@pytest.mark.slow
def test_each_phase_starts_from_what_the_previous_one_chose(whole: Path) -> None:
    study = read(whole)
    assert [phase.name for phase in study.phases] == ["tiny_model", "tiny_rate", "test"]
    for phase in study.phases:
        losses = [run.result["metrics"]["val/loss"] for p in phase.points for run in p.runs]
        assert phase.winner == losses.index(min(losses))
        assert not any(f.startswith("seed=1") for f in phase.command)
    model, rate, test = study.phases
    assert [point.overrides for point in model.points] == [
        ["model=efficient_cnn"],
        ["model=cnn_gru"],
    ]
    assert model.chosen
    assert rate.chosen
    (run,) = test.points[0].runs
    assert {*model.chosen.overrides, *rate.chosen.overrides, "optimizer=adam"} <= set(test.command)
    assert run.result["config"]["optimizer"]["lr"] in (1e-4, 3e-3)
    assert run.result["config"]["optimizer"]["_target_"].endswith("adam")


@pytest.mark.slow
def test_the_winner_is_tested_once_and_not_trained_again_a31(whole: Path) -> None:
    """A31: the tested model is the one that was chosen, bit by bit, not one trained again."""
    study = read(whole)
    chosen, (tested,) = study.phases[1].chosen, study.phases[2].points[0].runs
    assert chosen
    (winner,) = chosen.runs
    first, second = ((run.folder / "best.ckpt").read_bytes() for run in (winner, tested))
    assert first == second
    assert "the model of" in (tested.folder / "train.log").read_text()
    for key in ("history", "seconds", "best_epoch", "val"):
        assert tested.result[key] == winner.result[key]
    assert len(tested.result["sessions"]) == 2, "training, and the test"
    assert tested.result["metrics"]["test/accuracy"] == tested.result["test"]["accuracy"]


@pytest.mark.slow
def test_only_the_test_uses_the_test_part(whole: Path) -> None:
    study = read(whole)
    tested = [run.result["tested_on"] for p in study.phases for q in p.points for run in q.runs]
    assert tested == ["val"] * 4 + ["test"]
    first = study.phases[0].points[0].runs[0].result
    assert first["test"] == first["val"]
    assert not any(name.startswith("test/") for name in first["metrics"])


@pytest.mark.slow
def test_the_report_is_written(whole: Path) -> None:
    (folder,) = (whole / "study").iterdir()
    assert "tiny_rate" in (folder / "report.html").read_text()
    assert "tiny_rate" in (folder / "report.md").read_text()


def results(outputs: Path) -> dict[Path, int]:
    return {file: file.stat().st_mtime_ns for file in outputs.glob("train/*/result.json")}


@pytest.mark.slow
def test_a_finished_study_runs_nothing_again(
    whole: Path, arguments: Callable[..., list[str]]
) -> None:
    before = results(whole)
    assert len(before) == 5
    assert finish(arguments(whole)).returncode == 0
    assert results(whole) == before


@pytest.mark.slow
def test_the_printed_command_repeats_a_phase(
    whole: Path, arguments: Callable[..., list[str]]
) -> None:
    before = results(whole)
    command = read(whole).phases[1].command
    assert shlex.split(shlex.join(command)) == command
    done = finish([sys.executable, "-m", "genreclf", *command])
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("its result is reused") == 2
    assert results(whole) == before


@pytest.mark.slow
def test_status_reports_progress_even_after_outputs_were_moved(
    whole: Path, command: Callable[..., str], tmp_path: Path
) -> None:
    shutil.copytree(whole, tmp_path / "moved")
    for outputs in (whole, tmp_path / "moved"):
        last = command("study", "--status", f"outputs={outputs}")
        assert last.startswith("  test")
        assert "1/1  accuracy 0." in last
        assert "on the test part" in last
    for phase in read(tmp_path / "moved").phases[:2]:
        for point in phase.points:
            assert [run.folder.is_relative_to(tmp_path) for run in point.runs] == [True]


@pytest.mark.slow
def test_status_imports_nothing_slow_d20(whole: Path) -> None:
    """D20: --status answers in about a second, because it imports no library that is slow."""
    code = (
        "import sys\n"
        f"sys.argv = ['genreclf', 'study', '--status', 'outputs={whole}']\n"
        "from genreclf.__main__ import main\n"
        "main()\n"
        "print(*sys.modules)"
    )
    done = finish([sys.executable, "-c", code])
    assert done.returncode == 0, done.stderr
    imported = set(done.stdout.splitlines()[-1].split())
    slow = {"torch", "pytorch_lightning", "sklearn", "scipy", "h5py", "matplotlib", "librosa"}
    assert not imported & slow


def figures(outputs: Path) -> Any:
    """What interruptions must not change: everything but folders and times."""
    return [
        (phase.winner, [(point.overrides, [(r["history"], r["test"], r["val"]) for r in runs])])
        for phase in read(outputs).phases
        for point in phase.points
        for runs in [[run.result for run in point.runs]]
    ]


@pytest.mark.slow
def test_a_killed_study_ends_like_one_that_was_not(
    whole: Path, arguments: Callable[..., list[str]], tmp_path: Path
) -> None:
    """SIGKILL while it starts, while a run trains, and between two runs."""
    moments = ("study/*/study.json", "train/*/last.ckpt", "train/*/result.json")
    for moment in moments:
        process = subprocess.Popen(
            arguments(tmp_path), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        while process.poll() is None and not list(tmp_path.glob(moment)):
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.wait()
    done = finish(arguments(tmp_path))
    assert done.returncode == 0, done.stderr
    assert figures(tmp_path) == figures(whole)


@pytest.mark.slow
def test_a_failed_run_stops_the_study_after_the_others_have_finished(
    arguments: Callable[..., list[str]], tmp_path: Path, command: Callable[..., str]
) -> None:
    phases = "study.phases=[tiny_axis,tiny_rate]"
    done = finish(arguments(tmp_path, phases, "model=cnn_gru", "study.test=null"))
    assert done.returncode == 1
    error = done.stderr.splitlines()[-1]
    assert "phase tiny_axis: 1 of 3 runs failed, so nothing was chosen" in error
    assert "model.axis='depth': choose time or frequency" in error
    assert "Traceback" not in done.stderr
    assert len(results(tmp_path)) == 2
    assert not read(tmp_path).phases[1].points
    assert command("study", "--status", f"outputs={tmp_path}").startswith("  tiny_rate")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("option", "phases", "runs"),
    [
        ("demo", "scheduler,enhancement", [2, 2, 1]),
        ("paper", "scheduler,enhancement", [2, 2, 1]),
        ("artist_effect", "splits", [2]),
    ],
)
def test_every_study_runs(
    music: Path, tmp_path: Path, option: str, phases: str, runs: list[int]
) -> None:
    """A14: study=paper enhances the genre that its winner recognises worst, on any data."""
    data = ["data=folder", f"data.root={music}", "data.duration=2.5", *SMALL]
    data = [text for text in data if not (option == "demo" and "hop_length" in text)]
    head = [sys.executable, "-m", "genreclf", "study", f"study={option}", "trainer.max_epochs=1"]
    place = [f"outputs={tmp_path}", f"study.phases=[{phases}]", "study.seeds=[1]"]
    done = finish([*head, *data, *place])
    assert done.returncode == 0, done.stderr
    study = read(tmp_path)
    assert [len(phase.points) for phase in study.phases] == runs
    assert all(len(point.runs) == 1 for phase in study.phases for point in phase.points)
    if option != "artist_effect":
        before, enhancement, _ = study.phases
        assert before.chosen
        weakest = find_weakest_genre(before.chosen.runs)
        assert f'oversampling.genres=["{weakest}"]' in enhancement.command
        standard, strong = (point.runs[0].result for point in enhancement.points)
        assert strong["config"]["oversampling"]["genres"] == [weakest]
        assert strong["history"] != standard["history"], "the points differ"
        report = (next(tmp_path.glob("study/*")) / "report.md").read_text()
        assert f"those measured are for {weakest}" in report
    else:
        (only,) = study.phases
        assert only.left_out == {"split=official": "the dataset has no official split"}
        assert {run.result["config"]["split"]["seed"] for p in only.points for run in p.runs} == {1}


def test_the_paper_has_its_54_points() -> None:
    with hydra.initialize_config_module("genreclf.conf", version_base="1.3"):
        phases = hydra.compose("study", ["study=paper"]).study.phases
        counts = {p: math.prod(len(v) for v in read_sweep(p).values()) for p in phases}
    assert counts == {
        "features": 3,
        "models": 3,
        "batch_size": 4,
        "learning_rate": 4,
        "optimizer": 2,
        "scheduler": 2,
        "grid": 54,
        "enhancement": 2,
    }


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="limits memory as Linux does")
def test_a_run_that_does_not_fit_in_memory_is_a_result(
    arguments: Callable[..., list[str]], tmp_path: Path
) -> None:
    long = ["features.duration=20", "features.n_mels=128", "features.hop_length=256"]
    limit = 2_000_000_000  # bytes of data; 33 clips of 128 x 1723 need more, 2 do not
    done = finish(
        [
            *arguments(tmp_path, "study.phases=[tiny_batch]", "study.test=null", *long),
            f"store={tmp_path}/long.h5",
        ],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_DATA, (limit, limit)),
    )
    assert done.returncode == 0, done.stderr
    (phase,) = read(tmp_path).phases
    assert [point.fits_in_memory() for point in phase.points] == [True, False]
    assert phase.winner == 0
    (failure,) = phase.points[1].list_failures()
    assert "batch_size=33 does not fit in the memory of this machine" in failure["error"]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "optimizer.lr=1e-2",
            "optimizer.lr=1e-2: phase tiny_rate chooses optimizer.lr; ",
        ),
        ("seed=3", "seed=3: use study.seeds=[...] instead"),
        ("phase=grid", "phase=grid: use study.phases=[...] instead"),
        ("study.phases=[]", "study.phases and study.seeds: give at least one of each"),
        ("study.metric=val/acc", "study.metric=val/acc: choose one of val/loss"),
    ],
)
def test_bad_input_is_one_line(
    options: Path,
    command: Callable[..., str],
    capsys: pytest.CaptureFixture[str],
    override: str,
    message: str,
) -> None:
    with pytest.raises(SystemExit):
        command("study", "--config-dir", str(options), "study=tiny", override)
    assert capsys.readouterr().err.splitlines()[-1].startswith(f"genreclf: {message}")


@pytest.mark.slow
def test_estimate_measures(command: Callable[..., str], tmp_path: Path) -> None:
    last = command(
        *("study", "--estimate", "study=paper", "study.phases=[models,grid]"),
        *("data.duration=2.5", "data.artists=2", "features.n_mels=32", "features.hop_length=1024"),
    )
    assert last.startswith("training: ")
    assert "clips/s" in last
    assert not list(tmp_path.glob("study/*"))


def test_estimate_counts_the_tracks_that_runs_use_d9() -> None:
    """D9: with `tracks_per_genre`, --estimate gives the time of the trial, not of all data."""
    assert count_used_tracks([800, 200], None) == 1000
    assert count_used_tracks([800, 30], 70) == pytest.approx(100 + 30)
    study = Study("tiny", None, [0], [], [Phase("a", planned=2), Phase("b", planned=1)], [])
    workload = Workload(
        *(8000, {"a": 8000, "b": 80}, 0, [], Path(), 1, {"a": 10, "b": 30}),
        speed=100.0,
    )
    line = describe_estimate(study, workload).splitlines()[-1]
    minutes = (20 * 8000 + 30 * 80) * (0.7 + 0.1 / 3) / 100 / 60
    assert line.startswith(f"training: at most {minutes:.0f} min at 100.0 clips/s")
    assert "50 epochs" in line
    packed = replace(workload, packed=True)
    assert "packed runs in turns" in describe_estimate(study, packed).splitlines()[-1]


def test_phases_are_packed_on_a_gpu_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command of a phase names the launcher; on the CPU, and if another was chosen, not."""
    given: list[str] = []
    monkeypatch.setattr(study_overrides.compose, "list_hydra_options", lambda: list(given))
    gpu, cpu = (OmegaConf.create({"trainer": {"accelerator": name}}) for name in ("auto", "cpu"))
    assert study_overrides.list_sweep_options(gpu) == []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert study_overrides.list_sweep_options(gpu) == ["hydra/launcher=packed"]
    assert study_overrides.list_sweep_options(cpu) == []
    given.append("hydra/launcher=joblib")
    assert study_overrides.list_sweep_options(gpu) == given


def test_runs_that_ran_out_of_memory_are_repeated_on_request_a8(tmp_path: Path) -> None:
    """A8: with --retry; otherwise such a run counts as finished. Other failures are kept."""
    points = []
    for name, exhausted in (("large", True), ("broken", False)):
        write_json(tmp_path / name / "failure.json", {"error": "", "out_of_memory": exhausted})
        points.append(Point([], [str(tmp_path / name)]))
    phase = Phase("p", points=points)
    assert phase.count_finished() == 1
    phase.forget_exhausted_runs()
    assert phase.count_finished() == 0
    assert [len(point.list_failures()) for point in points] == [0, 1]


@pytest.mark.parametrize(("losses", "winner"), [([1, 1, 1, 1], 1), ([1, 3, 2, 1], 2)])
def test_ties_go_to_the_lower_loss_then_the_lower_number_a31(
    tmp_path: Path, losses: list[float], winner: int
) -> None:
    """A31: of two equal accuracies the paper chose the one with the lower loss (Table V).

    Only points with a result for each seed can win.
    """
    points = []
    for number, (value, loss) in enumerate(zip([0.25, 0.5, 0.5, 0.75], losses, strict=True)):
        folder = tmp_path / str(number)
        val = {"accuracy": value, "loss": loss}
        write_json(folder / "result.json", {"metrics": {}, "val": val})
        Predictions([], np.zeros(0, int), np.zeros((0, 2)), ["a", "b"]).write(
            folder / "predictions.csv"
        )
        points.append(Point([f"seed={number}"], [str(folder)]))
    write_json(tmp_path / "other" / "failure.json", {"error": "too large", "out_of_memory": True})
    points[3].folders.append(str(tmp_path / "other"))
    assert choose_best(points, "val/accuracy") == winner
    assert choose_best(points[3:], "val/accuracy") is None


@pytest.mark.slow
def test_a_study_of_your_own_needs_yaml_only_a27(
    music: Path, tmp_path: Path, command: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    """A27: phases in folders, with the same key, another metric; a run that diverges cannot win."""
    rates = {"coarse": "1e30,1e-3", "fine": "1e-3,3e-3", "wild": "1e30,1e31"}
    for group in ("phase/mine", "study"):
        (tmp_path / "options" / group).mkdir(parents=True)
    for name, values in rates.items():
        text = (
            f"# @package _global_\nhydra: {{sweeper: {{params: {{optimizer.lr: '{values}'}}}}}}\n"
        )
        (tmp_path / "options" / "phase" / "mine" / f"{name}.yaml").write_text(f"{text}test: false")
    (tmp_path / "options" / "study" / "own.yaml").write_text(
        "phases: [mine/coarse, mine/fine]\nmetric: val/f1_macro\n"
    )
    place = f"hydra.searchpath=[file://{tmp_path}/options]"
    arguments = [
        *("study", place, "study=own", "data=folder"),
        *(f"data.root={music}", "data.duration=2.5", *TINY, "trainer.max_epochs=1"),
    ]
    assert command(*arguments).endswith("study.json")
    coarse, fine = read(tmp_path).phases
    assert coarse.winner == 1
    assert [len(point.runs) for point in coarse.points] == [0, 1]
    assert not any(text.startswith("optimizer.lr") for text in fine.command)
    scores = [point.runs[0].result["val"]["f1_macro"] for point in fine.points]
    assert fine.winner is not None
    assert scores[fine.winner] == max(scores)
    with pytest.raises(SystemExit):
        command(*arguments, "study.phases=[mine/wild]")
    error = capsys.readouterr().err.splitlines()[-1]
    assert "phase mine/wild: no point has a result with every seed (2 runs diverged)" in error
    assert "so nothing can be chosen; training diverged" in error
