"""Whether a stream of frames, such as an MP3 file, ends within a frame: then it was cut.

Such files have no header that says how long they are, but each frame says how many bytes it has.
"""

import re
from collections.abc import Callable
from typing import BinaryIO

from genreclf.audio.headers import SEARCHED, TAIL, skip_id3

HEAD = 8  # bytes of a frame that tell its size
CHAIN = 3  # frames, each of which begins where the last one ends: that is no coincidence
SURE = 4  # the same, anywhere in other data
FEWEST = 24  # bytes of an MPEG frame
SYNC = 1 << 15  # bytes at the beginning of the file in which the first frame begins
LAYER_1 = tuple(range(32, 449, 32))
LAYER_2 = (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384)
LAYER_3 = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
LOW_1 = (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256)
LOW = (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
MPEG_RATES = (44100, 48000, 32000)  # Hz
AC3 = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512, 576, 640)


def measure_mpeg(head: bytes) -> int:
    """Return the bytes of an MPEG audio frame (MP1, MP2, MP3); 0 if this is none."""
    version, layer = head[1] >> 3 & 3, 4 - (head[1] >> 1 & 3)
    bits, rate = head[2] >> 4, head[2] >> 2 & 3
    if head[0] != 0xFF or head[1] < 0xE0 or version == 1 or layer == 4 or rate == 3:
        return 0
    if not 1 <= bits <= 14:  # 0: of a rate that the frame does not say
        return 0
    high = version == 3
    tables = (LAYER_1, LAYER_2, LAYER_3) if high else (LOW_1, LOW, LOW)
    kbits, padding = tables[layer - 1][bits - 1], head[2] >> 1 & 1
    hertz = MPEG_RATES[rate] // {3: 1, 2: 2, 0: 4}[version]
    if layer == 1:
        return 4 * (12_000 * kbits // hertz + padding)
    return (144_000 if high or layer == 2 else 72_000) * kbits // hertz + padding


def measure_adts(head: bytes) -> int:
    """Return the bytes of a frame of raw AAC; 0 if this is none."""
    if head[0] != 0xFF or head[1] & 0xF6 != 0xF0:
        return 0
    return (head[3] & 3) << 11 | head[4] << 3 | head[5] >> 5


def measure_loas(head: bytes) -> int:
    """Return the bytes of a frame of AAC in LOAS, as in broadcasts; 0 if this is none."""
    if head[0] != 0x56 or head[1] & 0xE0 != 0xE0:
        return 0
    return ((head[1] & 0x1F) << 8 | head[2]) + 3


def measure_ac3(head: bytes) -> int:
    """Return the bytes of a frame of AC-3 or E-AC-3; 0 if this is none."""
    rate, size = head[4] >> 6, head[4] & 63
    if head[:2] != b"\x0b\x77":
        return 0
    if head[5] >> 3 > 10:
        return 2 * (((head[2] & 7) << 8 | head[3]) + 1)
    if rate == 3 or size // 2 >= len(AC3):
        return 0
    kbits = AC3[size // 2]
    return 2 * (2 * kbits, kbits * 320 // 147 + size % 2, 3 * kbits)[rate]


def measure_dts(head: bytes) -> int:
    """Return the bytes of a frame of DTS; 0 if this is none."""
    return (int.from_bytes(head[4:8]) >> 4 & 0x3FFF) + 1 if head[:4] == b"\x7f\xfe\x80\1" else 0


def measure_sbc(head: bytes) -> int:
    """Return the bytes of a frame of SBC, as sent by Bluetooth; 0 if this is none."""
    if head[0] != 0x9C:
        return 0
    blocks, mode, bands = 4 * ((head[1] >> 4 & 3) + 1), head[1] >> 2 & 3, 4 + 4 * (head[1] & 1)
    channels, is_joint = (1 if mode == 0 else 2), mode == 3
    streams = 2 if mode == 1 else 1  # of bits
    bits = blocks * streams * head[2] + bands * is_joint
    return 4 + bands * channels // 2 + -(-bits // 8)


def measure_mlp(head: bytes) -> int:
    """Return the bytes of a frame of MLP or Dolby TrueHD."""
    return 2 * ((head[0] & 0xF) << 8 | head[1])


CODECS = {
    **dict.fromkeys(("mp1", "mp2", "mp3", "mp3float"), measure_mpeg),
    **dict.fromkeys(("ac3", "eac3"), measure_ac3),
    "dts": measure_dts,
}
KINDS = (  # what a frame begins with, and the function that measures it
    (rb"\xff[\xe2-\xff]", measure_mpeg),
    (rb"\xff[\xf0\xf1\xf8\xf9]", measure_adts),
    (rb"\x56[\xe0-\xff]", measure_loas),
    (rb"\x0b\x77", measure_ac3),
    (rb"\x7f\xfe\x80\x01", measure_dts),
)


def find_frames(data: bytes, start: int = 0) -> tuple[int, Callable[[bytes], int]] | None:
    """Find where a stream of frames begins, at `start` or later, and what measures its frames."""
    found = []
    for sync, measure in KINDS:
        for candidate in re.compile(sync).finditer(data, start):
            at = first = candidate.start()
            for _ in range(SURE):
                size = measure(data[at : at + HEAD]) if at + HEAD <= len(data) else 0
                if size <= 0 or data[at : at + 1] != data[first : first + 1]:
                    break
                at += size
            else:
                found.append((first, measure))
                break
    return min(found, key=lambda each: each[0], default=None)


def is_incomplete(codec: str, packet: bytes) -> bool:
    """Whether a packet lacks some of the bytes of its frame, which is of FFmpeg's codec."""
    measure = CODECS.get(codec)
    return measure is not None and len(packet) >= HEAD and measure(packet) > len(packet)


def ends_within_frame(file: BinaryIO, size: int) -> bool:
    """Whether the last frame of a file of `size` bytes lacks some of its bytes."""
    start = skip_id3(file)
    file.seek(start)
    first = file.read(SYNC)
    file.seek(max(start, size - TAIL))
    tail = file.read(TAIL)
    for kind in KINDS:
        if _find_chain(first, *kind) is not None:
            return _find_chain(tail, *kind) is True
    if (bare := _identify_bare(first)) is None:
        return False
    if bare[1] is measure_mlp:  # it can only be entered at some of its frames
        file.seek(max(start, size - SEARCHED))
        tail = file.read(SEARCHED)
    return _find_chain(first, *bare) is not None and _find_chain(tail, *bare) is True


def _identify_bare(first: bytes) -> tuple[bytes, Callable[[bytes], int]] | None:
    """Return what frames begin with, and what measures them, of formats without a sure sync."""
    if first[4:7] == b"\xf8\x72\x6f":
        return b"(?s:.{4})" + re.escape(first[4:8]), measure_mlp
    if first[:1] == b"\x9c":
        return re.escape(first[:3]), measure_sbc
    if len(first) < HEAD or first[0] != 0xFF or first[1] < 0xE0 or first[2] >> 4:
        return None
    high, low = first[2] & ~2, first[2] | 2  # the second of them is padded by one byte
    sync = re.escape(first[:2]) + rb"[\x%02x\x%02x]" % (high, low)
    following = re.compile(sync).search(first, FEWEST)
    if following is None:
        return None
    length = following.start() - (first[2] >> 1 & 1)
    return sync, lambda head: length + (head[2] >> 1 & 1) if re.match(sync, head) else 0


def _find_chain(data: bytes, sync: bytes, measure: Callable[[bytes], int]) -> bool | None:
    """Follow frames from the first one to the last.

    Returns:
        Whether the last one is longer than what is left; None if there are no frames.
    """
    for candidate in re.finditer(sync, data):
        at, count = candidate.start(), 0
        while at + HEAD <= len(data) and (size := measure(data[at : at + HEAD])) > 0:
            at, count = at + size, count + 1
        if count >= CHAIN:
            begun = 0 < len(data) - at < HEAD and re.match(sync, data[at:])
            return bool(begun) or at > len(data)
    return None
