"""Both sides of the benchmark give the same numbers."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import agreement
import numpy as np
import predict_speed
import pytest
import reference
import sides
import torch
from encode import encode, make_music
from measure import Side, compute_ratio, measure_in_turn

from genreclf.audio import decode
from genreclf.audio.features import Mel
from genreclf.models.encoders.musicnn_tagger import load_tagger

BENCH = Path(__file__).parent / "bench"


def test_extraction_gives_what_librosa_gives(music: Path) -> None:
    """Tolerance: 0.05 dB."""
    path = sorted(music.glob("*/*.mp3"))[0]
    mel = Mel()
    features = mel(*decode.read_audio(path, mel.sample_rate, mel.duration))
    np.testing.assert_allclose(features, reference.mel_spectrogram(path), atol=0.05)


def test_extraction_of_real_clips_gives_what_librosa_gives(real_music: Path) -> None:
    mel = Mel()
    for path in sorted(real_music.glob("*/*.mp3"))[::45]:
        features = mel(*decode.read_audio(path, mel.sample_rate, mel.duration))
        np.testing.assert_allclose(features, reference.mel_spectrogram(path), atol=0.05)


def test_the_first_20_losses_agree() -> None:
    """With dropout: all draw the same random numbers in the same order."""
    losses = agreement.train_first_steps(bins=32, frames=64, clips=40)
    assert [len(set(each)) for each in losses.values()] == [20, 20, 20]
    assert abs(losses["genreclf"][0] - losses["plain"][0]) < 1e-6
    assert agreement.compute_difference(losses, "genreclf", "double") < 1e-4


def _prepare(number: float):
    return lambda: {"rate": number}


@pytest.mark.slow
def test_sides_are_measured_in_turn() -> None:
    one, two = Side("one", _prepare, (3.0,)), Side("two", _prepare, (6.0,))
    measure_in_turn([one, two], repetitions=3)
    assert one.figures == [{"rate": 3.0}] * 3
    assert compute_ratio(two, one) == {"median": 2.0, "least": 2.0, "greatest": 2.0}


@pytest.mark.slow
def test_the_benchmark_prints_a_table_and_writes_json(tmp_path: Path) -> None:
    done = subprocess.run(
        [
            *(sys.executable, BENCH, "startup", "--repetitions", "1"),
            *("--json", tmp_path / "bench.json"),
        ],
        check=True,
        capture_output=True,
        text=True,
    )
    assert "| genreclf --help |" in done.stdout
    lines = json.loads((tmp_path / "bench.json").read_text())["lines"]
    assert [line["target"] for line in lines] == ["1 s", "2 s"]


def test_an_unknown_case_is_one_line(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, BENCH, "sped"], check=False, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "no case sped; choose from startup, extraction" in done.stderr


@pytest.mark.parametrize("frames", [16, 24])
def test_both_sides_of_training_run(
    frames: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for prepare in (sides.reference_training, sides.training):
        assert prepare(16, frames)()["rate"] > 0
    for prepare in (sides.reference_inference, sides.inference):
        assert prepare(16, frames)()["rate"] > 0


@pytest.mark.slow
def test_the_gpu_benchmark_runs_at_a_small_size_without_one(tmp_path: Path) -> None:
    """It must not fail for the first time where a GPU's minutes are counted."""
    path = tmp_path / "bench.json"
    command = [sys.executable, BENCH / "gpu.py", "--json", path]
    if torch.cuda.is_available():
        command += ["--minutes", "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    figures = json.loads(path.read_text())
    assert figures["difference, float32, packed"] <= 1e-4
    assert figures["grid"]["runs"] >= 2
    ways = [name for name in figures if name.endswith(("plain steps", "CUDA graphs", "packed"))]
    assert all(figures[name]["ms per step"] > 0 for name in ways if "difference" not in name)
    assert "aten::" in figures["profile"]


@pytest.mark.slow
def test_the_benchmark_of_formats_encodes_and_compares(tmp_path: Path) -> None:
    """B1: lossless formats at any sample rate answer the same; the table says which do not."""
    for seed in range(2):
        encode(tmp_path / f"{seed}.mp3", make_music(5, seed=seed), "libmp3lame")
    path = tmp_path / "formats.json"
    command = [sys.executable, BENCH / "formats.py", tmp_path, "--formats", "FLAC", "--json", path]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "| FLAC at 96 kHz | 2 | 100 % |" in done.stdout
    lines = {line["format"]: line for line in json.loads(path.read_text())}
    for name in ("FLAC 24 bit", "FLAC at 192 kHz", "FLAC 5.1", "FLAC, 20 dB quieter"):
        assert lines[name]["largest change of a score"] < 0.02
    assert lines["FLAC at 8 kHz"]["largest change of a score"] > 0.02


@pytest.mark.slow
def test_models_are_compared_on_folders_of_genres(musicnn_weights: Path, real_music: Path) -> None:
    """`make bench-tags`, on a few clips of each genre."""
    command = [sys.executable, str(BENCH / "tags.py"), str(real_music), "--limit", "10"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    lines = done.stdout.splitlines()
    assert lines[0].startswith("40 clips, ")
    assert any(line.startswith("| tags, max | ") for line in lines)
    assert any(line.startswith("chosen by the other folds, among all genres: ") for line in lines)


def test_the_operations_of_musicnn_are_those_of_its_layers(musicnn_weights: Path) -> None:
    """Two vertical kinds of filters over all positions, three horizontal ones, three layers."""
    vertical = sum(204 * height * 7 * (96 - height + 1) for height in (67, 38))
    horizontal = 51 * (128 + 64 + 32) * 96
    middle = 7 * 64 * (561 + 64 + 64)
    expected = 2 * 10 * 187 * (vertical + horizontal + middle)
    clip = torch.rand(1, 96, 1870)
    assert predict_speed.count_operations(load_tagger().net, clip) == expected  # pyright: ignore
