"""What stands first: the headline, what was run on what, what each phase chose."""

from collections.abc import Sequence

from genreclf import paper
from genreclf.evaluation.intervals import (
    Estimate,
    compute_wilson_interval,
    estimate_accuracy,
    estimate_difference,
)
from genreclf.evaluation.runs import Run
from genreclf.report import cells, study_artists
from genreclf.report.section import MEASURED, PAPER, Column, Section, Table
from genreclf.studies.study import Phase, Study

BEFORE = "No test accuracy yet"


def headline(study: Study) -> tuple[str, str]:
    """The main figure of a study, and the words after it."""
    final, splits = cells.find_phase(study, "final"), cells.find_phase(study, "splits")
    if any(point.runs for point in final.points):
        return _accuracy(cells.collect_best_runs(study))
    if final in study.phases:
        return BEFORE, f"because the phase “final” has no run. The paper: {_paper()}."
    if any(point.runs for point in splits.points):
        return _gap(splits)
    return BEFORE, "because no phase of this study tests."


def _paper() -> str:
    right = round(paper.TEST_ACCURACY * paper.TEST_TRACKS)
    between = cells.format_bounds(Estimate(0, *compute_wilson_interval(right, paper.TEST_TRACKS)))
    return (
        f"{cells.format_percent(paper.TEST_ACCURACY)} % ({between}; n = "
        f"{paper.TEST_TRACKS:,}, a random "
        "split, one seed)"
    )


def _accuracy(runs: Sequence[Run]) -> tuple[str, str]:
    score, result = estimate_accuracy(runs, "test"), runs[0].result
    tested = result["tested_on"] == "test"
    seeds = "one seed" if len(runs) == 1 else f"mean of {len(runs)} seeds"
    words = (
        f"{'test' if tested else 'validation'} accuracy of the final model, 95 % interval "
        f"{cells.format_bounds(score)} % (n = {result['test']['n']:,}, {seeds}). "
        f"The paper: {_paper()}."
    )
    if not tested:
        words += (
            " These tracks were not set apart for a test: epochs and settings were chosen on them, "
            "so this figure reads too high."
        )
    return f"{cells.format_percent(score.value)} %", words


def _gap(phase: Phase) -> tuple[str, str]:
    """Of a study of the artist effect."""
    found = cells.group_by_setting(phase, "split")
    pair = [found[key] for key in ("artist", study_artists.REFERENCE) if key in found]
    if len(pair) < 2 or not all(point.runs for point in pair):
        return BEFORE, "of both a random split and a split by artist."
    lost = estimate_difference(*map(study_artists.tested, pair))
    between = cells.format_bounds(lost, signed=True)
    words = "of accuracy when no artist is on both sides of the split, against a random split"
    return f"{cells.format_points(lost.value)} points", words + (
        f"; 95 % interval {between}." if lost.low is not None else "; one seed, so no interval."
    )


def facts(study: Study) -> Section:
    """What was run on what, beside the paper's."""
    runs = cells.collect_best_runs(study) or cells.collect_runs(study)
    columns = [Column(""), Column("value", PAPER, text=True), Column("value", MEASURED, text=True)]
    text = [
        "This report repeats the tables and figures of “Music Genre Classification Project Report” "
        "(Bu, Gan, Yang, Wei) in its order. Columns marked “paper” hold what the report prints, "
        "those marked “measured” what came out here.",
        _intervals(study),
    ]
    table = Table(columns, _facts(study, runs)) if runs else None
    return Section("study", "What was run", text if runs else [*text, "Nothing is run yet."], table)


def _intervals(study: Study) -> str:
    if len(study.seeds) == 1:
        return (
            "Every run has one seed. Intervals of shares are Wilson's 95 % intervals, for the "
            "number of tracks judged; another seed would move the figures further."
        )
    return (
        f"Every point is run with {len(study.seeds)} seeds. Figures are means over the seeds, with "
        "Student's 95 % t-interval."
    )


def _facts(study: Study, runs: Sequence[Run]) -> list[list[str]]:
    result = runs[0].result
    data, config = result["data"], result["config"]
    sizes = {part: sum(genres.values()) for part, genres in data["split"].items()}
    every = cells.collect_runs(study)
    splits = dict.fromkeys(_split(run) for run in every)
    return [
        ["data", "FMA Small, 8,000 clips of 30 s", _data(config)],
        ["genres", ", ".join(g.printed for g in paper.GENRES), ", ".join(data["classes"])],
        [
            "tracks: training, validation, test",
            "5,946 / 850 / 1,700",
            " / ".join(f"{sizes.get(part, 0):,}" for part in ("train", "val", "test")),
        ],
        ["split", study_artists.NAMES["stratified"], ", ".join(splits)],
        ["seeds", "one", ", ".join(map(str, study.seeds))],
        [
            "epoch kept",
            "validation loss, patience 8 (its scripts: validation accuracy, 5 to 10)",
            f"best {config['monitor']}, patience {config['patience']}",
        ],
        [
            "runs",
            "13 h for the 54 of the grid on an RTX 4060",
            f"{len(every)}, "
            f"{cells.format_duration(sum(run.result['seconds'] for run in every))} of "
            "training in all",
        ],
    ]


def _split(run: Run) -> str:
    name = str(cells.select_point(run.result["config"], "split._target_")).rpartition(".")[2]
    return study_artists.NAMES.get(name, name)


def _data(config: dict) -> str:
    """Name of the data set, with what is chosen of it."""
    given = config["data"]
    name = str(given.get("_target_", "unknown")).rpartition(".")[2]
    words = [name, *(f"{given[key]}" for key in ("subset", "root", "path") if given.get(key))]
    synthetic = " (generated clips: for trying things, no music)" * (name == "Synthetic")
    return " ".join(words[: 1 if synthetic else None]) + synthetic


def summary(study: Study) -> Section:
    """What each phase chose."""
    columns = [
        Column("phase"),
        Column("chosen", text=True),
        Column("val accuracy, %"),
        Column("95 % interval"),
        Column("runs"),
        Column("training time"),
    ]
    text = f"A phase begins with what the ones before it chose, by the best mean of {study.metric}."
    if study.metric is None:
        text = "The points are compared, and none is chosen."
    rows = [_summary(phase, study.metric) for phase in study.phases]
    return Section("phases", "What each phase chose", [text], Table(columns, rows))


def _summary(phase: Phase, metric: str | None) -> list[str]:
    runs = [run for point in phase.points for run in point.runs]
    time = cells.format_duration(sum(run.result["seconds"] for run in runs)) if runs else cells.NONE
    count = (
        f"{phase.count_finished()} of {phase.count_runs()}" if phase.count_runs() else cells.NONE
    )
    chosen = phase.chosen
    if metric is None and runs:
        return [phase.name, "compared, not chosen", *[cells.NONE] * 2, count, time]
    if chosen is None or not chosen.runs:
        return [
            phase.name,
            cells.describe_pending(phase) or "unfinished",
            *[cells.NONE] * 2,
            count,
            time,
        ]
    score = estimate_accuracy(chosen.runs)
    name = chosen.name or "nothing varied"
    return [
        phase.name,
        name,
        cells.format_percent(score.value),
        cells.format_bounds(score),
        count,
        time,
    ]
