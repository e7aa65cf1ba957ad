import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from html_page import Page

from genreclf import paper
from genreclf.evaluation.runs import Predictions
from genreclf.figures import curves

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
    assert sorted(headings) == ["split=artist", "split=stratified"]
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
