"""`genreclf prepare`: from a corpus to its store of features."""

import logging
import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import numpy as np
from filelock import FileLock
from hydra.utils import instantiate
from omegaconf import DictConfig
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from threadpoolctl import threadpool_limits

from genreclf import audio
from genreclf.corpora import Corpus, Npz, Track
from genreclf.errors import InputError
from genreclf.features import Features, Mel, Precomputed, settings
from genreclf.store import Scaling, Source, Store
from genreclf.store_writer import StoreWriter

log = logging.getLogger(__name__)

Row = tuple[np.ndarray, float] | str  # features and seconds, or why there are none


def run(config: DictConfig) -> None:
    """The command: make the store, print its path."""
    store = store_for(
        instantiate(config.data),
        instantiate(config.features),
        outputs=config.outputs,
        path=config.store,
        workers=config.workers,
    )
    print(store.path)


def store_for(
    corpus: Corpus,
    features: Features,
    *,
    outputs: str | Path,
    path: str | Path | None = None,
    workers: int | None = None,
) -> Store:
    """The store of a corpus and a kind of features; made if it is not there yet.

    Args:
        corpus: whose tracks.
        features: what is computed of each.
        outputs: the store's place is below, named by what it is made from, unless `path` is given.
        path: of the store.
        workers: processes that extract; None takes all cores.

    Raises:
        InputError: features and corpus do not go together, the store at `path` was made from
            something else, no track gives features, or the disk is full.
    """
    source = source_of(corpus, features)
    name = f"{corpus.name}-{features.name}-{source.digest[:8]}.h5"
    path = Path(path) if path else Path(outputs) / "stores" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{path}.lock"):  # a second run waits for the first one's store
        if not path.exists():
            _make(corpus, features, source, path, workers or _cores())
        store = Store(path)
    store.check(source)
    _describe(store, corpus.duration)
    return store


def source_of(corpus: Corpus, features: Features) -> Source:
    """What the store of a corpus and a kind of features is made from.

    Raises:
        InputError: features and corpus do not go together.
    """
    if isinstance(corpus, Npz) != isinstance(features, Precomputed):
        raise InputError(
            f"data={corpus.name} with features={features.name}: features=precomputed goes with "
            "data=npz, which holds finished features, and with nothing else"
        )
    return Source(settings(features), corpus.identity())


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _make(corpus: Corpus, features: Features, source: Source, path: Path, workers: int) -> None:
    tracks = corpus.tracks()
    if isinstance(corpus, Npz):
        first = next(corpus.rows())
        with StoreWriter(path, source, tracks, first.shape, first.dtype) as writer:
            _write(writer, _precomputed(corpus, writer.done))
            writer.finish(_npz_scaling(corpus))
    else:
        assert isinstance(features, Mel)
        with StoreWriter(path, source, tracks, features.shape, np.dtype(np.float32)) as writer:
            _write(writer, _extracted(tracks[writer.done :], features, workers))
            writer.finish(Scaling(silence=features.silence))


def _write(writer: StoreWriter, rows: Iterator[Row]) -> None:
    if writer.done:
        log.info("going on after %d of %d tracks", writer.done, len(writer.tracks))
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rejected]} rejected"),
        TimeRemainingColumn(elapsed_when_finished=True),
    )
    rejected = 0
    with Progress(*columns) as progress:
        task = progress.add_task(
            "features", total=len(writer.tracks), completed=writer.done, rejected=rejected
        )
        for row in rows:
            if isinstance(row, str):
                writer.reject(row)
                rejected += 1
            else:
                writer.accept(*row)
            progress.update(task, advance=1, rejected=rejected)


def _precomputed(corpus: Npz, done: int) -> Iterator[Row]:
    for number, row in enumerate(corpus.rows()):
        if number < done:
            continue
        if not np.isfinite(row).all():
            yield "values that are not finite numbers"
        elif row.min() == row.max():
            yield f"silent: every value is {row.min()}"
        else:
            yield row, corpus.duration


def _npz_scaling(corpus: Npz) -> Scaling:
    scale, offset = corpus.scaling()
    silence = corpus.silence
    if silence is None:
        finite = (row for row in corpus.rows() if np.isfinite(row).all())
        silence = scale * min(float(row.min()) for row in finite) + offset
    return Scaling(scale, offset, silence)


def _extracted(tracks: Iterable[Track], features: Mel, workers: int) -> Iterator[Row]:
    """Rows in the order of the tracks; a few tracks ahead at a time, so memory does not grow."""
    context = multiprocessing.get_context("spawn")  # forking a process with threads can hang
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_quiet_worker)
    ahead: deque[Future[Row]] = deque()
    try:
        for track in tracks:
            ahead.append(pool.submit(extract, track.path, features))
            if len(ahead) >= 4 * workers:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
    except BrokenProcessPool:
        raise InputError(
            "a process that extracts features was killed (out of memory?); start again, it goes "
            "on from there, with fewer processes: workers=1"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def _quiet_worker() -> None:
    """Leave Ctrl-C to the parent, the decoder's chatter to nobody, and one core to each worker."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    threadpool_limits(1)


def extract(path: str, features: Mel) -> Row:
    """Features and decoded seconds of a file, or the reason why there are none."""
    try:
        waveform = audio.load(path, features.sample_rate, features.duration)
    except audio.DecodeError as error:
        return str(error)
    return features(waveform), len(waveform) / features.sample_rate


def _describe(store: Store, duration: float) -> None:
    bins, frames = store.shape
    short = int((store.durations < duration - 0.5).sum())
    log.info(
        "%s: %d tracks of %d genres, features %d x %d",
        store.path,
        len(store),
        len(store.classes),
        bins,
        frames,
    )
    if short:
        log.info("%d tracks are shorter than %g s and end in silence", short, duration)
    if store.rejected:
        first = store.rejected[0]
        log.warning(
            "%d tracks rejected, listed in the report; the first: %s: %s",
            len(store.rejected),
            first["path"] or first["track_id"],
            first["reason"],
        )
