"""From a dataset to its store of features."""

import logging
from collections.abc import Collection, Iterable, Iterator
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path

import numpy as np
from filelock import FileLock
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from genreclf.audio.features import (
    MFCC,
    Computed,
    Features,
    Mel,
    MelFrames,
    Precomputed,
    describe_features,
)
from genreclf.audio.workers import Row, count_available_cores, extract, map_in_order
from genreclf.data.datasets import FMA, Dataset, Npz, Track
from genreclf.data.store import Scaling, Source, Store
from genreclf.data.store_writer import StoreWriter
from genreclf.errors import InputError


def read_precomputed_rows(dataset: Npz, done: int) -> Iterator[Row]:
    """The dataset' own rows, after the first `done`; rows without content are refused."""
    for number, row in enumerate(dataset.rows()):
        if number < done:
            continue
        if not np.isfinite(row).all():
            yield "values that are not finite numbers"
        elif row.min() == row.max():
            yield f"silent: every value is {row.min()}"
        else:
            yield row, dataset.duration


def extract_rows(tracks: Iterable[Track], features: Computed, workers: int) -> Iterator[Row]:
    """Rows in the order of the tracks."""
    try:
        paths = (track.path for track in tracks)
        yield from map_in_order(partial(extract, features=features), paths, workers)
    except BrokenProcessPool:
        raise InputError(
            "a process that extracts features was killed (out of memory?); start again, it goes "
            "on from there, with fewer processes: workers=1"
        ) from None


log = logging.getLogger(__name__)


def build_store(
    dataset: Dataset,
    features: Features,
    *,
    outputs: str | Path,
    path: str | Path | None = None,
    workers: int | None = None,
) -> Store:
    """The store of a dataset and a kind of features; made if it is not there yet.

    Args:
        dataset: whose tracks.
        features: what is computed of each; waveforms are stored where that happens in training.
        outputs: the store's place is below, named by what it is made from, unless `path` is given.
        path: of the store.
        workers: processes that extract; None takes all cores.

    Raises:
        InputError: features and dataset do not go together, the store at `path` was made from
            something else, no track gives features, or the disk is full.
    """
    if workers is not None and workers < 1:
        raise InputError(f"workers={workers}: at least 1 is needed; null takes all cores")
    source = describe_source(dataset, features)
    features = features.stored
    name = f"{dataset.name}-{features.name}-{source.digest[:8]}.h5"
    path = Path(str(path)) if path else Path(str(outputs)) / "stores" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{path}.lock"):  # a second run waits for the first one's store
        if not path.exists():
            _write_store(dataset, features, source, path, workers or count_available_cores())
        store = Store(path)
    store.check(source)
    if isinstance(dataset, Npz):
        check_values(store, features)
    _log_store(store, features, dataset.known_bad if isinstance(dataset, FMA) else ())
    return store


def describe_source(dataset: Dataset, features: Features) -> Source:
    """What the store of a dataset and a kind of features is made from.

    Raises:
        InputError: features and dataset do not go together.
    """
    if isinstance(features, Precomputed) and not isinstance(dataset, Npz):
        raise InputError(
            f"data={dataset.name} with features={features.name}: features=precomputed goes with "
            "data=npz, which holds finished features, and with nothing else"
        )
    return Source(describe_features(features.stored), dataset.identity())


def check_values(store: Store, features: Features) -> None:
    """Refuse rows that a dataset brought along where they cannot be these features.

    Raises:
        InputError: of some rows here and there, values outside the range of the features.
    """
    if isinstance(features, MFCC) or not isinstance(features, Mel | MelFrames):
        return  # these have no range
    rows = store.read(np.linspace(0, len(store) - 1, 20).astype(int))
    values = rows * store.scaling.scale + store.scaling.offset
    lowest = float(values.min())
    if not -features.top_db - 1 <= lowest < -1 or values.max() > 1:
        raise InputError(
            f"features={features.name} go from {-features.top_db:g} to 0 dB, these rows from "
            f"{lowest:.4g} to {values.max():.4g}: set data.scale and data.offset"
        )


def _write_store(
    dataset: Dataset, features: Features, source: Source, path: Path, workers: int
) -> None:
    tracks = dataset.tracks()
    if isinstance(dataset, Npz):
        first = next(dataset.rows())
        if not isinstance(features, Precomputed) and first.shape != features.shape:
            rows, wanted = (" x ".join(map(str, shape)) for shape in (first.shape, features.shape))
            raise InputError(f"rows of {rows} are no features={features.name}, which are {wanted}")
        with StoreWriter(path, source, tracks, first.shape, first.dtype) as writer:
            _write_rows(writer, read_precomputed_rows(dataset, writer.done))
            writer.finish(_choose_npz_scaling(dataset))
    else:
        assert not isinstance(features, Precomputed)
        with StoreWriter(path, source, tracks, features.shape, np.dtype(np.float32)) as writer:
            _write_rows(writer, extract_rows(tracks[writer.done :], features, workers))
            writer.finish(Scaling(silence=features.silence))


def _write_rows(writer: StoreWriter, rows: Iterator[Row]) -> None:
    if writer.done:
        log.info("going on after %d of %d tracks", writer.done, len(writer.tracks))
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rejected]} rejected"),
        TimeRemainingColumn(elapsed_when_finished=True),
    )
    with Progress(*columns) as progress:
        task = progress.add_task(
            "features",
            total=len(writer.tracks),
            completed=writer.done,
            rejected=writer.rejected,
        )
        for row in rows:
            if isinstance(row, str):
                writer.reject(row)
            else:
                writer.accept(*row)
            progress.update(task, advance=1, rejected=writer.rejected)


def _choose_npz_scaling(dataset: Npz) -> Scaling:
    scale, offset = dataset.scaling()
    silence = dataset.silence
    if silence is None:
        finite = (row for row in dataset.rows() if np.isfinite(row).all())
        silence = scale * min((float(row.min()) for row in finite), default=0.0) + offset
    return Scaling(scale, offset, (silence,))


def _log_store(store: Store, features: Features, known_bad: Collection[str]) -> None:
    bins, frames = store.shape
    log.info(
        "%s: %d tracks of %d genres, features %d x %d",
        store.path,
        len(store),
        len(store.classes),
        bins,
        frames,
    )
    if not isinstance(features, Precomputed):
        short = int((store.durations < features.duration - 0.5).sum())
        if short:
            filled = "" if features.sample_rate is None else " and end in silence"
            log.info("%d are shorter than %g s%s", short, features.duration, filled)
    if store.rejected:
        log.warning("%s", _format_rejections(store.rejected, known_bad))
        if lost := {track["genre"] for track in store.rejected} - set(store.classes):
            log.warning("no usable track is left of %s", ", ".join(sorted(lost)))


def _format_rejections(rejected: list[dict[str, str]], known_bad: Collection[str]) -> str:
    """How many tracks were rejected, and the first one for which that is news."""
    news = [track for track in rejected if track["track_id"] not in known_bad]
    if not news:
        return f"{len(rejected)} tracks rejected, all known to be bad; listed in the report"
    first = news[0]
    unexpected = f", {len(news)} of them not known to be bad" if known_bad else ""
    return (
        f"{len(rejected)} tracks rejected{unexpected}, listed in the report; the first: "
        f"{first['path'] or first['track_id']}: {first['reason']}"
    )
