"""The sides of each comparison: what is prepared, and what is then repeated and timed.

Each function runs in a process of its own and returns what does the work once; that gives "rate" in
clips/s, and further figures. Heavy imports are inside, for one side is not to pay for the other's.
"""

import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from measure import Repeat


def _rate(clips: int, work: Callable[[], Any]) -> dict[str, float]:
    started = time.perf_counter()
    work()
    return {"rate": clips / (time.perf_counter() - started)}


def librosa_extraction(paths: list[Path], stored: bool) -> Repeat:
    """MP3 to mel, one file after the other; kept in memory, or stored as well."""
    import reference

    archive = Path(tempfile.mkdtemp()) / "features.npz" if stored else None
    return lambda: _rate(len(paths), lambda: reference.extract(paths, archive))


def extraction(folder: Path, clips: int, workers: int) -> Repeat:
    """MP3 to the HDF5 store, by `genreclf prepare`'s function."""
    from genreclf.audio.features import Mel
    from genreclf.data.build_store import build_store
    from genreclf.data.datasets import Folder

    place = Path(tempfile.mkdtemp())

    def work() -> None:
        shutil.rmtree(place, ignore_errors=True)
        store = build_store(Folder(folder), Mel(), outputs=place, workers=workers)
        assert len(store) == clips

    return lambda: _rate(clips, work)


def decoding(paths: list[Path]) -> Repeat:
    """Nothing but decoding."""
    import soundfile

    def work() -> None:
        for path in paths:
            soundfile.read(path, dtype="float32")

    return lambda: _rate(len(paths), work)


def rows(clips: int, frames: int) -> tuple[np.ndarray, np.ndarray]:
    """Random features float32 (clips, 128, frames) in dB, and labels int64 (clips,)."""
    generator = np.random.default_rng(0)
    features = generator.standard_normal((clips, 128, frames), dtype=np.float32)
    return np.clip(features * 15 - 40, -80, 0), np.arange(clips) % 8


def reference_training(clips: int, frames: int) -> Repeat:
    """One epoch of the plain loop."""
    import reference
    import torch

    features, labels = map(torch.from_numpy, rows(clips, frames))
    torch.manual_seed(0)
    net = reference.Net()
    optimizer = torch.optim.AdamW(net.parameters())

    def work() -> list[float]:
        order = torch.randperm(clips).tolist()
        return reference.train(net, optimizer, features, labels, order)

    return lambda: _rate(clips, work)


def reference_inference(clips: int, frames: int) -> Repeat:
    """All tracks through the plain net."""
    import reference
    import torch

    features = torch.from_numpy(rows(clips, frames)[0])
    net = reference.Net()
    return lambda: _rate(clips, lambda: reference.predict(net, features))


def _store(clips: int, frames: int) -> Any:
    """An HDF5 store of such rows."""
    from genreclf.audio.features import Precomputed
    from genreclf.data.build_store import build_store
    from genreclf.data.datasets import Npz

    place = Path(tempfile.mkdtemp())
    features, labels = rows(clips, frames)
    np.savez(place / "rows.npz", features=features, labels=labels, track_ids=np.arange(clips))
    return build_store(Npz(place / "rows.npz"), Precomputed(), outputs=place)


def training(clips: int, frames: int, cache: str = "none", cold: bool = False) -> Repeat:
    """One epoch of Lightning over a store; "waiting" is the share of it spent on getting batches.

    Where it is cold, each row comes from the disk: so it is with a store that memory does not hold.
    """
    from genreclf.audio import cores

    cores.keep_memory()
    import pytorch_lightning as pl
    import torch
    from pytorch_lightning.profilers import SimpleProfiler

    from genreclf.data.datamodule import StoreDataModule
    from genreclf.models import CNNRNN
    from genreclf.models.fused import fuse
    from genreclf.training.classifier import Classifier

    store = _store(clips, frames)
    part = np.arange(clips)
    data = StoreDataModule(store, {"train": part, "val": part[:16]}, cached=cache)
    classifier = Classifier(fuse(CNNRNN(8)), store.classes, torch.optim.AdamW)

    def work() -> dict[str, float]:
        if cold:
            _forget(store.path)
        profiler = SimpleProfiler()
        profiler.describe = lambda: None  # type: ignore[method-assign]
        trainer = pl.Trainer(profiler=profiler, max_epochs=1, limit_val_batches=0, **QUIET)
        trainer.fit(classifier, data)
        spent = {name: sum(each) for name, each in profiler.recorded_durations.items()}
        epoch = spent["run_training_epoch"]
        waiting = spent["[_TrainingEpochLoop].train_dataloader_next"]
        return {"rate": clips / epoch, "waiting": waiting / epoch}

    return work


QUIET: dict[str, Any] = {
    "accelerator": "cpu",
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}


def _forget(path: Path) -> None:
    """Have the kernel drop what it keeps of a file."""
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(descriptor)


def inference(clips: int, frames: int) -> Repeat:
    """All tracks of a store through the net, as `genreclf evaluate` does it."""
    from genreclf.audio import cores

    cores.keep_memory()
    import pytorch_lightning as pl

    from genreclf.audio.features import Precomputed
    from genreclf.data.datamodule import StoreDataModule
    from genreclf.models import CNNRNN
    from genreclf.models.checkpoint import TrainedModel
    from genreclf.training.prediction import predict_part

    store = _store(clips, frames)
    data = StoreDataModule(store, {"val": np.arange(clips)})
    trained = TrainedModel(CNNRNN(8).eval(), store.classes, Precomputed(), 128, None)
    trainer = pl.Trainer(**QUIET)
    return lambda: _rate(clips, lambda: predict_part(trainer, trained, data, "val"))
