"""WAV files whose chunks decoders do not follow."""

import struct
from pathlib import Path

import numpy as np
import pytest
from encode import RATE, make_music

from genreclf.audio import decode
from genreclf.audio.joined import find_sections
from genreclf.audio.sections import Section

FIELDS = {"<": struct.pack("<HHIIHH", 1, 2, RATE, 4 * RATE, 4, 16)}
FIELDS[">"] = struct.pack(">HHIIHH", 1, 2, RATE, 4 * RATE, 4, 16)
MAGIC = {"<": b"RIFF", ">": b"RIFX"}


def make_chunk(kind: bytes, content: bytes, order: str = "<") -> bytes:
    return kind + struct.pack(f"{order}I", len(content)) + content


def write(path: Path, *chunks: bytes, order: str = "<") -> Path:
    body = b"".join([b"WAVE", make_chunk(b"fmt ", FIELDS[order], order), *chunks])
    path.write_bytes(MAGIC[order] + struct.pack(f"{order}I", len(body)) + body)
    return path


def read(path: Path) -> tuple[np.ndarray, list[str]]:
    notes: list[str] = []
    return decode.read_audio(path, None, 60, notes)[0], notes


@pytest.fixture
def samples() -> np.ndarray:
    return (make_music(6) * 32767).astype("<i2")


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("between", [b"", make_chunk(b"LIST", b"INFO")])
def test_several_chunks_of_audio_are_one(
    tmp_path: Path, samples: np.ndarray, order: str, between: bytes
) -> None:
    ordered = samples.astype(f"{order}i2")
    between = b"" if order == ">" else between
    halves = (make_chunk(b"data", half.tobytes(), order) for half in np.split(ordered, 3))
    path = write(
        tmp_path / "a.wav", *(part for half in halves for part in (half, between)), order=order
    )
    waveform, notes = read(path)
    assert notes == []
    np.testing.assert_allclose(waveform, samples.mean(axis=1) / 32768, atol=1e-6)


def test_a_chunk_of_odd_length_may_lack_its_pad_byte(tmp_path: Path, samples: np.ndarray) -> None:
    """Most players read such files, libsndfile and FFmpeg do not."""
    data = make_chunk(b"data", samples.tobytes())
    for text in (b"INFOabcde", b"INFOabcde\0"):
        path = write(tmp_path / "a.wav", make_chunk(b"LIST", text)[: 8 + len(text)], data)
        waveform, notes = read(path)
        assert notes == []
        np.testing.assert_allclose(waveform, samples.mean(axis=1) / 32768, atol=1e-6)


def test_ordinary_files_are_read_as_they_are(tmp_path: Path, samples: np.ndarray) -> None:
    data, text = make_chunk(b"data", samples.tobytes()), make_chunk(b"LIST", b"INFOabcde") + b"\0"
    for chunks in ((data,), (text, data), (data, text)):
        path = write(tmp_path / "a.wav", *chunks)
        assert find_sections(path) == [Section(path)]


def test_a_second_chunk_that_is_cut_is_mentioned(tmp_path: Path, samples: np.ndarray) -> None:
    halves = (make_chunk(b"data", half.tobytes()) for half in np.split(samples, 2))
    path = write(tmp_path / "a.wav", *halves)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 3 // 4])
    waveform, notes = read(path)
    assert len(waveform) >= 3 * RATE
    assert len(notes) == 1
