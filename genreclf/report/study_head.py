"""The beginning of a report: the headline, what was run, and what each phase chose."""

from collections.abc import Sequence

from genreclf import paper
from genreclf.evaluation.differences import estimate_difference
from genreclf.evaluation.intervals import (
    Estimate,
    compute_wilson_interval,
    estimate_accuracy,
    have_predictions,
)
from genreclf.evaluation.runs import Run
from genreclf.report import cells, study_artists, study_notes
from genreclf.report.section import MEASURED, PAPER, Column, Section, Table
from genreclf.report.study_comparison import Tested
from genreclf.studies.settings import TEST
from genreclf.studies.study import Phase, Study

BEFORE = "No test accuracy yet"


def build_headline(study: Study, ranked: Sequence[Tested]) -> tuple[str, str]:
    """Build the headline, such as "63.65 %", and the sentence that continues it.

    Args:
        study: the study.
        ranked: what it compares on folds, from `rank_tested`.
    """
    test, splits = cells.find_phase(study, TEST), cells.find_phase(study, "splits")
    if runs := [run for point in test.points for run in point.runs]:
        return _describe_accuracy(runs)
    if study.tested:
        reason = f"because no winner of the phase “{study.tested}” has been tested."
        return BEFORE, f"{reason} The paper: {_format_paper()}."
    if any(point.runs for point in splits.points):
        return _describe_artist_effect(splits)
    if study.metric is None:
        return _describe_comparison(ranked)
    return BEFORE, "because this study does not test its winner (study.test)."


def _format_paper() -> str:
    correct = round(paper.TEST_ACCURACY * paper.TEST_TRACKS)
    bounds = Estimate(0, *compute_wilson_interval(correct, paper.TEST_TRACKS))
    accuracy = cells.format_percent(paper.TEST_ACCURACY)
    return (
        f"{accuracy} % ({cells.format_bounds(bounds)}; n = {paper.TEST_TRACKS:,}, a random split, "
        "one seed)"
    )


def _describe_accuracy(runs: Sequence[Run]) -> tuple[str, str]:
    accuracy, result = estimate_accuracy(runs, "test"), runs[0].result
    tested = result["tested_on"] == "test"
    count = cells.count_seeds(runs)
    seeds = "one seed" if count == 1 else f"mean of {count} seeds"
    lead = (
        f"{'test' if tested else 'validation'} accuracy of the final model, 95 % interval "
        f"{cells.format_bounds(accuracy)} % (n = {result['test']['n']:,}, {seeds}). "
        f"The paper: {_format_paper()}."
    )
    if not tested:
        lead += (
            " There was no separate test part: epochs and settings were chosen on the same tracks, "
            "so this accuracy is optimistic."
        )
    return f"{cells.format_percent(accuracy.value)} %", lead


def _describe_comparison(ranked: Sequence[Tested]) -> tuple[str, str]:
    if not ranked:
        return BEFORE, "because this study compares models, and chooses none."
    best = ranked[0]
    lead = (
        f"on all folds: the highest accuracy of {len(ranked)} that are compared, 95 % interval "
        f"{cells.format_bounds(best.accuracy)} % ({best.name})."
    )
    return f"{cells.format_percent(best.accuracy.value)} %", lead


def _describe_artist_effect(phase: Phase) -> tuple[str, str]:
    found = cells.group_by_setting(phase, "split")
    pair = [found[key] for key in ("artist", study_artists.REFERENCE) if key in found]
    if len(pair) < 2 or not all(point.runs for point in pair):
        return BEFORE, "on both a random split and a split by artist."
    lost = estimate_difference(pair[0].runs, pair[1].runs, "test")
    lead = (
        "of accuracy when no artist is on both sides of the split, compared with a random split; "
    )
    lead += f"95 % interval {cells.format_bounds(lost, signed=True)}"
    one = min(cells.count_seeds(point.runs) for point in pair) == 1
    lead += " (one seed, so it covers only the tracks)." if one else "."
    return f"{cells.format_points(lost.value)} points", lead


def build_overview_table(study: Study, follows_paper: bool) -> Section:
    """Build the table of data, split, seeds and runs, next to the paper's if that is followed."""
    runs = cells.collect_best_runs(study) or cells.collect_runs(study)
    columns = [Column(""), Column("value", PAPER, text=True), Column("value", MEASURED, text=True)]
    text = [
        "This report repeats the tables and figures of “Music Genre Classification Project Report” "
        "(Bu, Gan, Yang, Wei) in the same order. Columns marked “paper” show what that report "
        "prints; columns marked “measured” show the results of this study.",
        _explain_intervals(study),
    ]
    text = text if follows_paper else text[1:]
    if not runs:
        return Section("study", "What was run", [*text, "Nothing has been run yet."])
    rows = _make_overview_rows(study, runs)
    if not follows_paper:
        columns, rows = [columns[0], columns[2]], [[name, value] for name, _, value in rows]
    return Section("study", "What was run", text, Table(columns, rows))


