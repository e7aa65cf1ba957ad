"""Section III of the paper: audio files (Table I), a clip (Fig. 1), features (Table II)."""

from collections import Counter
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import mutagen

from genreclf import paper
from genreclf.audio.descriptions import build_features
from genreclf.audio.own_features import compute_features
from genreclf.data.store import Store
from genreclf.errors import InputError
from genreclf.evaluation.intervals import compute_mean
from genreclf.evaluation.runs import Run
from genreclf.figures import spectrogram, style
from genreclf.files import BEST
from genreclf.models.model_files import read_model_files
from genreclf.report import cells
from genreclf.report.section import MEASURED, PAPER, Column, Picture, Section, Table
from genreclf.studies.study import Phase, Point, Study

SHOWN = ("2", "000002")  # FMA's id of the clip in Fig. 1, "Food" by AWOL


class AudioFiles(NamedTuple):
    """Specifications of audio files.

    Args:
        readable: number of files that could be read.
        size: total size of all files, in bytes.
        specs: how many files have each value, by the names of `paper.AUDIO`.
    """

    readable: int
    size: int
    specs: dict[str, Counter[str]]


def build_audio_table(study: Study) -> Section:
    """Build Table I."""
    found = _read_audio_of_study(study)
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
        share = cells.format_percent(count / found.readable, 1) if found else cells.NONE
        others = ", ".join(f"{other} ({number})" for other, number in common[1:])
        rows.append([name, printed, value, share, others or cells.NONE])
    text = (
        f"Read from the headers of {found.readable:,} audio files."
        if found
        else "The audio files of these tracks are not available, so nothing could be measured."
    )
    note = "MP3 has no bit rate above 320 kbit/s, so the paper's 360 cannot be right."
    return Section("table-1", "Table I: audio files", [text], Table(columns, rows), notes=[note])


def _read_audio_of_study(study: Study) -> AudioFiles | None:
    """Read the audio files of the first run whose store exists; None if none can be read."""
    for run in cells.collect_runs(study):
        if (store := _open_store(run)) is not None:
            found = _read_audio_files(tuple(_locate_audio(run, store.paths)))
            return found if found.readable else None
    return None


def _open_store(run: Run) -> Store | None:
    """Open the store that a run was trained on; None if it is no longer there."""
    try:
        return Store(run.folder / run.result["data"]["store"])
    except InputError:
        return None


def _locate_audio(run: Run, paths: Sequence[str]) -> list[str]:
    """Find a run's audio files from any working directory.

    Relative paths start where the command was run, which is usually a folder above the run's own.
    """
    first = next(filter(None, paths), "")
    folders = (Path(), *run.folder.absolute().parents)
    base = next((folder for folder in folders if (folder / first).is_file()), Path())
    return [str(base / path) if path else "" for path in paths]


@cache  # a study rewrites its report after each phase, for the same thousands of files
def _read_audio_files(paths: tuple[str, ...]) -> AudioFiles:
    """Read the headers of those files that exist and can be parsed."""
    specs: dict[str, Counter[str]] = {}
    count = size = 0
    for path in filter(Path.is_file, map(Path, filter(None, paths))):
        size += path.stat().st_size
        found = _read_header(path)
        count += bool(found)
        for name, value in found.items():
            specs.setdefault(name, Counter())[value] += 1
    return AudioFiles(count, size, specs)


def _read_header(path: Path) -> dict[str, str]:
    try:
        file = mutagen.File(path)  # pyright: ignore[reportPrivateImportUsage]
    except mutagen.MutagenError:  # pyright: ignore[reportPrivateImportUsage]
        file = None
    if file is None:
        return {}
    info = file.info
    channels = getattr(info, "channels", 0)
    rate = round(getattr(info, "bitrate", 0) / 1000)
    variable = str(getattr(info, "bitrate_mode", "")).endswith(("VBR", "ABR"))
    return {
        "format": type(file).__name__.upper(),
        "sampling rate": f"{getattr(info, 'sample_rate', 0):,} Hz",
        "bit rate": "variable" if variable else f"{rate:,} kbit/s",
        "channels": {1: "mono", 2: "stereo"}.get(channels, str(channels)),
        "duration": f"{info.length:.0f} s",
    }


