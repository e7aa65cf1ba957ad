"""Which field of its header keeps a file from being decoded, or contradicts the others."""

import math
import struct
from collections import Counter
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from genreclf.audio.checks import MAX_CHANNELS, DecodeError, check_format
from genreclf.audio.headers import ASF, CHUNKS, UNKNOWN_SIZES, read_chunks

PCM = (1, 3)  # numbers of integers and floats in a WAV file; an extensible one repeats them
CAF_PCM = (b"lpcm",)
AIFF_PCM = (b"NONE", b"sowt", b"twos", b"in24", b"in32", b"fl32", b"FL32", b"fl64", b"FL64")
RATES = (8000, 11025, 16000, 22050, 24000, 32000, 44100, 48000, 88200, 96000, 176400, 192000)  # Hz
AU_BITS = {1: 8, 2: 8, 3: 16, 4: 24, 5: 32, 6: 32, 7: 64, 27: 8}  # by the number of the encoding
ASF_AUDIO = bytes.fromhex("409e69f84d5bcf11a8fd00805f5c442b")  # the type of a stream
MOST_BITS = 64
MOST_ALIGN = MAX_CHANNELS * MOST_BITS // 8  # bytes
MOST_SAMPLES = 1000  # for each byte of the file
HEAD = 1 << 12  # bytes


class Fields(NamedTuple):
    """What a header says.

    Attributes:
        rate: sample rate in Hz.
        channels: number of channels.
        bits: number of bits of a sample; None if the codec has none.
        samples: length in samples; None if it does not matter.
        align: bytes of a sample of all channels; None if the header does not say.
        speed: bytes per second; None if the header does not say.
    """

    rate: float
    channels: int
    bits: int | None = None
    samples: int | None = None
    align: int | None = None
    speed: int | None = None


def check_fields(file: BinaryIO, size: int) -> None:
    """Raise DecodeError if a field of the header has a value that no audio has."""
    for fields in _read_fields(file, size):
        _check_values(fields, size)


def _check_values(fields: Fields, size: int) -> None:
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


def check_layout(file: BinaryIO, size: int) -> str | None:
    """Check that fields of the header that follow from each other agree.

    Samples that take another number of bytes than assumed are noise, at another speed.

    Returns:
        A note if only the sample rate is in doubt.

    Raises:
        DecodeError: the number of bytes of a sample is in doubt: no two of three fields agree on
            it, or two that decoders ignore.
    """
    file.seek(0)
    if file.read(4) not in (*CHUNKS, b"RF64", b"riff"):
        return None
    for fields in _read_fields(file, size):
        rate, channels, bits, _, align, speed = fields
        if bits is None or not align:
            continue
        _check_values(fields, size)
        rate = round(rate)
        width = -(-bits // 8)
        used = align if width == 3 and align == 4 * channels else width * channels
        stated = [width * channels, align]
        if speed:
            stated.append(speed // rate if speed % rate == 0 else -1)
        agreed, votes = Counter(stated).most_common(1)[0]
        if agreed != used or votes < 2:
            more = "" if speed is None else f", {speed} bytes per second at {rate} Hz"
            raise DecodeError(
                f"does not decode: its header contradicts itself: channels {channels}, bits "
                f"per sample {bits}, but {align} bytes per sample of all channels{more}"
            )
        if speed and align == used and speed % align == 0 and rate != speed // align in RATES:
            return (
                f"its header contradicts itself: {rate} Hz, but as many bytes per second as at "
                f"{speed // align} Hz; it is read at {rate} Hz"
            )
    return None


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
            rate, codec, _, align, _, channels, bits = struct.unpack_from(">d4sIIIII", head, 20)
            is_pcm = codec in CAF_PCM
            yield Fields(rate, channels, bits if is_pcm else None, None, align if is_pcm else None)
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
    for kind, at, size_of_chunk in read_chunks(file, size, sizes):
        file.seek(at)
        if kind == b"fmt ":
            yield _read_wave_format(file.read(40), sizes[0])
            return
        if kind == b"COMM":
            channels, frames, bits, exponent, mantissa = struct.unpack(">HIHHQ", file.read(18))
            power = (exponent & 0x7FFF) - 16383 - 63
            rate = mantissa * 2.0**power if power < 900 else math.inf
            codec = file.read(4) if size_of_chunk >= 22 else b"NONE"
            align = _read_aiff_align(file, size, frames) if codec in AIFF_PCM else None
            yield Fields(rate, channels, bits, None, align)
            return


def _read_aiff_align(file: BinaryIO, size: int, frames: int) -> int | None:
    """Divide the bytes of the audio of an AIFF file by the number of its frames."""
    for kind, _, length in read_chunks(file, size, ">I"):
        if kind == b"SSND" and frames and length not in UNKNOWN_SIZES:
            align, rest = divmod(length - 8, frames)
            return align if not rest and 0 < align <= MOST_ALIGN else None
    return None


def _read_wave_format(data: bytes, order: str) -> Fields:
    codec, channels, rate, speed, align, bits = struct.unpack_from(order + "HHIIHH", data)
    if codec == 0xFFFE and len(data) >= 26:
        (codec,) = struct.unpack_from(order + "H", data, 24)
    if codec not in PCM:
        return Fields(rate, channels)
    return Fields(rate, channels, bits, None, align, speed)


def _read_ogg_fields(head: bytes) -> Iterator[Fields]:
    packet = head[27 + head[26] :] if len(head) > 27 else b""
    if packet[:7] == b"\1vorbis":
        channels, rate = struct.unpack_from("<BI", packet, 11)
        yield Fields(rate, channels)
    elif packet[:8] == b"OpusHead":
        yield Fields(48_000, packet[9])
