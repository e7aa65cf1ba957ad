"""Which field of its header keeps a file from being decoded."""

import math
import struct
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from genreclf.audio.checks import DecodeError, check_format
from genreclf.audio.headers import ASF, CHUNKS, read_chunks

PCM = (1, 3)  # numbers of integers and floats in a WAV file; an extensible one repeats them
CAF_PCM = (b"lpcm",)
AU_BITS = {1: 8, 2: 8, 3: 16, 4: 24, 5: 32, 6: 32, 7: 64, 27: 8}  # by the number of the encoding
ASF_AUDIO = bytes.fromhex("409e69f84d5bcf11a8fd00805f5c442b")  # the type of a stream
MOST_BITS = 64
MOST_SAMPLES = 1000  # for each byte of the file
HEAD = 1 << 12  # bytes


class Fields(NamedTuple):
    """What a header says.

    Attributes:
        rate: sample rate in Hz.
        channels: number of channels.
        bits: number of bits of a sample; None if the codec has none.
        samples: length in samples; None if it does not matter.
    """

    rate: float
    channels: int
    bits: int | None = None
    samples: int | None = None


def check_fields(file: BinaryIO, size: int) -> None:
    """Raise DecodeError if a field of the header has a value that no audio has."""
    for fields in _read_fields(file, size):
        if not math.isfinite(fields.rate):
            raise DecodeError("does not decode: the sample rate in its header is no number")
        check_format(round(fields.rate), fields.channels)
        if fields.bits is not None and not 1 <= fields.bits <= MOST_BITS:
            raise DecodeError(
                f"does not decode: its header says {fields.bits} bits per sample; 1 to {MOST_BITS} "
                "can be read"
            )
        if fields.samples is not None and not 0 < fields.samples < MOST_SAMPLES * size:
            raise DecodeError(f"does not decode: its header says {fields.samples} samples")


def _read_fields(file: BinaryIO, size: int) -> Iterator[Fields]:
    """Yield the fields of the format that the file begins with, if they are there."""
    file.seek(0)
    head = file.read(HEAD)
    magic = head[:4]
    try:
        if magic in (b"RIFF", b"RIFX", b"RF64", b"FORM"):
            yield from _read_chunk_fields(file, size, magic)
        elif magic == b"riff" and (at := head.find(b"fmt \xf3\xac\xd3\x11")) > 0:  # Wave64
            yield _read_wave_format(head[at + 24 :], "<")
        elif magic == b".snd":
            encoding, rate, channels = struct.unpack_from(">III", head, 12)
            yield Fields(rate, channels, AU_BITS.get(encoding))
        elif magic == b"caff" and head[8:12] == b"desc":
            rate, codec, _, _, _, channels, bits = struct.unpack_from(">d4sIIIII", head, 20)
            yield Fields(rate, channels, bits if codec in CAF_PCM else None)
        elif magic == b"fLaC":
            packed = int.from_bytes(head[18:26])
            yield Fields(packed >> 44, (packed >> 41 & 7) + 1, (packed >> 36 & 31) + 1)
        elif magic == b"TTA1":
            channels, bits, rate, samples = struct.unpack_from("<HHII", head, 6)
            yield Fields(rate, channels, bits, samples)
        elif head[:16] == ASF and (at := head.find(ASF_AUDIO)) > 0:
            yield _read_wave_format(head[at + 54 :], "<")
        elif magic == b"OggS":
            yield from _read_ogg_fields(head)
    except struct.error:  # the file ends before
        return


def _read_chunk_fields(file: BinaryIO, size: int, magic: bytes) -> Iterator[Fields]:
    sizes, _ = CHUNKS.get(magic, ("<I", b""))
    for kind, at, _ in read_chunks(file, size, sizes):
        file.seek(at)
        if kind == b"fmt ":
            yield _read_wave_format(file.read(40), sizes[0])
            return
        if kind == b"COMM":
            channels, _, bits, exponent, mantissa = struct.unpack(">HIHHQ", file.read(18))
            power = (exponent & 0x7FFF) - 16383 - 63
            yield Fields(mantissa * 2.0**power if power < 900 else math.inf, channels, bits)
            return


def _read_wave_format(data: bytes, order: str) -> Fields:
    codec, channels, rate, _, _, bits = struct.unpack_from(order + "HHIIHH", data)
    if codec == 0xFFFE and len(data) >= 26:
        (codec,) = struct.unpack_from(order + "H", data, 24)
    return Fields(rate, channels, bits if codec in PCM else None)


def _read_ogg_fields(head: bytes) -> Iterator[Fields]:
    packet = head[27 + head[26] :] if len(head) > 27 else b""
    if packet[:7] == b"\1vorbis":
        channels, rate = struct.unpack_from("<BI", packet, 11)
        yield Fields(rate, channels)
    elif packet[:8] == b"OpusHead":
        yield Fields(48_000, packet[9])