def _explain_intervals(study: Study) -> str:
    if len(study.seeds) == 1:
        return (
            "Each run has one seed. The 95 % intervals are Wilson's, from the number of tracks; "
            "they do not include the variation between seeds, which would widen them."
        )
    kept = all(
        have_predictions([run for point in phase.points for run in point.runs], _find_part(phase))
        for phase in study.phases
    )
    how = "a bootstrap" if kept else "a bootstrap, or from counts where predictions were not kept"
    return (
        f"Each point is run with {len(study.seeds)} seeds. Values are means over the seeds. The "
        f"95 % intervals cover both the choice of the tracks and the seeds ({how}), and are never "
        "narrower than Wilson's interval for that many tracks."
    )


def _find_part(phase: Phase) -> str:
    """Find the part on which the report shows the accuracies of a phase."""
    tested = phase.name in (TEST, "splits") or study_notes.has_folds(phase)
    return "test" if tested else "val"


def _make_overview_rows(study: Study, runs: Sequence[Run]) -> list[list[str]]:
    data, config = runs[0].result["data"], runs[0].result["config"]
    sizes = {part: sum(genres.values()) for part, genres in data["split"].items()}
    every = _collect_trained_runs(study)
    patience = " or ".join(map(str, sorted({run.result["config"]["patience"] for run in every})))
    splits = dict.fromkeys(str(run.result["choices"]["split"]) for run in every)
    time = cells.format_duration(sum(run.result["seconds"] for run in every))
    return [
        ["data", "FMA Small, 8,000 clips of 30 s", _describe_data(config)],
        ["genres", ", ".join(g.printed for g in paper.GENRES), ", ".join(data["classes"])],
        [
            "tracks: training, validation, test",
            "5,946 / 850 / 1,700",
            " / ".join(f"{sizes.get(part, 0):,}" for part in ("train", "val", "test")),
        ],
        [
            "split",
            study_artists.NAMES["stratified"],
            ", ".join(study_artists.NAMES.get(name, name) for name in splits),
        ],
        ["seeds", "one", ", ".join(map(str, study.seeds))],
        [
            "kept epoch",
            "validation loss, patience 8, for features 10 (its scripts: accuracy, 5 to 10)",
            f"best {config['monitor']}, patience {patience}",
        ],
        [
            "runs",
            "13 h for the 54 runs of the grid on an RTX 4060",
            f"{len(every)}, {time} of training in total",
        ],
    ]


def _collect_trained_runs(study: Study) -> list[Run]:
    """Collect each run once, though phases may share it, without those that only test a model."""
    phases = [phase for phase in study.phases if phase.name != TEST or study.tested is None]
    runs = (run for phase in phases for point in phase.points for run in point.runs)
    return list({run.folder: run for run in runs}.values())


def _describe_data(config: dict) -> str:
    """Name the dataset, and what was chosen of it."""
    given = config["data"]
    name = str(given.get("_target_", "unknown")).rpartition(".")[2]
    if name == "Synthetic":
        return "Synthetic (generated clips for trying things out, not music)"
    return " ".join([name, *(str(given[k]) for k in ("subset", "root", "path") if given.get(k))])


def build_phases_table(study: Study) -> Section:
    """Build the table of what each phase chose."""
    columns = [
        Column("phase"),
        Column("chosen", text=True),
        Column("val accuracy, %"),
        Column("95 % interval"),
        Column("runs"),
        Column("training time"),
    ]
    text = "The points are compared; none is chosen."
    if study.metric is not None:
        text = (
            f"Each phase chooses the point with the best mean {study.metric}, of equal ones that "
            "with the lower val/loss, and the phases after it keep that choice."
        )
    if study.tested:
        text += (
            f" “{TEST}” uses the test part for the first and only time: it tests the winner of "
            f"“{study.tested}” without training it again."
        )
    rows = [_make_phase_row(phase, study.metric) for phase in study.phases]
    if study.metric is None:
        columns, rows = [columns[0], *columns[4:]], [[row[0], *row[4:]] for row in rows]
        return Section("phases", "The phases", [text], Table(columns, rows))
    return Section("phases", "What each phase chose", [text], Table(columns, rows))


def _make_phase_row(phase: Phase, metric: str | None) -> list[str]:
    runs = [run for point in phase.points for run in point.runs]
    time = cells.NONE
    if runs and phase.name != TEST:  # which trains nothing
        time = cells.format_duration(sum(run.result["seconds"] for run in runs))
    total, chosen = phase.count_runs(), phase.chosen
    count = f"{phase.count_finished()} of {total}" if total else cells.NONE
    accuracy = [cells.NONE] * 2
    if chosen is None or not chosen.runs:
        name = cells.describe_pending(phase) or "unfinished"
    else:
        name, accuracy = chosen.name or "nothing varied", cells.format_measured(chosen)
    return [phase.name, name, *accuracy, count, time]
