"""The net that comes with genreclf."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
import torch
from encode import RATE, encode, make_music

import genreclf
from genreclf.audio import decode
from genreclf.commands import predict
from genreclf.errors import InputError
from genreclf.models import count_parameters
from genreclf.models.checkpoint import load_checkpoint
from genreclf.models.model_files import PRETRAINED

GENRES = [
    *("Electronic", "Experimental", "Folk", "Hip-Hop"),
    *("Instrumental", "International", "Pop", "Rock"),
]


def test_it_is_small_knows_its_features_and_has_a_card() -> None:
    trained = load_checkpoint("pretrained")
    assert trained.classes == GENRES
    assert trained.features.name == "mel_frames"
    assert trained.features.sample_rate == 44100
    assert count_parameters(trained.net) <= 1_000_000
    assert sum(file.stat().st_size for file in PRETRAINED.iterdir()) < 4.1e6
    card = (PRETRAINED / "README.md").read_text()
    for said in (
        *GENRES,
        "Creative Commons",
        "expected calibration error",
        "Limits",
        "experiment",
        "52.4 %",  # on the official test part, measured elsewhere
        "## Unknown",
    ):
        assert said in card
    with pytest.raises(InputError, match="the path is empty"):
        load_checkpoint("")


def test_predict_takes_it_unless_told_otherwise(
    fma_clip: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert predict.main([str(fma_clip), "--checkpoint", "fma8", "--format", "json"]) == 0
    line = json.loads(capfd.readouterr().out)
    assert line["genre"] == "Hip-Hop"
    assert list(line["scores"]) != GENRES
    assert sorted(line["scores"]) == GENRES


def test_a_clip_and_its_row_give_the_same_scores(fma_clip: Path, fma_rows: Path) -> None:
    with np.load(fma_rows) as rows:
        place = int(np.flatnonzero(rows["track_ids"] == 2)[0])
        row = rows["features"][place].astype(np.float32) * 80 / 255 - 80
    trained = load_checkpoint("pretrained")
    with torch.no_grad():
        scores = trained.net(trained.normalise(torch.from_numpy(row)[None])).softmax(dim=1)[0]
    prediction = genreclf.load("fma8", "cpu").predict(fma_clip)
    of_clip = [prediction.scores[genre] for genre in trained.classes]
    np.testing.assert_allclose(of_clip, scores.numpy(), atol=0.01)


VERSIONS = {  # of one song: sample rate, channels, gain, codec, sample format
    "24 bit": (RATE, 2, 1.0, "flac", "s32"),
    "48 kHz": (48_000, 2, 1.0, "flac", "s16"),
    "96 kHz": (96_000, 2, 1.0, "flac", "s32"),
    "192 kHz": (192_000, 2, 1.0, "flac", "s32"),
    "mono": (RATE, 1, 1.0, "flac", "s16"),
    "5.1": (RATE, 6, 1.0, "flac", "s16"),
    "20 dB quieter": (RATE, 2, 0.1, "flac", "s32"),
    "ALAC at 48 kHz": (48_000, 2, 1.0, "alac", "s32p"),
    "WavPack at 96 kHz": (96_000, 2, 1.0, "wavpack", "fltp"),
}


@pytest.fixture(scope="module")
def song(tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    """A song of 8 s, float32 (samples,), without the top octave's edge, as music is."""
    path = tmp_path_factory.mktemp("song") / "song.mp3"
    encode(path, make_music(8, 1), "libmp3lame")  # its low-pass filter is at 16 kHz
    return soundfile.read(path, dtype="float32")[0]


@pytest.mark.parametrize("version", VERSIONS)
def test_one_song_gets_one_answer_b1(tmp_path: Path, song: np.ndarray, version: str) -> None:
    """B1: neither sample rate, bits, channels nor loudness change a score by .02."""
    rate, channels, gain, codec, kind = VERSIONS[version]
    model = genreclf.load("fma8", "cpu")
    expected = model.predict((song, RATE)).scores
    samples = np.repeat(gain * soxr.resample(song, RATE, rate, "VHQ")[:, None], channels, axis=1)
    suffix = {"flac": "flac", "alac": "m4a", "wavpack": "wv"}[codec]
    path = encode(tmp_path / f"song.{suffix}", samples, codec, rate, format=kind)
    scores = model.predict(path).scores
    assert max(abs(scores[genre] - expected[genre]) for genre in expected) < 0.02
    assert next(iter(scores)) == next(iter(expected))


def test_real_songs_get_one_answer_b1(real_music: Path, tmp_path: Path) -> None:
    """B1: the same with real music."""
    model = genreclf.load("fma8", "cpu")
    for clip in sorted(real_music.glob("*/*.mp3"))[::90]:
        waveform, rate = decode.read_audio(clip, None, 30)
        expected = model.predict((waveform, rate)).scores
        for other in (48_000, 96_000):
            resampled = soxr.resample(waveform, rate, other, "VHQ")
            scores = model.predict((0.1 * resampled, other)).scores
            assert max(abs(scores[genre] - expected[genre]) for genre in expected) < 0.02


def test_it_is_evaluated_by_its_name(
    command: Callable[..., str], fma_rows: Path, tmp_path: Path
) -> None:
    with np.load(fma_rows) as rows:
        chosen = np.flatnonzero(np.char.startswith(rows["split"], "val"))[::8]
        arrays = {name: rows[name][chosen] for name in ("features", "labels", "track_ids")}
    np.savez(tmp_path / "rows.npz", **arrays, scale=80 / 255, offset=-80.0)
    data = ["data=npz", f"data.path={tmp_path}/rows.npz", "split=all"]
    evaluation = json.loads(Path(command("evaluate", "checkpoint=pretrained", *data)).read_text())
    assert evaluation["n"] == 100
    assert evaluation["trained_on"] == 0
    assert evaluation["accuracy"] > 0.5
