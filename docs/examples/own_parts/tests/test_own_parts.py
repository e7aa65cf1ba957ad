"""The parts of this package in use: trained, swept, evaluated, exported, used for prediction.

The tests need genreclf and this package installed: `pip install genreclf . pytest`.
"""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

import genreclf
from genreclf.errors import InputError

PARTS = [
    *("data=playlists", "features=octave_levels", "model=time_cnn", "loss=poly1"),
    *("split=every_fifth", "augmentation=none"),
]
QUICK = ["trainer.max_epochs=2", "data.duration=2.0", "batch_size=4"]


@pytest.fixture(scope="module")
def music(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two playlists of ten clips: low and high tones in noise."""
    folder, random = tmp_path_factory.mktemp("music"), np.random.default_rng(0)
    time = np.arange(3 * 22050) / 22050
    for genre, frequency in (("bass", 90), ("treble", 3000)):
        names = [f"{genre}{number}.wav" for number in range(10)]
        for name in names:
            pitch = frequency * random.uniform(0.9, 1.1)
            noise = random.normal(0, 0.01, len(time))
            soundfile.write(folder / name, 0.3 * np.sin(2 * np.pi * pitch * time) + noise, 22050)
        (folder / f"{genre}.m3u").write_text("\n".join(names))
    return folder


def run(folder: Path, command: str, *arguments: str, check: bool = True) -> str:
    """Run a command of genreclf in a folder; return its last line, of errors if it failed."""
    done = subprocess.run(
        [sys.executable, "-m", "genreclf", command, *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
    )
    if check:
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()[-1]
    assert done.returncode != 0
    return done.stderr.splitlines()[-1]


def test_the_parts_are_trained_evaluated_exported_and_predict(music: Path, tmp_path: Path) -> None:
    data = [f"data.root={music}"]
    path = tmp_path / run(tmp_path, "train", *PARTS, *QUICK, *data, "test=false")
    result = json.loads(path.read_text())
    assert result["data"]["shape"] == [7, 20]
    assert result["choices"]["loss"] == "poly1"
    assert {part: sum(found.values()) for part, found in result["data"]["split"].items()} == {
        "train": 12,
        "val": 4,
        "test": 4,
    }
    checkpoint = f"checkpoint={path.parent}"
    tested = run(tmp_path, "evaluate", checkpoint, "data=playlists", *data, "trust=[own_parts]")
    assert json.loads((tmp_path / tested).read_text())["n"] == 20
    exported = tmp_path / run(tmp_path, "export", checkpoint)
    song = str(music / "bass0.wav")
    trusting = ["--checkpoint", str(exported), "--trust", "own_parts"]
    assert song in run(tmp_path, "predict", song, *trusting)
    model = genreclf.load(exported, trust=["own_parts"])
    assert set(model.predict(song).scores) == {"bass", "treble"}
    assert model.embed(song).shape == (32,)


def test_without_trust_nothing_is_imported(music: Path, tmp_path: Path) -> None:
    path = tmp_path / run(tmp_path, "train", *PARTS, *QUICK, f"data.root={music}")
    with pytest.raises(InputError, match=r"own_parts\.\w+\.\w+ (is|are) not part of genreclf"):
        genreclf.load(path.parent)
    line = run(tmp_path, "predict", str(music), "--checkpoint", str(path.parent), check=False)
    assert "not part of genreclf" in line


def test_a_sweep_varies_their_settings(music: Path, tmp_path: Path) -> None:
    run(
        tmp_path,
        *("train", "-m", *PARTS, *QUICK, f"data.root={music}", "report=false"),
        *("model.channels=8,16", "split.first=0,1"),
    )
    results = [json.loads(path.read_text()) for path in tmp_path.rglob("result.json")]
    found = {(r["config"]["model"]["channels"], r["config"]["split"]["first"]) for r in results}
    assert found == {(8, 0), (8, 1), (16, 0), (16, 1)}


def test_they_are_listed(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "genreclf", "train", "--help"], capture_output=True, text=True
    )
    for option in ("playlists", "octave_levels", "time_cnn", "poly1", "every_fifth"):
        assert option in done.stdout
