"""`genreclf prepare`: from a corpus to its store of features."""

import logging
from collections.abc import Collection, Iterator
from pathlib import Path

import numpy as np
from filelock import FileLock
from hydra.utils import instantiate
from omegaconf import DictConfig
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from genreclf.corpora import FMA, Corpus, Npz
from genreclf.errors import InputError
from genreclf.extraction import Row, available_cores, extracted, precomputed
from genreclf.features import MFCC, Features, Mel, MelFrames, Precomputed, settings
from genreclf.store import Scaling, Source, Store
from genreclf.store_writer import StoreWriter

log = logging.getLogger(__name__)


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
        features: what is computed of each; waveforms are stored where that happens in training.
        outputs: the store's place is below, named by what it is made from, unless `path` is given.
        path: of the store.
        workers: processes that extract; None takes all cores.

    Raises:
        InputError: features and corpus do not go together, the store at `path` was made from
            something else, no track gives features, or the disk is full.
    """
    if workers is not None and workers < 1:
        raise InputError(f"workers={workers}: at least 1 is needed; null takes all cores")
    source = source_of(corpus, features)
    features = features.stored
    name = f"{corpus.name}-{features.name}-{source.digest[:8]}.h5"
    path = Path(str(path)) if path else Path(str(outputs)) / "stores" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{path}.lock"):  # a second run waits for the first one's store
        if not path.exists():
            _make(corpus, features, source, path, workers or available_cores())
        store = Store(path)
    store.check(source)
    if isinstance(corpus, Npz):
        check_values(store, features)
    _describe(store, features, corpus.known_bad if isinstance(corpus, FMA) else ())
    return store


def source_of(corpus: Corpus, features: Features) -> Source:
    """What the store of a corpus and a kind of features is made from.

    Raises:
        InputError: features and corpus do not go together.
    """
    if isinstance(features, Precomputed) and not isinstance(corpus, Npz):
        raise InputError(
            f"data={corpus.name} with features={features.name}: features=precomputed goes with "
            "data=npz, which holds finished features, and with nothing else"
        )
    return Source(settings(features.stored), corpus.identity())


def check_values(store: Store, features: Features) -> None:
    """Refuse rows that a corpus brought along where they cannot be these features.

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


def _make(corpus: Corpus, features: Features, source: Source, path: Path, workers: int) -> None:
    tracks = corpus.tracks()
    if isinstance(corpus, Npz):
        first = next(corpus.rows())
        if not isinstance(features, Precomputed) and first.shape != features.shape:
            rows, wanted = (" x ".join(map(str, shape)) for shape in (first.shape, features.shape))
            raise InputError(f"rows of {rows} are no features={features.name}, which are {wanted}")
        with StoreWriter(path, source, tracks, first.shape, first.dtype) as writer:
            _write(writer, precomputed(corpus, writer.done))
            writer.finish(_npz_scaling(corpus))
    else:
        assert not isinstance(features, Precomputed)
        with StoreWriter(path, source, tracks, features.shape, np.dtype(np.float32)) as writer:
            _write(writer, extracted(tracks[writer.done :], features, workers))
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


def _npz_scaling(corpus: Npz) -> Scaling:
    scale, offset = corpus.scaling()
    silence = corpus.silence
    if silence is None:
        finite = (row for row in corpus.rows() if np.isfinite(row).all())
        silence = scale * min((float(row.min()) for row in finite), default=0.0) + offset
    return Scaling(scale, offset, (silence,))


def _describe(store: Store, features: Features, known_bad: Collection[str]) -> None:
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
        log.warning("%s", _rejections(store.rejected, known_bad))
        if lost := {track["genre"] for track in store.rejected} - set(store.classes):
            log.warning("no usable track is left of %s", ", ".join(sorted(lost)))


def _rejections(rejected: list[dict[str, str]], known_bad: Collection[str]) -> str:
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