def build_clip_figure(study: Study) -> Section:
    """Build Fig. 1."""
    title = "Fig. 1: features of a clip"
    for run in cells.collect_best_runs(study) or cells.collect_runs(study):
        if (store := _open_store(run)) is not None:
            try:
                return Section("fig-1", title, pictures=[_draw_clip(run, store)])
            except InputError as error:  # a feature class that is no longer there
                return Section("fig-1", title, [f"It cannot be drawn: {error}."])
    return Section("fig-1", title, ["The stores of these runs are no longer there to draw from."])


def _draw_clip(run: Run, store: Store) -> Picture:
    """Draw the paper's clip if the store has it, else the first one."""
    row = next((store.track_ids.index(name) for name in SHOWN if name in store.track_ids), 0)
    values = store.read_features([row])[0]
    features = _rebuild_features(store)
    computed_in_training = cells.get_config_value(run.result["config"], "features.on_device")
    if computed_in_training and (run.folder / BEST).exists():  # the store holds waveforms
        described = read_model_files(run.folder / BEST)["genreclf"]
        features = build_features(described["features"])
        values = compute_features(features, values[0], features.sample_rate)
    genre = store.classes[store.labels[row]]
    path = Path(_locate_audio(run, [store.paths[row]])[0])
    name = spectrogram.read_title(path) if path.is_file() else f"Track {store.track_ids[row]}"
    kind = "features from the dataset" if features.name == "precomputed" else features.name
    caption = f"{name}, {genre}: {kind}, {values.shape[0]} × {values.shape[1]}."
    if store.track_ids[row] not in SHOWN:
        caption += " The paper shows “Food” by AWOL, Hip-Hop, which is not among these tracks."
    rate, seconds = getattr(features, "sample_rate", None), float(store.durations[row])
    drawn = spectrogram.draw_clip(spectrogram.make_clip(name, features, values, rate, seconds))
    return Picture("fig-1", style.render_svg(drawn), caption)


def _rebuild_features(store: Store) -> Any:
    """Build the store's features; those of a class outside genreclf are drawn without the class."""
    described = store.source.features
    if "_target_" not in described:
        return build_features(described)
    name = described["_target_"].rpartition(".")[2].lower()
    return SimpleNamespace(**{"name": name, "duration": float(store.durations.max()), **described})


def build_features_table(study: Study) -> Section:
    """Build Table II."""
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
    found, origin = _read_audio_of_study(study), paper.ORIGIN
    size = cells.format_size(found.size) if found else cells.NONE
    first = [f"{origin.printed} (audio files)", origin.dimensions, "samples × channels"]
    rows = [[*first, cells.format_size(origin.size), size, *[cells.NONE] * 5]]
    measured = cells.group_by_setting(phase, "features")
    for key in cells.merge_keys(paper.FEATURES, measured):
        rows.append(_make_feature_row(phase, measured.get(key), key))
    notes = [
        "Size: the paper gives compressed archives; measured is the file of features that training "
        "reads.",
        "The gap is the difference between training and validation accuracy at the kept epoch. "
        "Training accuracy is measured with dropout and augmentation and validation accuracy "
        "without, so validation can be higher, as in the paper.",
        "We take the paper's “MFCG” to be chroma, because it has 12 chroma bins.",
        *cells.list_remarks(phase),
    ]
    return Section(
        "table-2",
        "Table II: features",
        table=Table(columns, rows),
        notes=notes,
        command=cells.format_command(phase),
    )


def _compute_gap(point: Point) -> float | None:
    """Average the gap over the seeds; None for a model without epochs, which has no such figure."""
    found = [run.result["metrics"] for run in point.runs]
    pairs = [(each.get("train/accuracy"), each["val/accuracy"]) for each in found]
    gaps = [abs(train - val) for train, val in pairs if train is not None]
    return compute_mean(gaps) if len(gaps) == len(pairs) else None


def _make_feature_row(phase: Phase, point: Point | None, key: str) -> list[str]:
    printed = paper.FEATURES.get(key, paper.Feature(key, cells.NONE, 0))
    shape = size = gap = cells.NONE
    if point is not None and not cells.explain_missing(phase, point):
        data = point.runs[0].result["data"]
        shape = " × ".join(map(str, data["shape"]))
        size = cells.format_size(data["store_bytes"])
        gap = cells.format_percent(_compute_gap(point))
    return [
        cells.format_label(phase, point, printed.printed),
        printed.dimensions,
        shape,
        cells.format_size(printed.size) if printed.size else cells.NONE,
        size,
        cells.format_percent(printed.val_accuracy),
        *cells.format_measured_or_reason(phase, point, "features", key),
        cells.format_percent(printed.gap),
        gap,
    ]
