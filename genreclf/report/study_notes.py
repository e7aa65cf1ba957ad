"""The end of a report: extra phases, differences from the paper, rejected tracks, provenance."""

import shlex
from collections import Counter
from pathlib import Path
from typing import Any

from genreclf import paper
from genreclf.evaluation.intervals import count_accuracy, estimate_accuracy
from genreclf.evaluation.runs import Run, get_key
from genreclf.figures import curves
from genreclf.report import cells, study_artists
from genreclf.report.section import MEASURED, Column, Picture, Section, Table
from genreclf.studies.study import Phase, Point, Study

FOLD = "split.number"


def build_phase_table(phase: Phase) -> Section:
    """Build the table and figure of a phase that the paper does not have.

    Folds of one configuration share a row with their pooled accuracy on the tested tracks; all
    other phases show the validation accuracy.
    """
    folds = has_folds(phase)
    part, accuracy = ("test", "accuracy on all folds, %") if folds else ("val", "val accuracy, %")
    columns = [
        Column("point"),
        Column(accuracy, MEASURED),
        Column("95 % interval", MEASURED),
        *[Column("by fold, %", MEASURED)] * folds,
        Column("runs", MEASURED),
    ]
    rows, measured = [], {}
    for name, points in merge_folds(phase).items():
        runs = [run for point in points for run in point.runs]
        planned = sum(len(point.folders) for point in points)
        missing = [reason for each in points if (reason := cells.explain_missing(phase, each))]
        if missing:
            shown = [missing[0], cells.NONE]
        else:
            estimate = estimate_accuracy(runs, part)
            shown = [cells.format_percent(estimate.value), cells.format_bounds(estimate)]
            measured[name] = ([run.result[part]["accuracy"] for run in runs], estimate)
        spread = [cells.format_fold_range([count_accuracy(run, part) for run in runs])] * folds
        label = cells.format_label(phase, points[0], name or "nothing varied")
        count = str(planned) if len(runs) == planned else f"{len(runs)} of {planned}"
        rows.append([label, *shown, *spread, count])
    anchor, pictures = f"phase-{phase.slug}", []
    if len(measured) > 1:
        kind = "Accuracy: each run" if folds else "Validation accuracy: each seed"
        caption = f"{kind} is a dot, the mean a bar with its 95 % interval."
        pictures = [Picture(anchor, curves.draw_accuracies(measured), caption)]
    return Section(
        anchor,
        f"Phase {phase.name}",
        table=Table(columns, rows) if rows else None,
        pictures=pictures,
        notes=cells.list_remarks(phase),
        command=cells.format_command(phase),
    )


def has_folds(phase: Phase) -> bool:
    """Whether a phase tests on several folds."""
    return any(cells.get_setting(point, FOLD) is not None for point in phase.points)


def merge_folds(phase: Phase) -> dict[str, list[Point]]:
    """Group the points that differ only in the fold, by the name of what else they set."""
    merged: dict[str, list[Point]] = {}
    for point in phase.points:
        others = [text for text in point.overrides if get_key(text) != FOLD]
        merged.setdefault(" ".join(others) or "nothing varied", []).append(point)
    return merged


def list_differences(study: Study) -> Section:
    """List where the paper, its published scripts and this study differ."""
    runs = cells.collect_best_runs(study) or cells.collect_runs(study)
    text = (
        "The paper's scripts are public. Where they differ from what the paper says, both are "
        "given."
    )
    notes = _describe_differences(runs[0]) if runs else []
    return Section("protocol", "Differences in protocol", [text], notes=notes)


