"""Section III of the paper: audio (Table I), a spectrogram (Fig. 1), features (Table II)."""

from pathlib import Path
from typing import Any

import numpy as np

from genreclf import paper
from genreclf.audio.features import Waveform, build_features
from genreclf.data.store import Store
from genreclf.errors import InputError
from genreclf.evaluation.intervals import average_runs
from genreclf.evaluation.runs import BEST, Run
from genreclf.figures import spectrogram, style
from genreclf.models.checkpoint import load_checkpoint
from genreclf.report import audio_files, cells
from genreclf.report.section import MEASURED, PAPER, Column, Picture, Section, Table
from genreclf.studies.study import Phase, Point, Study

SHOWN = ("2", "000002")  # FMA's number of the clip in Fig. 1, "Food" by AWOL


def store_of(run: Run) -> Store | None:
    """The store that a run was trained on; None where it is not there any more."""
    try:
        return Store(run.result["data"]["store"])
    except InputError:
        return None


def _audio(study: Study) -> audio_files.AudioFiles | None:
    """Of the tracks of the first run whose store is there; None where nothing can be read."""
    for run in cells.collect_runs(study):
        if (store := store_of(run)) is not None:
            found = audio_files.read(tuple(store.paths))
            return found if found.files else None
    return None


def audio(study: Study) -> Section:
    """Table I."""
    found = _audio(study)
    columns = [
        Column("specification"),
        Column("value", PAPER, text=True),
        Column("most common", MEASURED, text=True),
        Column("share of files, %", MEASURED),
        Column("other values", MEASURED, text=True),
    ]
    rows = []
    for name, printed in paper.AUDIO.items():
        common = found.specs[name].most_common(5) if found else []
        value, count = common[0] if common else (cells.NONE, 0)
        part = cells.format_percent(count / found.files, 1) if found else cells.NONE
        others = ", ".join(f"{other} ({number})" for other, number in common[1:])
        rows.append([name, printed, value, part, others or cells.NONE])
    text = (
        f"Read from the headers of {found.files:,} audio files."
        if found
        else "No audio files of these tracks are at hand, so there is nothing to measure."
    )
    note = "MP3's bit rates end at 320 kbit/s; the paper's 360 is none of them."
    return Section("table-1", "Table I: audio files", [text], Table(columns, rows), notes=[note])


def clip(study: Study) -> Section:
    """Fig. 1."""
    title = "Fig. 1: features of a clip"
    for run in cells.collect_best_runs(study) or cells.collect_runs(study):
        if (store := store_of(run)) is not None:
            svg, caption = _draw(run, store)
            return Section("fig-1", title, pictures=[Picture("fig-1", svg, caption)])
    return Section("fig-1", title, ["No store of features is at hand to draw from."])


def _draw(run: Run, store: Store) -> tuple[str, str]:
    """The paper's clip where the store has it, else the first one; and what it is."""
    row = next((store.track_ids.index(name) for name in SHOWN if name in store.track_ids), 0)
    scale, offset = store.scaling.scale, store.scaling.offset
    values = scale * store.read([row])[0].astype(np.float32) + offset
    features: Any = build_features(store.source.features)
    if isinstance(features, Waveform) and (run.folder / BEST).exists():
        features = load_checkpoint(run.folder / BEST).features  # computed of waveforms
        values = features(values[0], features.sample_rate)
    genre, path = store.classes[store.labels[row]], Path(store.paths[row])
    name = spectrogram.read_title(path) if path.is_file() else f"Track {store.track_ids[row]}"
    kind = "features as the data bring them" if features.name == "precomputed" else features.name
    caption = f"{name}, {genre}: {kind}, {values.shape[0]} × {values.shape[1]}."
    if store.track_ids[row] not in SHOWN:
        caption += " The paper shows “Food” by AWOL, Hip-Hop, which is not among these tracks."
    rate, seconds = getattr(features, "sample_rate", None), float(store.durations[row])
    drawn = spectrogram.draw_clip(spectrogram.make_clip(name, features, values, rate, seconds))
    return style.render_svg(drawn), caption


def features(study: Study) -> Section:
    """Table II."""
    phase = cells.find_phase(study, "features")
    columns = [
        Column("feature"),
        Column("dimensions", PAPER, text=True),
        Column("dimensions", MEASURED, text=True),
        Column("size", PAPER),
        Column("size", MEASURED),
        Column("val accuracy, %", PAPER),
        Column("val accuracy, %", MEASURED),
        Column("95 % interval", MEASURED),
        Column("train-val gap, points", PAPER),
        Column("train-val gap, points", MEASURED),
    ]
    found = _audio(study)
    origin, none = paper.ORIGIN, [cells.NONE] * 5
    rows = [
        [
            *(f"{origin.printed} (audio files)", origin.dimensions, "samples × channels"),
            *(
                cells.format_size(origin.size),
                cells.format_size(found.bytes) if found else cells.NONE,
                *none,
            ),
        ]
    ]
    measured = cells.group_by_setting(phase, "features")
    for key in cells.merge_keys(paper.FEATURES, measured):
        rows.append(_feature(phase, measured.get(key), key))
    notes = [
        "Sizes: the paper's are of compressed archives, the measured ones of the file of features "
        "that training reads.",
        "The gap is the difference of training and validation accuracy at the kept epoch. Training "
        "accuracy is taken with dropout and augmentation, validation accuracy without, so that "
        "validation can be higher, as in the paper.",
        "The paper's “MFCG” is read as chroma, which is what 12 chroma bins are.",
        *cells.list_remarks(phase),
    ]
    return Section(
        *("table-2", "Table II: features", []),
        Table(columns, rows),
        notes=notes,
        command=cells.format_command(phase),
    )


def _feature(phase: Phase, point: Point | None, key: str) -> list[str]:
    printed = paper.FEATURES.get(key, paper.Feature(key, cells.NONE, 0))
    name = cells.format_label(phase, point, printed.printed)
    shape = size = gap = cells.NONE
    val_accuracy, between = cells.format_measured_accuracy(phase, point, "features", key)
    if point is not None and not cells.describe_state(phase, point):
        bins, frames = point.runs[0].result["data"]["shape"]
        shape, size = (
            f"{bins} × {frames}",
            cells.format_size(point.runs[0].result["data"]["store_bytes"]),
        )
        gap = cells.format_percent(average_runs(point.runs, _gap))
    return [
        *(name, printed.dimensions, shape),
        *(cells.format_size(printed.size) if printed.size else cells.NONE, size),
        *(cells.format_percent(printed.val_accuracy), val_accuracy, between),
        *(cells.format_percent(printed.gap), gap),
    ]


def _gap(result: dict[str, Any]) -> float:
    return abs(result["metrics"]["train/accuracy"] - result["metrics"]["val/accuracy"])
