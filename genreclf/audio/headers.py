"""What the bytes of a file say about how much audio it should hold."""

import re
import struct
from collections.abc import Iterator
from typing import BinaryIO

from genreclf.audio.boxes import find_boxes_end

AFTER_AUDIO = (b"pakt", b"info", b"free", b"uuid", b"strg", b"mark", b"regn", b"midi")  # in CAF
# How a header gives the size of its file: magic, format and place of the number, bytes to add.
SIZES = (
    (b"RIFF", "<I", 4, 8),
    (b"RIFX", ">I", 4, 8),
    (b"RF64", "<Q", 20, 8),
    (b"riff", "<Q", 16, 0),  # Sony Wave64
    (b"FORM", ">I", 4, 8),  # AIFF
)
UNKNOWN_SIZES = (0, 0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF)  # what a writer to a pipe leaves there
NEAR_2_GIB = range(0x7FFFF000, 0x80001000)  # what others leave there, such as SoX and arecord
CHUNKS = {  # by what a file begins with: the format of its sizes, and which chunk is the audio
    b"RIFF": ("<I", b"data"),
    b"RIFX": (">I", b"data"),
    b"FORM": (">I", b"SSND"),
    b"caff": (">q", b"data"),
}
ASF = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")  # what a WMA file begins with
FLAGS = b"".join(rb"\x%02x" % flag for flag in range(256) if flag & 8)  # of a first block
WAVPACK = rb"wvpk.{4}[\x02-\x10]\x04.{6}\x00{4}(?!\x00{4}).{5}[" + FLAGS + rb"]"
LATE = re.compile(  # what files begin with that are searched for behind other bytes
    rb"RIFF.{4}(?:WAVE|AVI )|RIFX.{4}WAVE|RF64.{4}WAVE|riff\x2e\x91\xcf\x11|FORM.{4}AIF[FC]|"
    rb"\.snd\x00{2}|caff\x00\x01|OggS\x00\x02|fLaC\x00|.{4}ftyp|\x1aE\xdf\xa3|TTA1[\x01\x02]\x00|"
    rb"FLV\x01|#!AMR|\.RMF\x00|MPCKSH|MAC |Creative Voice File|" + WAVPACK + b"|" + re.escape(ASF),
    re.DOTALL,
)
AMR_NB = (13, 14, 16, 18, 20, 21, 27, 32, 6, 0, 0, 0, 0, 0, 0, 1)  # bytes, by the type of frame
AMR_WB = (18, 24, 33, 37, 41, 47, 51, 59, 61, 6, 0, 0, 0, 0, 1, 1)
ASF_FILE = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")  # the object with its size
SEARCHED = 1 << 20  # bytes in which the beginning of the audio is searched for
TAIL = 1 << 16  # bytes at an end of the file that are looked at; the largest page of Ogg
FIRST_PAGE = 2  # flag of a page of Ogg
LIVE = 1  # flag of a WMA file whose writer did not know its size
XING = 1 << 13  # bytes after the tags in which the first MPEG frame begins
EBML, SEGMENT = b"\x1aE\xdf\xa3", 0x18538067  # what a Matroska file begins with, and holds


def read_stated_size(file: BinaryIO, size: int) -> int | None:
    """Read how many bytes a file with a header should have, if that says so.

    Args:
        file: the file.
        size: how many bytes it has.
    """
    file.seek(0)
    head = file.read(32)
    if head[:4] == b"caff":
        return _read_caf_size(file, size)
    if head[:5] == b"#!AMR":
        return _read_amr_size(file, size, head[5:9] == b"-WB\n")
    if head[4:8] == b"ftyp":
        return find_boxes_end(file, size)
    if head[:16] == ASF:
        return _read_asf_size(file)
    if head[:4] == b".snd" and len(head) >= 12:
        start, stated = struct.unpack_from(">II", head, 4)
        return None if stated in UNKNOWN_SIZES else start + stated
    if head[:4] == EBML:
        return _read_matroska_size(head + file.read(1024))
    if head[:7] == b"NIST_1A":
        return _read_nist_size(file)
    if head[:4] == b".SoX" and len(head) == 32:
        length, samples = struct.unpack_from("<IQ", head, 4)
        return 4 + length + 4 * samples if samples else None
    for magic, kind, place, added in SIZES:
        if head[:4] == magic and len(head) >= place + struct.calcsize(kind):
            (stated,) = struct.unpack_from(kind, head, place)
            is_unknown = stated in UNKNOWN_SIZES or stated in NEAR_2_GIB
            return None if is_unknown else stated + added
    return None


def _read_amr_size(file: BinaryIO, size: int, wide: bool) -> int:
    """Find where the frames of an AMR file end, of which each says how long it is (RFC 4867)."""
    at, lengths = (9, AMR_WB) if wide else (6, AMR_NB)
    while at < size:
        file.seek(at)
        head = file.read(1)[0]
        if head & 0x87 != 4 or not (length := lengths[head >> 3 & 15]):
            break
        at += length
    return min(at, size)