def _describe_differences(run: Run) -> list[str]:
    config, data = run.result["config"], run.result["data"]
    tracks = sum(sum(genres.values()) for genres in data["split"].values())
    axis, augmentation = config["model"].get("axis"), config["augmentation"]
    fill, unit = augmentation.get("fill"), augmentation.get("noise_unit")
    shared = f"{cells.format_percent(study_artists.compute_shared_artists([run]), 1)} %"
    filled = "silence" if fill is None else f"{fill:g} dB"
    if not unit:  # an augmentation of another kind, or none
        identity = augmentation["_target_"].endswith("Identity")
        filled = "nothing, there is no augmentation" if identity else "the clip's mean"
    noise = {"range": "a share of the clip's range", "value": "in dB"}.get(str(unit), "none")
    return [
        f"Rows. The paper counts {paper.ROWS:,} rows for {paper.CLIPS:,} clips: one batch of 500 "
        "was read twice, so about 8 % of its test rows have a duplicate in training. Here each of "
        f"{tracks:,} tracks is one row.",
        "Sequence axis. The paper describes a sequence in time; its scripts average over time, and "
        f"run the GRU and attention over 16 mel bands. Here: {axis or 'no sequence'}.",
        "Fill value. The scripts fill the gap of a time shift with 0 dB, which is the loudest "
        f"value; silence is −80 dB. Here: {filled}.",
        "Genre names. The scripts number the genres by FMA's ids and name them in alphabetical "
        "order, so all results by genre are printed under another genre's name.",
        "Phase 5. The scripts enhanced Pop instead of Experimental, and at the same time stopped "
        "augmenting all other tracks. Here the two points differ only in the extra copies.",
        "Early stopping. The paper states a patience of 8 epochs on validation loss in one place "
        "and 10 in another; its scripts stop on validation accuracy. Here: "
        f"{config['monitor']}, patience {config['patience']}.",
        "Kept epoch. The paper's best accuracy is that of the epoch with the highest accuracy; "
        f"here it is that of the epoch kept by {config['monitor']}.",
        "Artists. The paper's split is random, with the same artists on both sides. Here "
        f"{shared} of the tested tracks are by an artist who is in training.",
        "Noise. The paper gives σ without a unit; its scripts add it to values in dB, where it has "
        f"no effect. Here: {noise}.",
        "Chance. The paper has one seed and no intervals, and chooses among 54 runs by differences "
        "that are smaller than the interval of any of them.",
    ]


def build_rejected_table(study: Study) -> Section:
    """Build the table of rejected tracks, by reason."""
    title, lost = "Rejected tracks", {}
    for run in cells.collect_runs(study):
        for track in run.result["data"]["rejected"]:
            lost.setdefault(str(track["track_id"]), track)
    if not lost:
        return Section("rejected", title, ["None."])
    reasons = Counter(track["reason"] for track in lost.values())
    rows = []
    for reason, count in reasons.most_common(20):
        names = [name for name, track in lost.items() if track["reason"] == reason]
        rows.append([reason, f"{count:,}", ", ".join(names[:10]) + ", ..." * (count > 10)])
    columns = [Column("reason"), Column("tracks"), Column("which", text=True)]
    text = f"{len(lost):,} tracks could not be used."
    return Section("rejected", title, [text], Table(columns, rows))


def describe_provenance(study: Study, folder: Path) -> Section:
    """Give commit and library versions, and the commands that repeat the study and the report."""
    runs = cells.collect_runs(study)
    text = [
        "All values are read from the files of the runs. The first command below runs the study, "
        "or what is missing of it; the second writes this page again.",
    ]
    if runs:
        commits = [run.result["commit"] or "unknown (not run from a checkout)" for run in runs]
        versions = [_format_versions(run.result["versions"]) for run in runs]
        text.append(f"Commit: {'; '.join(dict.fromkeys(commits))}.")
        text.append(f"Versions: {'; '.join(dict.fromkeys(versions))}.")
    report = shlex.join(["genreclf", "report", f"runs={folder}"])
    command = f"{shlex.join(['genreclf', *study.command])}\n{report}"
    return Section("made", "How this report was made", text, command=command)


def _format_versions(versions: dict[str, Any]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items())
