"""What reports say of runs that lack something: a genre, a seed, their predictions."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from genreclf.evaluation.metrics import evaluate
from genreclf.evaluation.runs import Predictions, Run
from genreclf.report import cells, study_head, study_tuning
from genreclf.report.section import Section
from genreclf.report.study_enhancement import build_enhancement_table
from genreclf.report.study_final import build_final_table
from genreclf.report.study_grid import build_impact_figure
from genreclf.studies.settings import TEST
from genreclf.studies.study import Phase, Point, Study

CLASSES = ["Folk", "Pop", "Punk", "Rock"]


def make_run(
    folder: Path, labels: list[int], seed: int = 0, wrong: int = 0, tested_on: str = "val"
) -> Run:
    """A run that classified all but the first tracks correctly, as far as a report reads it."""
    classes = np.array(labels)
    predicted = classes.copy()
    predicted[:wrong] = (classes[:wrong] + 1) % 4
    predictions = Predictions(
        [str(n) for n in range(len(labels))], classes, np.eye(4)[predicted], CLASSES
    )
    metrics = evaluate(classes, predictions.scores, CLASSES)
    folder.mkdir()
    predictions.write(folder / "predictions.csv")
    result = {
        "config": {
            "seed": seed,
            "split": {"seed": seed},
            "oversampling": {"genres": ["pop"], "copies": 1},
        },
        "data": {"classes": CLASSES},
        "tested_on": tested_on,
        "test": metrics,
        "val": metrics,
    }
    return Run(folder, result, predictions)


def make_study(name: str, *points: tuple[list[str], list[Run], int]) -> Study:
    """A study of one phase: overrides, finished runs and number of planned runs of each point."""
    made = []
    for overrides, runs, planned in points:
        point = Point(overrides, ["nowhere"] * planned)
        point.__dict__["runs"] = runs
        made.append(point)
    return Study("mine", "val/accuracy", [0, 1], [], [Phase(name, [], made)])


def find_row(
    study: Study, name: str, build: Callable[[Study], Section] = build_final_table
) -> list[str]:
    table = build(study).table
    assert table is not None
    return next(row for row in table.rows if row[0] == name)


def test_a_genre_without_tested_tracks_is_left_out_of_table_9(tmp_path: Path) -> None:
    """A seed whose split has no track of a genre is not one that never recognises it."""
    runs = [
        make_run(tmp_path / "a", [0, 0, 1, 1, 3], 0, wrong=1, tested_on="test"),
        make_run(tmp_path / "b", [0, 0, 3, 3, 3], 1, wrong=1, tested_on="test"),
    ]
    study = make_study(TEST, ([], runs, 2))
    pop = find_row(study, "Pop")
    assert pop[2] == "0.67", "precision of the first run"
    assert pop[4] == "1.00"
    assert pop[-1] == "1", "tracks, on average"
    punk = find_row(study, "Punk")
    assert (punk[2], punk[4], punk[5], punk[7]) == (cells.NONE,) * 4
    table = build_final_table(study)
    assert any("top-3 accuracy" in note for note in table.notes)


def test_a_point_that_lacks_runs_says_so(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a", [0, 1, 2, 3], wrong=1)
    phase = make_study("models", ([], [run], 2)).phases[0]
    assert cells.format_measured(phase.points[0])[0] == "75.00 (1 of 2 runs)"
    phase = make_study("models", ([], [run], 1)).phases[0]
    assert cells.format_measured(phase.points[0])[0] == "75.00"


def test_the_enhanced_genre_is_found_in_any_case_and_averaged(tmp_path: Path) -> None:
    """`oversampling.genres=[pop]` copies Pop; seeds with their own split have other numbers."""
    runs = [
        make_run(tmp_path / "a", [1, 1, 1, 0], 0, wrong=1),
        make_run(tmp_path / "b", [1, 1, 0, 0, 0], 1, wrong=1),
    ]
    study = make_study("enhancement", (["+oversampling.copies=1"], runs, 2))
    found = find_row(study, "strong", build_enhancement_table)
    assert found[2] == "1.5 of 2.5"
    assert found[4] == "58.33"
    assert "those measured are for Pop" in build_enhancement_table(study).text[0]


def test_the_text_about_an_interval_says_how_it_was_made(tmp_path: Path) -> None:
    """Tracks are paired only if both sides kept their predictions; seeds are counted, not runs."""
    kept = [make_run(tmp_path / str(n), [0, 1, 2, 3], n % 2) for n in range(4)]
    tested = [make_run(tmp_path / f"t{n}", [0, 1, 2, 3], n, tested_on="test") for n in range(2)]
    explain = study_tuning._explain_difference
    assert "pairs the tracks, and covers tracks and seeds" in explain(kept, kept)
    assert "with one seed it covers only them" in explain(kept[:1], [kept[0], kept[2]])
    assert "comes from counts" in explain(kept[:2], tested)
    for runs, text in ((kept[:2], "(a bootstrap)"), (tested, "where predictions were not kept)")):
        study = make_study("models", ([], runs, 2))
        assert text in study_head._explain_intervals(study)


@pytest.mark.parametrize("prefix", ["", "+", "++"])
def test_settings_are_found_however_they_are_written(prefix: str) -> None:
    point = Point([f"{prefix}optimizer.lr=0.1"], [])
    assert cells.get_setting(point, "optimizer.lr") == "0.1"


def test_a_grid_of_added_settings_has_its_figure(tmp_path: Path) -> None:
    """`+model.cnn_dropout=0.2` is the paper's CNN dropout as well."""
    points = []
    for n in range(2):
        run = make_run(tmp_path / str(n), [0, 1, 2, 3], wrong=n)
        run.result["metrics"] = {"val/accuracy": run.result["val"]["accuracy"]}
        points.append(([f"+model.cnn_dropout=0.{n}"], [run], 1))
    (picture,) = build_impact_figure(make_study("grid", *points)).pictures
    assert "CNN dropout" in picture.svg
