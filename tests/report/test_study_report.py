"""The report of a study, of real runs that are as small as can be."""

import contextlib
import io
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from conftest import TINY
from html_page import Page

from genreclf import paper
from genreclf.commands import hydra_app
from genreclf.evaluation import intervals
from genreclf.evaluation.differences import estimate_difference
from genreclf.evaluation.runs import FAILURE, RESULT, Run
from genreclf.files import write_json
from genreclf.report import cells
from genreclf.report.page import write_report
from genreclf.report.section import Report, Section
from genreclf.report.study import build_report, write_study_report
from genreclf.studies.settings import TEST
from genreclf.studies.study import Phase, Point, Study

pytestmark = pytest.mark.slow  # ten short runs come first

BEST = ["0.999", "0.2", "0.4", "0.03"]  # of the paper's grid
GRID = ("optimizer.beta2", "model.cnn_dropout", "model.classifier_dropout")
GRID_BEST = [f"{k}={v}" for k, v in zip((*GRID, "optimizer.weight_decay"), BEST, strict=True)]
COPIES = "oversampling.copies"
RUNS = {  # what is trained: phase and overrides
    "mel": ("features", ["features=mel"]),
    "mfcc": ("features", ["features=mfcc"]),
    "efficient": ("models", ["model=efficient_cnn"]),
    "slow": ("learning_rate", ["optimizer.lr=1e-4"]),
    "adam": ("optimizer", ["optimizer=adam", "scheduler=plateau"]),
    "best": ("grid", GRID_BEST),
    "standard": ("enhancement", [f"{COPIES}=0"]),
    "strong": ("enhancement", [f"{COPIES}=1"]),
    "final": ("enhancement", [f"{COPIES}=1", "test=true"]),
}
POINTS = {  # of each phase: overrides and run, or none where it did not fit; the last is chosen
    "features": {"features=mfcc": "mfcc", "features=mel": "mel"},
    "models": {"model=efficient_cnn": "efficient", "model=cnn_gru": "mel"},
    "batch_size": {"batch_size=64": "", "batch_size=16": "mel"},
    "learning_rate": {"optimizer.lr=1e-4": "slow", "optimizer.lr=0.001": "mel"},
    "optimizer": {"optimizer=adam": "adam", "optimizer=adamw": "mel"},
    "scheduler": {"scheduler=none": "slow", "scheduler=plateau": "mel"},
    "grid": {" ".join([*GRID_BEST[:3], "optimizer.weight_decay=0.01"]): "mel"}
    | {" ".join(GRID_BEST): "best"},
    "enhancement": {f"{COPIES}=0": "standard", f"{COPIES}=1": "strong"},
    TEST: {f"{COPIES}=1": "final"},
}
ITEMS = [*(f"table-{n}" for n in range(1, 10)), *(f"fig-{n}" for n in range(1, 8))]


