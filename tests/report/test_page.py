import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import TINY
from html_page import Page
from omegaconf import OmegaConf

from genreclf import paper
from genreclf.commands.sweep_report import SweepReport
from genreclf.errors import InputError
from genreclf.evaluation.metrics import evaluate
from genreclf.evaluation.runs import Predictions, Run
from genreclf.figures import curves
from genreclf.report import groups
from genreclf.report.page import write_report

Train = Callable[..., dict[str, Any]]


def test_a_run_has_its_own_page(train: Train) -> None:
    result = train("report=true", "trainer.max_epochs=2")
    page = Page((result["folder"] / "report.html").read_text())
    assert page.open == []
    assert [link for link in page.links if link[0] != "#"] == [], "nothing from outside"
    accuracy = f"{100 * result['test']['accuracy']:.2f} %"
    for text in (
        accuracy,
        "Confusion matrix",
        "ROC curves",
        "Leakage",
        "Rejected tracks",
        "Ambient",
    ):
        assert text in page.text
    assert "cnn_dropout: 0.3" in page.text
    assert "printed as" not in page.text  # other genres than the paper's


def test_the_papers_genres_are_next_to_their_printed_names(
    command: Callable[..., str], tmp_path: Path
) -> None:
    count = 4 * len(paper.CLASSES)
    np.savez(
        tmp_path / "a.npz",
        features=np.random.default_rng(0).normal(size=(count, 8, 16)),
        labels=np.array(paper.CLASSES * 4),
        track_ids=np.arange(count),
        split=np.array(["training"] * (count // 2) + ["validation"] * (count // 2)),
    )
    data = ("data=npz", f"data.path={tmp_path}/a.npz", "split=official", "trainer.max_epochs=1")
    page = (Path(command("train", *data)).parent / "report.html").read_text()
    assert re.search(r"<td>Pop</td>.*<td>0.44</td><td class=\"text\">Experimental</td>", page)
    assert re.search(r"<td>Experimental</td>.*<td>0.56</td><td class=\"text\">Pop</td>", page)


@pytest.mark.slow
def test_several_runs_are_compared(
    train: Train, command: Callable[..., str], tmp_path: Path
) -> None:
    for split in ("stratified", "artist"):
        train(f"split={split}", "model=efficient_cnn")
    html = Path(command("report")).read_text()
    page = Page(html)
    assert "2 runs" in page.text
    headings = re.findall(r"<h2>(.*?)</h2>", html)
    assert sorted(headings) == ["Runs", "split=artist", "split=stratified"]
    again = Path(command("report", f"runs=[{tmp_path}/train]", f"page={tmp_path}/b.html"))
    assert again.read_text() == html


def test_rejected_and_leaked_tracks_are_listed(command: Callable[..., str], tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(41, 8, 16)).astype(np.float32)
    features[35], features[40] = features[0], 1
    np.savez(
        tmp_path / "a.npz",
        features=features,
        labels=np.array(["a", "<b>"] * 20 + ["a"]),
        track_ids=np.arange(41),
        split=np.array(["training"] * 30 + ["validation"] * 11),
    )
    result = command(
        *("train", "data=npz", f"data.path={tmp_path}/a.npz", "split=official"),
        *("allow_identical=all", "trainer.max_epochs=1"),
    )
    page = Page((Path(result).parent / "report.html").read_text())
    assert page.open == []
    assert "0 = 35" in page.text
    assert "silent: every value is 1.0" in page.text
    assert "This split has no test part" in page.text
    assert "<b>" in page.text, "names are escaped"


def test_figures_are_the_same_each_time() -> None:
    history = [{"epoch": e, **dict.fromkeys(CURVES, 1 / (e + 1))} for e in range(3)]
    assert curves.draw_history(history, 1) == curves.draw_history(history, 1)
    assert curves.draw_confusion([[3, 1], [0, 4]], ["a", "b"]).count("<text") >= 8


CURVES = ["train/loss", "val/loss", "train/accuracy", "val/accuracy"]


def test_a1_curves_without_accuracy() -> None:
    """A1: with metric=kappa alone, the report ended in a KeyError after training."""
    for names, labels in ((("loss", "kappa"), ["loss", "kappa"]), (("loss",), ["loss"])):
        metrics = [f"{part}/{name}" for part in ("train", "val") for name in names]
        history = [{"epoch": e, **dict.fromkeys(metrics, 0.5)} for e in range(2)]
        drawn = curves.draw_history(history, 1)
        assert all(f">{label}<" in drawn or f"{label} -->" in drawn for label in labels)
        assert "<svg" in curves.draw_learning_curves({"a": [history]})


def test_many_genres_keep_different_lines() -> None:
    classes = [f"genre {n}" for n in range(16)]
    labels = np.arange(160) % 16
    scores = np.random.default_rng(0).dirichlet(np.ones(16), 160)
    svg = curves.draw_roc_curves(Predictions([str(n) for n in range(160)], labels, scores, classes))
    lines = re.findall(r'clip-path="[^"]*" style="fill: none; ?(stroke[^"]*)"', svg)
    assert len(set(lines)) >= 16


def test_a_diverged_epoch_is_a_gap(tmp_path: Path) -> None:
    history: list[Any] = [{"epoch": e, **dict.fromkeys(CURVES, 0.5)} for e in range(3)]
    history[1]["val/loss"] = None
    assert "<svg" in curves.draw_history(history, 0)


@pytest.mark.parametrize("runs", ["runs=/nowhere"])
def test_nothing_to_report_is_one_line(
    command: Callable[..., str], runs: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        command("report", runs)
    assert capsys.readouterr().err == "genreclf: runs=/nowhere: no such folder\n"


def make_runs(
    folder: Path, points: list[tuple[float, float]], seeds: int = 1, **split: Any
) -> list[Run]:
    """Runs of a grid of learning rate and dropout, as far as a page reads them."""
    tracks, classes = [str(number) for number in range(30)], ["a", "b", "c"]
    labels, rng, runs = np.arange(30) % 3, np.random.default_rng(0), []
    for lr, dropout in points:
        for seed in range(seeds):
            predictions = Predictions(tracks, labels, rng.dirichlet(np.ones(3), 30), classes)
            metrics = evaluate(labels, predictions.scores, classes)
            config = {
                "seed": seed,
                "monitor": "val/loss",
                "split": {"seed": 42, **split},
                "data": {"_target_": "genreclf.data.Folder"},
                "model": {"cnn_dropout": dropout},
                "optimizer": {"lr": lr},
            }
            overrides = [f"seed={seed}", f"model.cnn_dropout={dropout}"]
            result = {
                "overrides": [*overrides, *[f"optimizer.lr={lr}"] * (lr != 1e-3)],
                "choices": {"split": "artist", "model": "cnn_gru", "phase": "grid"},
                "config": config,
                "data": {
                    "classes": classes,
                    "digest": "d",
                    "store_bytes": 1,
                    "rejected": [],
                    "split": {"train": dict.fromkeys(classes, 9)},
                    "leakage": {"duplicates": [], "unknown_artist": 0},
                },
                "test": metrics,
                "val": metrics,
                "metrics": {},
                "tested_on": "test",
                "params": 5,
                "history": [],
                "seconds": 1.0,
                "commit": None,
                "versions": {},
            }
            name = folder / f"{lr}-{dropout}-{seed}-{split.get('number', '')}"
            name.mkdir(parents=True)
            predictions.write(name / "predictions.csv")
            runs.append(Run(name, result, predictions))
    return runs


def test_a_page_of_many_runs_stays_small_a16(tmp_path: Path) -> None:
    """A16: with many runs, the page has the best in detail and the others in tables."""
    points = [(10.0**-number, dropout / 100) for number in range(5) for dropout in range(50)]
    write_report(make_runs(tmp_path, points), tmp_path / "a.html")
    html = (tmp_path / "a.html").read_text()
    assert Page(html).open == []
    assert len(html) < 400_000
    assert "250 runs" in html
    assert "The best 40 of 250 configurations" in html
    assert html.count("<section") == 1


def test_long_lists_are_cut_a16(tmp_path: Path) -> None:
    """A16: thousands of identical rows or rejected tracks do not fill the page of a run."""
    (run,) = make_runs(tmp_path, [(1e-3, 0.2)])
    run.result["data"]["leakage"] |= {
        "duplicates": [[str(n) for n in range(2000)]],
        "train-test": {
            "identical": [["1", str(n)] for n in range(2000)],
            "artists": 1,
            "albums": 0,
            "tracks_of_shared_artists": 3,
        },
    }
    track = {"track_id": "9", "genre": "a", "reason": "silent"}
    run.result["data"]["rejected"] = [track] * 2000
    write_report([run], tmp_path / "a.html")
    html = (tmp_path / "a.html").read_text()
    assert len(html) < 100_000
    assert "3 = 4 = ...</p>" in html
    assert "1 = 3, 1 = 4, ...</p>" in html
    assert "These are 20 of 2000" in html


def test_a_grid_by_hand_has_fig_5_and_seeds_are_combined_d16(tmp_path: Path) -> None:
    """D16: labels name what differs, whether or not it was overridden; a grid has its figure."""
    points = [(lr, dropout) for lr in (1e-3, 1e-2) for dropout in (0.2, 0.4)]
    runs = make_runs(tmp_path, points, seeds=2)
    write_report(runs, tmp_path / "a.html")
    html = (tmp_path / "a.html").read_text()
    assert "Impact of each hyperparameter" in html
    assert '<td class="wrap">model.cnn_dropout=0.2 optimizer.lr=0.001</td>' in html
    assert "model.cnn_dropout=0.4 optimizer.lr=0.01 seed=1" in html
    assert html.count("<section") == 8
    write_report(runs[:4], tmp_path / "a.html")
    assert "Impact of" not in (tmp_path / "a.html").read_text(), "a single setting varies"


def test_folds_are_combined_on_the_page(tmp_path: Path) -> None:
    folds = [make_runs(tmp_path, [(1e-3, 0.2)], number=number)[0] for number in range(3)]
    write_report(folds, tmp_path / "a.html")
    html = (tmp_path / "a.html").read_text()
    accuracies = [100 * run.result["test"]["accuracy"] for run in folds]
    assert f"<td>{min(accuracies):.1f} to {max(accuracies):.1f}</td>" in html
    assert "<td>90</td><td>1</td><td>3</td>" in html, "tracks of all folds, seeds, folds"


def test_a_missing_fold_is_marked_on_the_page(tmp_path: Path) -> None:
    """A seed that lacks a fold does not change which tracks the accuracy is about."""
    folds = [make_runs(tmp_path, [(1e-3, 0.2)], 2, number=n, folds=3) for n in range(3)]
    write_report([*folds[0], *folds[1], folds[2][0]], tmp_path / "a.html")
    html = (tmp_path / "a.html").read_text()
    assert "<td>60</td><td>2</td><td>2 to 3 of 3</td>" in html
    kept = [run for each in folds[:2] for run in each]
    mean = np.mean([run.result["test"]["accuracy"] for run in kept])
    assert f"<td>test</td><td>{100 * mean:.2f}</td>" in html


def test_other_features_are_measured_on_the_same_tracks(tmp_path: Path) -> None:
    """The note about different tracks compares the tracks, not the stores."""
    runs = make_runs(tmp_path, [(1e-3, 0.2), (1e-2, 0.2)])
    note = "measured on different tracks"
    for number, run in enumerate(runs):
        run.result["data"] |= {"digest": str(number), "table": "t"}
    write_report(runs, tmp_path / "a.html")
    assert note not in (tmp_path / "a.html").read_text()
    for part, key in (("data", "table"), ("config", "tracks_per_genre")):
        before = dict(runs[0].result[part])
        runs[0].result[part][key] = "other"
        write_report(runs, tmp_path / "a.html")
        assert note in (tmp_path / "a.html").read_text()
        runs[0].result[part] = before


def test_what_is_not_defined_is_a_dash(tmp_path: Path) -> None:
    """Top-3 accuracy of three genres, a genre without tested tracks; no training tracks are 0."""
    (run,) = make_runs(tmp_path, [(1e-3, 0.2)])
    run.result["test"]["per_genre"]["b"] = {"precision": 0, "recall": 0, "f1": 0, "support": 0}
    del run.result["data"]["split"]["train"]["b"]
    write_report([run], tmp_path / "a.html")
    html = (tmp_path / "a.html").read_text()
    assert "<td>b</td><td>–</td><td>–</td><td>–</td><td>0</td><td>0</td>" in html
    assert "; top-3 accuracy –; mean" in html


def test_runs_are_selected_by_phase_group_or_setting_d16(tmp_path: Path) -> None:
    """D16: a report of the runs of a phase, of a group's option, or with a value."""
    runs = make_runs(tmp_path, [(1e-3, 0.2), (1e-2, 0.2)], seeds=2)
    assert len(groups.select_runs(runs, {})) == 4
    found = groups.select_runs(runs, {"phase": "grid", "model": "cnn_gru", "seed": 0})
    assert [run.result["config"]["seed"] for run in found] == [0, 0]
    assert len(groups.select_runs(runs, {"optimizer.lr": 0.01})) == 2
    with pytest.raises(InputError, match=r"where={optimizer.lr: 3}: these runs have 0.001, 0.01"):
        groups.select_runs(runs, {"optimizer.lr": 3})
    with pytest.raises(InputError, match=r"where={loss: focal}: no run sets it"):
        groups.select_runs(runs, {"loss": "focal"})
    with pytest.raises(InputError, match=r"where=grid: write 'where={KEY: VALUE}'"):
        groups.select_runs(runs, "grid")


def test_the_same_sweep_can_run_twice_at_once(tmp_path: Path) -> None:
    """Neither start removes what the jobs of the other have noted."""
    config = OmegaConf.create({"report": True, "outputs": str(tmp_path)})
    first, second = SweepReport(), SweepReport()
    first.on_multirun_start(config)
    assert first.folder is not None
    first.folder.mkdir(parents=True)
    (first.folder / "run").write_text(str(tmp_path / "run"))
    second.on_multirun_start(config)
    assert (first.folder / "run").exists()
    assert first.folder != second.folder
    second.on_multirun_end(config)
    first.on_multirun_end(config)
    assert not first.folder.exists()


@pytest.mark.slow
def test_a_sweep_ends_by_naming_its_report_d16(
    command: Callable[..., str], music: Path, tmp_path: Path
) -> None:
    """D16: `train -m` writes a page about its own runs, and only these."""
    data = ["data=folder", f"data.root={music}", "data.duration=2.5", "trainer.max_epochs=1"]
    data += [*TINY[:-1], "+trainer.limit_train_batches=1"]
    command("train", *data, "seed=7", "report=false")
    page = Path(command("train", "-m", *data, "optimizer.lr=1e-3,1e-2", "report=true"))
    assert page.parent == tmp_path / "report"
    html = page.read_text()
    assert "<h1>2 runs</h1>" in html
    assert "<h2>optimizer.lr=0.01</h2>" in html
    assert [file.name for file in page.parent.iterdir()] == [page.name]
    sweep = ("train", "-m", *data, "optimizer.lr=1e-3,1e-2", "report=false")
    assert command(*sweep).endswith("result.json"), "nothing is written with report=false"
