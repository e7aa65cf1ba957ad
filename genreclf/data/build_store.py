"""Builds the store of a dataset's features."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from genreclf.audio.cores import check_workers, count_available_cores
from genreclf.audio.own_features import (
    check_available,
    check_features,
    get_silence,
    get_stored,
)
from genreclf.audio.workers import Row
from genreclf.data.datasets.track import Track, check_genres, list_tracks
from genreclf.data.digests import DigestCache
from genreclf.data.recorded_features import check_recorded
from genreclf.data.rows import ProvidedRows, extract_rows
from genreclf.data.store import Scaling, Source, Store, describe_source
from genreclf.data.store_log import log_store
from genreclf.data.store_writer import StoreWriter
from genreclf.errors import InputError
from genreclf.files import check_writable
from genreclf.locks import hold_lock
from genreclf.paths import format_path, name_sibling
from genreclf.protocols import Dataset, FeatureDataset, Features

RECORDED = "leave out features=... to take those of the archive, or embed the tracks again"
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class StorePlan:
    """A store that may not exist yet.

    Args:
        dataset: the dataset of its tracks.
        features: the stored features.
        tracks: all tracks, in order.
        contents: digest of the audio of each track; None if the dataset provides the features.
        source: what the store is made from.
        path: where it is, or will be.
        is_recorded: whether the dataset records that its rows are these features.
    """

    dataset: Dataset
    features: Features
    tracks: Sequence[Track]
    contents: Sequence[str] | None
    source: Source
    path: Path
    is_recorded: bool = False


def plan_store(
    dataset: Dataset, features: Features, *, outputs: str | Path, path: str | Path | None = None
) -> StorePlan:
    """Plan the store of a dataset for a kind of features: what it is made from, and its path.

    Args:
        dataset: the dataset of the tracks.
        features: what is computed from each track; if that happens in training, waveforms are
            stored.
        outputs: the folder below which the store is placed, unless `path` is given.
        path: path of the store; None for a name that depends on what it is made from.

    Features that cannot be computed here, such as for lack of an encoder's weights, are refused
    unless the store is finished.

    Raises:
        InputError: features and dataset do not fit together, the store cannot be written, the
            dataset cannot be read, its tracks cannot be used, for the reasons of `list_tracks`,
            the features cannot be computed, or those of your own are not what they declare.
    """
    brought = isinstance(dataset, FeatureDataset)
    is_recorded = brought and check_recorded(dataset, features, RECORDED)
    fault = None if is_recorded else find_fault(features)
    if not fault:
        check_features(features)
    if not callable(features) and not brought:
        raise InputError(
            f"data={dataset.name} with features={features.name}: features=precomputed goes with "
            "data=npz, which holds finished features, and with nothing else"
        )
    if brought and (check := getattr(dataset, "check_features", None)):
        check(features)
    stored, folder = get_stored(features), Path(str(outputs)) / "stores"
    if fault and (path or not any(folder.glob(f"{dataset.name}-{stored.name}-*.h5"))):
        raise fault
    if path:
        check_writable(Path(path), "store")
    elif not any(folder.glob("*.h5")):  # a share that cannot be written may have the store
        check_writable(folder / "digests.json", "outputs")
    tracks, contents = list_tracks(dataset, with_audio=not brought), None
    if not brought:
        cache = DigestCache(folder)
        contents = cache.digest_files([track.path for track in tracks])
        cache.save()
    source = describe_source(
        dataset.name, stored, tracks, dataset.identity() if brought else contents
    )
    name = f"{dataset.name}-{stored.name}-{source.digest[:8]}.h5"
    place = Path(path or folder / name)
    if fault and not place.exists():
        raise fault
    _note_fault(fault)
    return StorePlan(dataset, stored, tracks, contents, source, place, is_recorded)


def find_fault(features: Any) -> InputError | None:
    """Find out why features cannot be computed here; None if they can."""
    try:
        check_available(features)
    except InputError as error:
        return error
    return None


def _note_fault(fault: InputError | None) -> None:
    if fault:
        log.info("%s; the finished store is enough, except to predict from other audio", fault)


def build_store(
    dataset: Dataset,
    features: Features,
    *,
    outputs: str | Path,
    path: str | Path | None = None,
    workers: int | None = None,
) -> Store:
    """Return the store of a dataset for a kind of features; build it if it does not exist.

    Args:
        dataset: the dataset of the tracks.
        features: what is computed from each track; if that happens in training, waveforms are
            stored.
        outputs: the folder below which the store is placed, unless `path` is given.
        path: path of the store; None for a name that depends on what it is made from. An existing
            store is used as it is: neither the dataset nor its audio is needed.
        workers: number of processes that extract features; None for one per core.

    Raises:
        InputError: features and dataset do not fit together, the store at `path` has other
            features, no track has usable audio, or the disk is full.
    """
    check_workers(workers)
    if path and Path(path).exists():
        return accept_store(Store(path), features)
    return write_store(plan_store(dataset, features, outputs=outputs, path=path), workers)


def accept_store(store: Store, features: Features) -> Store:
    """Accept a finished store that the user named, as it is.

    Raises:
        InputError: it has other features.
    """
    store.check_features(features)
    _note_fault(find_fault(features))
    count, dataset = len(store), store.source.dataset
    log.info("%s is used as it is: %d tracks of data=%s", format_path(store.path), count, dataset)
    return store


def write_store(plan: StorePlan, workers: int | None = None, list_rejected: bool = False) -> Store:
    """Return the planned store; write it if it does not exist yet.

    Args:
        plan: the store.
        workers: number of processes that extract features; None for one per core.
        list_rejected: whether the log names each track that is rejected or has a note, and why, or
            says only how many there are.

    Raises:
        InputError: the dataset's genres are not those of its tracks, no track has usable audio, a
            process was killed, or the disk is full.
    """
    if not plan.path.exists():
        plan.path.parent.mkdir(parents=True, exist_ok=True)
        with hold_lock(name_sibling(plan.path, ".lock"), "the same store"):
            if not plan.path.exists():
                _write(plan, workers or count_available_cores())
    store = Store(plan.path)
    if isinstance(plan.dataset, FeatureDataset):
        check_values(store, plan.features)
    known_bad = getattr(plan.dataset, "known_bad", None) or {}
    log_store(store, plan.features, known_bad, list_rejected)
    return store


def check_values(store: Store, features: Any) -> None:
    """Refuse rows from a dataset if their values show that they are not these features.

    Raises:
        InputError: a sample of twenty rows has values outside the range of the features.
    """
    allowed = getattr(features, "value_range", None)
    if allowed is None:
        return
    low, high = allowed
    values = store.read_features(np.linspace(0, len(store) - 1, 20).astype(int))
    if not low - 1 <= values.min() < high - 1 or values.max() > high + 1:
        raise InputError(
            f"features={features.name} go from {low:g} to {high:g} dB, these rows from "
            f"{values.min():.4g} to {values.max():.4g}: set data.scale and data.offset"
        )


def _write(plan: StorePlan, workers: int) -> None:
    check_genres(plan.dataset, plan.tracks)
    if isinstance(plan.dataset, FeatureDataset):
        _write_provided_rows(plan, plan.dataset)
        return
    features, contents = plan.features, plan.contents or []
    arguments = plan.source, plan.tracks, features.shape, np.dtype(np.float32), contents
    with StoreWriter(plan.path, *arguments) as writer:
        _write_rows(
            writer,
            extract_rows(plan.tracks, contents, features, writer.done, workers, plan.path),
        )
        writer.finish(Scaling(silence=get_silence(features)))


def _write_provided_rows(plan: StorePlan, dataset: FeatureDataset) -> None:
    """Write the rows that the dataset provides, reading each once."""
    rows, features = ProvidedRows(dataset, len(plan.tracks)), plan.features
    shape = rows.first.shape
    if callable(features) and not plan.is_recorded and shape != features.shape:
        given, wanted = (" x ".join(map(str, each)) for each in (shape, features.shape))
        raise InputError(f"rows of {given} cannot be features={features.name}, which are {wanted}")
    scale, offset = dataset.scaling()
    with StoreWriter(plan.path, plan.source, plan.tracks, shape, rows.first.dtype) as writer:
        _write_rows(writer, rows.check(writer.done))
        silence = dataset.silence
        if silence is None:
            silence = scale * rows.lowest + offset
        writer.finish(Scaling(scale, offset, (silence,)))


def _write_rows(writer: StoreWriter, rows: Iterator[Row]) -> None:
    if writer.done:
        log.info("continuing after %d of %d tracks", writer.done, len(writer.tracks))
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
