"""What stands last: where protocols differ, what was rejected, how the report was made."""

import shlex
from collections import Counter
from pathlib import Path
from typing import Any

from genreclf import paper
from genreclf.evaluation.intervals import estimate_accuracy
from genreclf.evaluation.runs import Run
from genreclf.figures import curves
from genreclf.report import cells, study_artists
from genreclf.report.section import MEASURED, Column, Picture, Section, Table
from genreclf.studies.study import Phase, Study


def phase_of_ones_own(phase: Phase) -> Section:
    """A phase that the paper does not have: all its points."""
    columns = [
        Column("point"),
        Column("val accuracy, %", MEASURED),
        Column("95 % interval", MEASURED),
        Column("runs", MEASURED),
    ]
    rows, measured = [], {}
    for point in phase.points:
        name, why = (
            cells.format_label(phase, point, point.name or "as it was"),
            cells.describe_state(phase, point),
        )
        cells_of_row = [why, cells.NONE]
        if not why:
            score = estimate_accuracy(point.runs)
            cells_of_row = [cells.format_percent(score.value), cells.format_bounds(score)]
            each = [run.result["val"]["accuracy"] for run in point.runs]
            measured[point.name or "as it was"] = (each, score)
        rows.append([name, *cells_of_row, str(len(point.runs))])
    caption = "Validation accuracy: every seed a dot, the mean a bar with its 95 % interval."
    anchor = f"phase-{phase.name}"
    drawn = curves.draw_accuracies(measured) if len(measured) > 1 else ""
    return Section(
        *(anchor, f"Phase {phase.name}", ["The paper has no such phase."]),
        Table(columns, rows) if rows else None,
        pictures=[Picture(anchor, drawn, caption)] if drawn else [],
        notes=cells.list_remarks(phase),
        command=cells.format_command(phase),
    )


def protocol(study: Study) -> Section:
    """Where the paper, its published scripts and this study do different things."""
    runs = cells.collect_best_runs(study) or cells.collect_runs(study)
    notes = _differences(runs[0]) if runs else []
    text = "The paper's scripts are public; where they do not do what it says, both are told here."
    return Section("protocol", "Where protocols differ", [text], notes=notes)


def _differences(run: Run) -> list[str]:
    result = run.result
    config, data = result["config"], result["data"]
    tracks = sum(sum(genres.values()) for genres in data["split"].values())
    axis, augmentation = config["model"].get("axis"), config["augmentation"]
    fill, unit = augmentation.get("fill"), augmentation.get("noise_unit")
    shared = f"{cells.format_percent(study_artists.shared_artists([run]), 1)} %"
    filled = "silence" if fill is None else f"{fill:g} dB"
    whole = config["augmentation"]["_target_"].endswith("Identity")
    none = "nothing, without augmentation" if whole else "the clip's mean"
    return [
        f"Rows. The paper counts {paper.ROWS:,} rows of {paper.CLIPS:,} clips: one batch of 500 "
        f"was read twice, so that some 8 % of its test rows have a twin in training. Here each of "
        f"{tracks:,} tracks is one row.",
        "Sequence axis. The paper speaks of time; its scripts average time away and run GRU and "
        f"attention over 16 mel bands. Here: {axis or 'no sequence'}.",
        "The 0 dB fill. Its scripts fill the gap of a time shift with 0 dB, the loudest value, "
        f"where silence is −80 dB. Here: {filled if unit else none}.",
        "Genre names. Its scripts number the genres by FMA's ids and name them by the alphabet, so "
        "that all its figures by genre stand under another name.",
        "Phase 5. It enhanced Pop, believing it Experimental, and took augmentation from all other "
        "tracks at the same time. Here the two points differ in the extra copies alone.",
        "Early stopping. It states a patience of 8 epochs on validation loss, and 10 elsewhere; "
        f"its scripts stop by validation accuracy. Here: {config['monitor']}, patience "
        f"{config['patience']}.",
        "Kept epoch. The paper's best accuracy is that of the best epoch by accuracy; here it is "
        f"that of the epoch kept by {config['monitor']}.",
        "Artists. The paper's split is random, with artists on both sides. Here the artist of "
        f"{shared} of the tested tracks is in training.",
        "Noise. The paper gives σ without a unit; its scripts add it to dB, where it does nothing. "
        + {"range": "Here it is a share of a clip's range.", "value": "Here it is in dB."}.get(
            str(unit), "Here there is none."
        ),
        "Chance. The paper has one seed and no intervals, and chose among 54 runs by differences "
        "smaller than the interval of any of them.",
    ]


def rejected(study: Study) -> Section:
    """How many tracks gave no features, and why."""
    lost = {}
    for run in cells.collect_runs(study):
        for track in run.result["data"]["rejected"]:
            lost.setdefault(str(track["track_id"]), track)
    if not lost:
        return Section("rejected", "Rejected tracks", ["None."])
    reasons = Counter(track["reason"] for track in lost.values())
    rows = []
    for reason, count in reasons.most_common(20):
        names = [name for name, track in lost.items() if track["reason"] == reason]
        shown = ", ".join(names[:10]) + ", ..." * (count > 10)
        rows.append([reason, f"{count:,}", shown])
    columns = [Column("reason"), Column("tracks"), Column("which", text=True)]
    return Section(
        "rejected",
        "Rejected tracks",
        [f"{len(lost):,} tracks gave no features."],
        Table(columns, rows),
    )


def made(study: Study, folder: Path) -> Section:
    """Code, versions, and the commands that make it again."""
    runs = cells.collect_runs(study)
    commits = _each(run.result["commit"] or "unknown (not run from a checkout)" for run in runs)
    versions = _each(_versions(run.result) for run in runs)
    again = shlex.join(["genreclf", "report", f"runs={folder}"])
    text = [
        "All figures are read from the files of the runs. The first command below runs the study, "
        "or what is left of it; the second writes this page again.",
        *([f"Commit: {'; '.join(commits)}.", f"Versions: {'; '.join(versions)}."] if runs else []),
    ]
    command = shlex.join(["genreclf", *study.command])
    return Section("made", "How this was made", text, command=f"{command}\n{again}")


def _each(texts: Any) -> list[str]:
    return list(dict.fromkeys(texts))


def _versions(result: dict[str, Any]) -> str:
    return ", ".join(f"{name} {version}" for name, version in result["versions"].items())