def _read_caf_size(file: BinaryIO, end: int) -> int | None:
    """Add up the chunks of a CAF file; the size of its audio may be unknown."""
    at, has_audio = 8, False
    while at + 12 <= end:
        file.seek(at)
        kind, size = struct.unpack(">4sq", file.read(12))
        if has_audio and kind not in AFTER_AUDIO:
            return at
        if size < 0 or not kind.isalnum():
            return None
        has_audio = has_audio or kind == b"data"
        at += 12 + size
    return at


def _read_asf_size(file: BinaryIO) -> int | None:
    """Read the size of a WMA file from its File Properties object."""
    file.seek(0)
    head = file.read(TAIL)
    at = head.find(ASF_FILE)
    if at < 0 or at + 92 > len(head):
        return None
    (size,) = struct.unpack_from("<Q", head, at + 40)
    (flags,) = struct.unpack_from("<I", head, at + 88)
    return None if flags & LIVE or size in UNKNOWN_SIZES else size


def _read_nist_size(file: BinaryIO) -> int | None:
    """Read the size of a SPHERE file, as corpora of speech use, from the lines of its header."""
    file.seek(0)
    lines = [line.split(maxsplit=2) for line in file.read(1024).decode("latin1").splitlines()]
    found = {line[0]: line[2] for line in lines if len(line) == 3}
    try:
        sizes = [int(found[name]) for name in ("sample_count", "sample_n_bytes")]
        return 1024 + sizes[0] * sizes[1] * int(found.get("channel_count", "1"))
    except (KeyError, ValueError):
        return None


def find_late_start(file: BinaryIO) -> int:
    """Find how many bytes precede the audio, such as a tag in the wrong place; 0 if none is found.

    MPEG audio needs no such search, for decoders look for its first frame themselves.
    """
    skip = skip_id3(file)
    file.seek(skip)
    found = LATE.search(file.read(SEARCHED), 0 if skip else 1)
    return skip + found.start() if found else 0


def skip_id3(file: BinaryIO, at: int = 0) -> int:
    """Return where the ID3v2 tags end that begin at `at`; that is `at` if there are none."""
    while True:
        file.seek(at)
        head = file.read(10)
        if head[:3] != b"ID3" or len(head) < 10:
            return at
        at += 10 + sum(byte << 7 * (3 - place) for place, byte in enumerate(head[6:]))


def estimates_duration(file: BinaryIO) -> bool:
    """Whether decoders estimate how long an MPEG file is, because its first frame does not say."""
    file.seek(skip_id3(file))
    head = file.read(XING)
    is_mpeg = len(head) > 1 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0
    return is_mpeg and not any(tag in head for tag in (b"Xing", b"Info", b"VBRI"))


def read_element(data: bytes, at: int) -> tuple[int, int, int]:
    """Return type and size of an element of Matroska, and where its contents begin."""
    numbers, width = [], 1
    for _ in range(2):
        width = 9 - data[at].bit_length() if at < len(data) else 1
        numbers.append(int.from_bytes(data[at : at + width]))
        at += width
    return numbers[0], numbers[1] & ((1 << 7 * width) - 1), at


def _read_matroska_size(head: bytes) -> int | None:
    """Return the size of a Matroska file; None if its writer did not know it."""
    _, size, at = read_element(head, 0)
    kind, length, begin = read_element(head, at + size)
    if kind != SEGMENT or length + 1 == 1 << 7 * (begin - at - size - 4):  # all bits are set
        return None
    return begin + length


def lacks_beginning(file: BinaryIO, size: int) -> bool:
    """Whether what is left of a file is the end of an Ogg or MP4 file."""
    file.seek(0)
    page = file.read(TAIL)
    at = page.find(b"OggS\0")
    file.seek(max(0, size - SEARCHED))
    is_ogg = 0 <= at < len(page) - 5 and not page[at + 5] & FIRST_PAGE
    return is_ogg or (b"ftyp" not in page and b"moov\0\0\0\x6cmvhd" in file.read())


def read_chunks(file: BinaryIO, end: int, sizes: str) -> Iterator[tuple[bytes, int, int]]:
    """Yield type, place and stated size of the contents of each chunk of a WAV, AIFF or CAF file.

    Args:
        file: the file.
        end: how many bytes it has.
        sizes: format of the sizes.
    """
    width = struct.calcsize(sizes)
    at = 12 if width == 4 else 8
    while 0 <= at <= end - 4 - width:
        file.seek(at)
        kind, (size,) = file.read(4), struct.unpack(sizes, file.read(width))
        at += 4 + width
        yield kind, at, size
        at += size + (size % 2 if width == 4 else 0)