@pytest.fixture(scope="module")
def trained(
    music: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., Point]]:
    """Trains a point; a run takes less than a second."""
    outputs = tmp_path_factory.mktemp("study")
    data = ["data=folder", f"data.root={music}", "data.duration=2.5"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HYDRA_FULL_ERROR", "1")

        def train(phase: str, overrides: list[str], seeds: tuple[int, ...] = (0,)) -> Point:
            folders = []
            sizes = TINY if "features=mfcc" not in overrides else TINY[1:]
            also = ["oversampling.genres=[Folk]"] * (phase == "enhancement")
            for seed in seeds:
                run = [f"seed={seed}", f"outputs={outputs}"]
                once = ["trainer.max_epochs=1"] * ("model=svm" not in overrides)
                arguments = [f"phase={phase}", *data, *once, *sizes, *also, *overrides, *run]
                with contextlib.redirect_stdout(io.StringIO()) as printed:
                    hydra_app.run("train", "config", arguments)
                folders.append(str(Path(printed.getvalue().splitlines()[-1]).parent))
            return Point(overrides, folders)

        yield train


@pytest.fixture(scope="module")
def study(trained: Callable[..., Point], tmp_path_factory: pytest.TempPathFactory) -> Study:
    """All phases of the paper, one seed."""
    large = tmp_path_factory.mktemp("large")
    write_json(large / FAILURE, {"error": "out of memory", "out_of_memory": True})
    folders = {name: trained(*run).folders for name, run in RUNS.items()} | {"": [str(large)]}
    phases = []
    for name, runs in POINTS.items():
        points = [Point(text.split(), folders[run]) for text, run in runs.items()]
        command = ["train", "-m", f"phase={name}", "data.root=a folder"]
        phases.append(Phase(name, command, points, winner=len(points) - 1))
    phases[0].left_out = {"features=chroma": "no reason"}
    return Study("paper", "val/accuracy", [0], ["data=folder"], phases, [], tested="enhancement")


@pytest.fixture(scope="module")
def written(study: Study, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Report]:
    """Its report: the folder, and what it consists of."""
    folder = tmp_path_factory.mktemp("written")
    write_study_report(study, folder)
    return folder, build_report(study, folder)


@pytest.fixture(scope="module")
def splits(trained: Callable[..., Point]) -> Study:
    """The artist effect, two seeds."""
    points = [trained("splits", [f"split={name}"], (0, 1)) for name in ("stratified", "artist")]
    phase = Phase("splits", ["train"], points, {"split=official": "no official parts"})
    return Study("artist_effect", None, [0, 1], [], [phase])


@pytest.fixture
def report(written: tuple[Path, Report]) -> Report:
    """What the report of all phases consists of."""
    return written[1]


def section(report: Report, anchor: str) -> Section:
    return next(each for each in report.sections if each.anchor == anchor)


def row(report: Report, anchor: str, name: str) -> list[str]:
    table = section(report, anchor).table
    assert table is not None
    assert all(len(each) == len(table.columns) for each in table.rows)
    return next(each for each in table.rows if each[0] == name)


def percent(run: Run, part: str) -> str:
    return f"{100 * run.result[part]['accuracy']:.2f}"


def test_every_table_and_figure_is_there(written: tuple[Path, Report]) -> None:
    html = (written[0] / "report.html").read_text()
    page = Page(html)
    assert page.open == []
    outside = [link for link in page.links if not link.startswith(("#", "data:image/png"))]
    assert outside == [], "nothing from outside"
    anchors = re.findall(r'<section id="([^"]+)"', html)
    assert set(ITEMS) <= set(anchors)
    assert [link[1:] for link in re.findall(r'<li><a href="([^"]+)"', html)] == anchors
    pictures = [name for name in ITEMS if name.startswith("fig")]
    assert all((written[0] / "figures" / f"{name}.svg").is_file() for name in pictures)
    for text in ("one seed", "Wilson", "8,496", "0 dB", "Pop", "data.root=a folder"):
        assert text in page.text
    assert "nan" not in page.text
    assert "None" not in page.text.replace("None.", "")


def test_markdown_has_the_same_content(written: tuple[Path, Report]) -> None:
    folder, report = written
    text = (folder / "report.md").read_text()
    links = re.findall(r"!\[.*\]\((.*)\)", text)
    assert links
    assert all((folder / link).is_file() for link in links)
    assert set(re.findall(r"\]\(#(.*?)\)", text)) == set(re.findall(r'<a id="(.*?)"', text))
    for each in report.sections:
        assert f"## {each.title}" in text
        if each.table is not None:
            count = len(each.table.columns) + 1
            lines = text.partition(f'<a id="{each.anchor}"')[2].partition("<a id")[0].splitlines()
            bars = [len(re.findall(r"(?<!\\)\|", line)) for line in lines if line.startswith("|")]
            assert bars == [count] * (2 + len(each.table.rows)), each.title
    assert "\n\n\n" not in text


def test_measured_values_are_next_to_the_papers(study: Study, report: Report) -> None:
    final, mel = study.phases[-1].points[0].runs[0], study.phases[0].points[1].runs[0]
    assert report.headline == f"{percent(final, 'test')} %"
    assert "63.65 % (61.3 to 65.9; n = 1,700" in report.lead
    found = row(report, "table-2", "Mel spectrogram (chosen)")
    assert found[5:7] == ["56.35", percent(mel, "val")]
    low, high = mel.result["val"]["interval"]
    assert found[7] == f"{100 * low:.1f} to {100 * high:.1f}"
    assert found[4] == cells.format_size(mel.result["data"]["store_bytes"])
    assert row(report, "table-3", "Conventional CNN")[1] == "> 1 million"
    assert row(report, "table-3", "Efficient CNN")[1:3] == ["16,456", "16,324"]  # of 4 genres
    assert row(report, "table-1", "format")[1:4] == ["MP3", "MP3", "100.0"]
    assert row(report, "table-7", "time shift")[1:] == ["±10 %", "±10 %", "±15 %", "±15 %"]
    assert row(report, "table-9", "accuracy")[3:5] == ["63.65 %", f"{percent(final, 'test')} %"]
    top = cells.format_percent(final.result["test"]["top3_accuracy"])
    assert any(f"top-3 accuracy {top} %" in note for note in section(report, "table-9").notes)


def test_a_point_that_could_not_run_says_why(report: Report) -> None:
    assert row(report, "table-4", "64")[1:3] == ["out of GPU memory", "did not fit in memory"]
    assert row(report, "table-4", "32")[2] == "not swept"
    assert row(report, "table-2", "MFCG (chroma)")[6] == "left out"


def test_the_grid_finds_the_papers_configurations(study: Study, report: Report) -> None:
    grid = study.phases[6]
    best, other = grid.points[1].runs[0], grid.points[0].runs[0]
    order = [(-run.result["val"]["accuracy"], run.result["val"]["loss"]) for run in (other, best)]
    rank = 1 + (order[0] <= order[1])
    found = row(report, "table-6", "paper, rank 1")
    assert found[1:7] == [*BEST, "60.47", percent(best, "val")]
    assert found[-1] == f"{rank} of 2"
    assert row(report, "table-6", "paper, rank 2")[6] == cells.NONE
    assert row(report, "table-6", "baseline")[5] == "56.35"


def test_a_difference_of_one_seed_has_the_interval_of_its_tracks_a4(
    study: Study, report: Report
) -> None:
    """A4: two runs on the same tracks are paired; before, one seed had no interval."""
    adam, adamw = study.phases[4].points
    gap = estimate_difference(adamw.runs, adam.runs)
    found = row(report, "fig-4", "AdamW minus Adam")
    assert found[2:] == [
        f"{cells.format_points(gap.value)} points",
        cells.format_bounds(gap, signed=True),
    ]
    assert any("covers only them" in note for note in section(report, "fig-4").notes)


def test_folds_of_a_phase_share_a_row(study: Study, tmp_path: Path) -> None:
    """A k-fold is one row: its pooled accuracy and the range of the folds."""
    runs = [point.folders[0] for point in study.phases[1].points]
    points = [Point([f"split.number={n}"], [folder]) for n, folder in enumerate(runs)]
    mine = Study("mine", None, [0], [], [Phase("folds", ["train"], points)])
    (found,) = section(build_report(mine, tmp_path), "phase-folds").table.rows  # pyright: ignore
    assert found[0] == "nothing varied"
    assert found[-1] == "2"


def test_configurations_on_folds_are_compared_across_phases(
    trained: Callable[..., Point], tmp_path: Path
) -> None:
    """One table of all that was tested on folds, best first, with paired differences and times."""
    split = ["split=kfold", "split.folds=2"]
    phases = []
    for name, others in (("statistics_folds", ["model=svm"]), ("network_folds", [])):
        points = []
        for number in (0, 1):
            point = trained(name, [*split, f"split.number={number}", *others])
            points.append(Point([f"split.number={number}", *others], point.folders))
        phases.append(Phase(name, ["train"], points))
    report = build_report(Study("encoders", None, [0], [], phases), tmp_path)
    table = section(report, "comparison").table
    assert table is not None
    accuracies = [float(row[1]) for row in table.rows]
    assert accuracies == sorted(accuracies, reverse=True)
    runs = {phase.name: [run for p in phase.points for run in p.runs] for phase in phases}
    best, other = (runs[row[0].split()[0]] for row in table.rows)
    gap = estimate_difference(other, best, "test")
    shown = f"{cells.format_points(gap.value)} ({cells.format_bounds(gap, signed=True)})"
    assert [row[3] for row in table.rows] == [cells.NONE, shown]
    assert all(row[-1].endswith(" s") for row in table.rows)
    assert report.headline == f"{table.rows[0][1]} %"
    assert "protocol" not in [each.anchor for each in report.sections]
    write_study_report(Study("encoders", None, [0], [], phases), tmp_path)


def test_audio_and_store_are_found_from_any_folder_a21(
    music: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Callable[..., str]
) -> None:
    """A21: a report made in another folder than its runs has Table I and Fig. 1."""
    (tmp_path / "music").symlink_to(music)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    data = ["data=folder", "data.root=music", "data.duration=2.5", "trainer.max_epochs=1", *TINY]
    folder = Path(command("train", *data, "outputs=out")).parent
    assert not folder.is_absolute()
    monkeypatch.chdir(tmp_path / "elsewhere")
    phase = Phase("features", [], [Point(["features=mel"], [str(".." / folder)])], winner=0)
    report = build_report(Study("mine", "val/accuracy", [0], [], [phase]), tmp_path)
    assert row(report, "table-1", "format")[2] == "MP3"
    (picture,) = section(report, "fig-1").pictures
    assert not picture.caption.startswith("Track"), "the title comes from the tags of the file"


def test_enhancement_is_of_the_copied_genre(study: Study, report: Report) -> None:
    run = study.phases[7].points[1].runs[0]
    folk = run.result["val"]["per_genre"]["Folk"]
    found = row(report, "table-8", "strong (chosen)")
    assert found[1:3] == [
        "48 of 106",
        f"{folk['recall'] * folk['support']:g} of {folk['support']}",
    ]
    assert "Folk" in section(report, "table-8").text[0]
    gain = row(report, "table-8", "strong minus standard")
    assert gain[8] == "+1.65"
    assert " to " in gain[10]


@pytest.mark.parametrize("begun", [0, 3, 7])
def test_an_unfinished_study_has_a_report(study: Study, begun: int, tmp_path: Path) -> None:
    empty = [Phase(phase.name) for phase in study.phases[begun:]]
    phases = study.phases[:begun] + empty
    part = Study("paper", "val/accuracy", [0], [], phases, tested="enhancement")
    page = Page(write_study_report(part, tmp_path).read_text())
    assert "No test accuracy yet" in page.text
    assert "Not run yet." in page.text


def test_a_run_that_failed_says_so(study: Study, tmp_path: Path) -> None:
    write_json(tmp_path / "a" / FAILURE, {"error": "disk full", "out_of_memory": False})
    phase = Phase("models", [], [Point(["model=cnn_gru"], [str(tmp_path / "a")])], error="too bad")
    part = Study("paper", "val/accuracy", [0], [], [phase])
    assert row(build_report(part, tmp_path), "table-3", "CNN-GRU")[6] == "failed"
    assert "model=cnn_gru: disk full." in section(build_report(part, tmp_path), "table-3").notes
    assert "Too bad." in section(build_report(part, tmp_path), "table-3").notes


def test_the_artist_effect_has_an_interval(splits: Study, tmp_path: Path) -> None:
    runs = {p.name.partition("=")[2]: p.runs for p in splits.phases[0].points}
    accuracy = {k: [run.result["test"]["accuracy"] for run in v] for k, v in runs.items()}
    report = build_report(splits, tmp_path)
    found = row(report, "artists", "by artist")
    gap = np.mean(accuracy["artist"]) - np.mean(accuracy["stratified"])
    assert found[3] == cells.format_points(float(gap))
    assert found[5] == "0.0", "no artist is on both sides"
    assert row(report, "artists", "random (stratified)")[5] != "0.0"
    assert any("no official parts" in note for note in section(report, "artists").notes)
    page = Page(write_study_report(splits, tmp_path).read_text())
    assert "Table I" not in page.text, "tables of phases that the study lacks"
    assert "(a bootstrap)" in page.text
    random, artist = splits.phases[0].points
    paired = estimate_difference(artist.runs, random.runs, "test")
    assert found[4] == cells.format_bounds(paired, signed=True)
    assert paired.low is not None


def test_the_papers_genres_stand_under_their_true_names(
    command: Callable[..., str], tmp_path: Path
) -> None:
    count = 10 * len(paper.CLASSES)
    np.savez(
        tmp_path / "a.npz",
        features=np.random.default_rng(0).normal(size=(count, 8, 16)),
        labels=np.array(paper.CLASSES * 10),
        track_ids=np.arange(count),
    )
    data = ("data=npz", f"data.path={tmp_path}/a.npz", "trainer.max_epochs=1", "report=false")
    folder = Path(command("train", "phase=best", "model=cnn_gru", *data)).parent
    phases = [Phase("features", left_out={"features=mel": "one kind"})]
    phases.append(Phase(TEST, [], [Point([], [str(folder)])], winner=0))
    study = Study("mine", "val/accuracy", [0], [], phases)
    write_study_report(study, tmp_path)
    report = build_report(study, tmp_path)
    assert row(report, "table-9", "Pop")[1:3] == ["Experimental", "0.44"]
    assert row(report, "table-9", "Experimental")[1:3] == ["Pop", "0.57"]
    assert any("Pop is Experimental" in note for note in section(report, "fig-6").notes)
    assert "not available" in section(report, "table-1").text[0]
    assert "Left out: features=mel (one kind)." in section(report, "table-2").notes


def test_phases_of_your_own_are_listed(study: Study, tmp_path: Path) -> None:
    points = study.phases[1].points
    mine = Study("mine", "val/loss", [0], [], [Phase("width", ["train"], points, winner=1)])
    found = row(build_report(mine, tmp_path), "phase-width", "model=cnn_gru (chosen)")
    assert found[1] == percent(points[1].runs[0], "val")
    write_study_report(mine, tmp_path)


def test_the_command_writes_it_again(
    study: Study, written: tuple[Path, Report], command: Callable[..., str]
) -> None:
    folder, _ = written
    first = (folder / "report.html").read_text()
    study.write(folder)
    assert command("report", f"runs={folder}") == str(folder / "report.html")
    assert (folder / "report.html").read_text() == first


def test_no_study_is_one_line(
    command: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        command("report", "runs=/nowhere")
    assert "runs=/nowhere: no such folder" in capsys.readouterr().err


def test_a_page_says_why_nothing_was_tested(study: Study, tmp_path: Path) -> None:
    run = study.phases[0].points[1].runs[0]
    assert json.loads((run.folder / RESULT).read_text())["tested_on"] == "val"
    write_report([run], tmp_path / "a.html")
    assert "The test part was not used (test=false)" in (tmp_path / "a.html").read_text()


def test_a_model_without_epochs_is_a_dash_in_every_section_a27(
    trained: Callable[..., Point], tmp_path: Path
) -> None:
    """A27: no section needs epochs, learning rates or parameters; what a model lacks is a dash."""
    svm = trained("models", ["model=svm"])
    keys = {
        **{name: next(iter(runs)) for name, runs in POINTS.items()},
        "features": "features=mel",
        "learning_rate": "optimizer.lr=${oc.env:RATE}",
        "scheduler": "scheduler=plateau",
        "grid": "optimizer.beta2=null model.C=0.5",
        "mine/machine": "+model.C=1 augmentation@oversampling.augmentation=none",
    }
    phases = [Phase(name, [], [Point(text.split(), svm.folders)]) for name, text in keys.items()]
    for phase in phases:
        phase.choose_winner("val/accuracy")
    mine = Study("mine", "val/accuracy", [0], [], phases, tested="enhancement")
    page = Page(write_study_report(mine, tmp_path).read_text())
    report = build_report(mine, tmp_path)
    accuracy = percent(svm.runs[0], "val")
    assert row(report, "table-2", "Mel spectrogram (chosen)")[6:] == [
        *(accuracy, cells.format_bounds(intervals.estimate_accuracy(svm.runs)), "5.09", cells.NONE)
    ]
    assert row(report, "table-5", "ReduceLROnPlateau (chosen)")[4:8] == [
        *("60.58", cells.NONE, "1.1515", cells.NONE)
    ]
    assert section(report, "fig-3").pictures == [], "no epochs, no curves"
    assert row(report, "fig-3", "${oc.env:RATE} (chosen)")[2] == accuracy
    assert section(report, "phase-mine-machine").title == "Phase mine/machine"
    assert "nan" not in page.text


def test_every_model_and_augmentation_can_be_in_a_study_a27(
    trained: Callable[..., Point], study: Study, tmp_path: Path
) -> None:
    """A27: settings that only some options have are not looked for in the others."""
    copied = "augmentation@oversampling.augmentation"
    points = [
        trained("models", ["model=cnn_gru", f"augmentation={kind}", f"{copied}=none"])
        for kind in ("segment", "none")
    ]
    phase = Phase("enhancement", [], points, winner=0)
    mine = Study("mine", "val/accuracy", [0], [], [study.phases[1], phase], tested=None)
    report = build_report(mine, tmp_path)
    found = row(report, "table-7", "time shift")
    assert found[2:] == [cells.NONE, "±15 %", "none"]
    assert report.lead.startswith("because this study does not test its winner")
