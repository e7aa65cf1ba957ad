import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest

from genreclf.__main__ import COMMANDS
from genreclf.commands import hydra_app
from genreclf.data.datasets import Synthetic, Track
from genreclf.data.store import Scaling, Source, Store
from genreclf.data.store_writer import StoreWriter
from genreclf.files import locate_cache
from genreclf.models.encoders.musicnn_weights import COMMAND, locate_weights

CACHE = locate_cache()  # the user's, with the weights that `make` downloads
SHARED = Path(__file__).parents[2] / "shared" / "data"
# A spectrum of one frame, which needs neither a download nor PyTorch.
EMBEDDING = [
    *("features=mel", "features.n_mels=40", "features.n_fft=32768", "features.hop_length=60000"),
    "data.duration=2.5",
]
# Small enough for many runs: 2.5 s clips, 32 x 54 features.
TINY = [
    "features.n_mels=32",
    "features.n_fft=1024",
    "features.hop_length=1024",
    "report=false",
]  # the page has tests of its own


def heed_ctrl_c() -> None:
    """Run in a new process: one begun from a script's background would ignore Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.fixture(scope="session", autouse=True)
def empty_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A home directory without logins or settings; W&B stays offline."""
    with pytest.MonkeyPatch.context() as patch:
        for name in os.environ:
            if name.startswith(("WANDB_", "XDG_")):
                patch.delenv(name)
        patch.setenv("MPLCONFIGDIR", mpl.get_cachedir())  # a new list of fonts takes seconds
        patch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
        patch.setenv("WANDB_MODE", "offline")
        patch.setenv("GENRECLF_CACHE", str(CACHE))
        yield


@pytest.fixture(scope="session")
def music(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 4 genres x 4 artists x 3 tagged MP3 clips of 2.5 s."""
    dataset = Synthetic(tmp_path_factory.mktemp("music"), duration=2.5, artists=4, clips=3)
    dataset.files()
    return dataset.root


def find_shared(path: str, content: str) -> Path:
    """Real data next to the checkout; skips the test where there is none."""
    if not (SHARED / path).exists():
        pytest.skip(f"optional real data: put {content} at ../shared/data/{path}")
    return SHARED / path


@pytest.fixture(scope="session")
def real_music() -> Path:
    """Real music, a folder per genre."""
    return find_shared("emotify", "the MP3 clips of the Emotify dataset, in a folder per genre,")


@pytest.fixture(scope="session")
def fma_clip() -> Path:
    """Track 2 of FMA Small: "Food" by AWOL."""
    return find_shared("fma_clip/000002.mp3", "fma_small/000/000002.mp3 of fma_small.zip")


@pytest.fixture(scope="session")
def fma_rows() -> Path:
    """FMA Small as coarse mel spectrograms: see `MelFrames`."""
    path = "fma_small_mel128/train_validation.npz"
    return find_shared(path, "features=mel_frames of FMA Small's training and validation tracks")


@pytest.fixture
def musicnn_weights() -> Path:
    """The published weights of musicnn; skips the test where they have not been downloaded."""
    if not locate_weights().exists():
        pytest.skip(f"no weights of musicnn: type {COMMAND}")
    return locate_weights()


NO_EPOCHS = ("model=svm", "model=linear", "phase=statistics_folds")


@pytest.fixture
def command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., str]:
    """Runs a command in this process, below tmp_path; returns its last line of output."""
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")

    def run(name: str, *arguments: str) -> str:
        place = [] if any(a.startswith("outputs=") for a in arguments) else [f"outputs={tmp_path}"]
        config = COMMANDS[name].config
        assert config, f"{name} takes no overrides"
        hydra_app.run(name, config, [*arguments, *place])
        lines = capsys.readouterr().out.splitlines()
        return lines[-1] if lines else ""

    return run


@pytest.fixture
def train(
    command: Callable[..., str], music: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., dict[str, Any]]:
    """Trains on the small folder; returns what result.json says, and its folder.

    Tests that change neither data nor features share a store, to save time.
    """
    shared = tmp_path_factory.getbasetemp() / "shared.h5"

    def run(*arguments: str) -> dict[str, Any]:
        data = ["data=folder", f"data.root={music}", "data.duration=2.5", "report=false"]
        if not any(a.startswith("features=") for a in arguments):
            data += TINY
        if not any(a.startswith(("trainer.max_epochs", *NO_EPOCHS)) for a in arguments):
            data.append("trainer.max_epochs=1")
        if not any(a.startswith(("data", "features", "experiment=best")) for a in arguments):
            data.append(f"store={shared}")
        path = Path(command("train", *data, *arguments))
        return {**json.loads(path.read_text()), "folder": path.parent}

    return run


@pytest.fixture
def make_store(tmp_path: Path) -> Callable[..., Store]:
    """Writes a store of given tracks and rows."""

    def make(tracks: list[Track], rows: np.ndarray, scaling: Scaling | None = None) -> Store:
        path = tmp_path / f"made{len(list(tmp_path.glob('made*.h5')))}.h5"
        source = Source("test", {"name": "test"}, {"class": "test"}, "audio", "table")
        with StoreWriter(path, source, tracks, rows.shape[1:], rows.dtype) as writer:
            for row in rows:
                writer.accept(row, 30.0)
            writer.finish(scaling or Scaling())
        return Store(path)

    return make


@pytest.fixture
def random_rows() -> Callable[..., np.ndarray]:
    """Distinct rows (n, 8, 16) of noise."""
    return lambda count: np.random.default_rng(0).normal(size=(count, 8, 16)).astype(np.float32)
