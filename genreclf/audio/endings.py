"""Whether a file that does not say how long it is ends within one of its parts: then it was cut."""

import re
import struct
from typing import BinaryIO

from genreclf.audio.frames import ends_within_frame
from genreclf.audio.headers import ASF, ASF_FILE, EBML, LIVE, SEARCHED, TAIL, read_element

LAST_PAGE = 4  # flag of a page of Ogg
CLUSTER = b"\x1f\x43\xb6\x75"  # the element of Matroska that holds audio
ELEMENTS = {  # what a cluster holds, and what may follow it
    *(0xE7, 0xA3, 0xA0, 0xAB, 0xA7, 0xEC, 0xBF, 0x1F43B675, 0x1C53BB6B, 0x1254C367, 0x1043A770),
    *(0x1941A469, 0x114D9B74),
}
MOST_ELEMENTS = 1 << 14  # that are walked through
TS_PACKET = 188  # bytes
ASF_DATA = 50  # bytes of a WMA file between its header and its packets
VOC = b"Creative Voice File\x1a"
MXF = b"\x06\x0e\x2b\x34"  # what a part of an MXF file begins with, and one with audio or pictures
ESSENCE = MXF + bytes.fromhex("010201010d010301")
FLAC_TAIL = 1 << 18  # bytes in which the last frame of a FLAC file begins
SLACK = 64  # zeros that the last part may end with


def find_data_end(file: BinaryIO, size: int) -> int:
    """Return where the zeros begin that a file of `size` bytes ends with, if these are many.

    Programs that download may reserve the space first.
    """

    def is_empty(at: int) -> bool:
        file.seek(at)
        return not file.read(TAIL).strip(b"\0")

    if size <= TAIL or not is_empty(size - TAIL):
        return size
    begin, end = 0, size - TAIL
    while end - begin > TAIL:
        middle = (begin + end) // 2
        begin, end = (begin, middle) if is_empty(middle) else (middle, end)
    file.seek(begin)
    return begin + len(file.read(end - begin + TAIL).rstrip(b"\0"))


def is_cut(file: BinaryIO, size: int) -> bool:
    """Whether a file of `size` bytes ends within a frame, page, packet, chunk or element."""
    end = min(size, find_data_end(file, size) + SLACK)
    file.seek(0)
    head = file.read(2 * TS_PACKET + 1)
    if head[::TS_PACKET] == b"GGG":
        file.seek(end - end % TS_PACKET)
        return file.read(1) == b"G"
    if head[:4] == b"OggS":
        return _ends_within_page(_read_tail(file, end, TAIL))
    if head[:4] == EBML:
        return _ends_within_element(_read_tail(file, size, SEARCHED))
    if head[:4] == b"fLaC":
        return not int.from_bytes(head[21:26]) % (1 << 36) and _ends_within_flac(file, end)
    if head[:16] == ASF:
        return _ends_within_packet(file, size)
    if head[: len(VOC)] == VOC:
        return _ends_within_block(file, size)
    if head[:4] == MXF:
        return _ends_within_essence(_read_tail(file, size, SEARCHED))
    return ends_within_frame(file, end)


def _read_tail(file: BinaryIO, end: int, length: int) -> bytes:
    begin = file.seek(max(0, end - length))
    return file.read(end - begin)


def _ends_within_page(tail: bytes) -> bool:
    """Whether the last page of an Ogg file is cut, or is not its last one."""
    last = tail.rfind(b"OggS\0")
    page = tail[last:] if last >= 0 else b""
    if len(page) < 27 or len(page) < 27 + page[26]:
        return last >= 0
    length = 27 + page[26] + sum(page[27 : 27 + page[26]])
    return length > len(page) or not page[5] & LAST_PAGE


def _ends_within_element(tail: bytes) -> bool:
    """Whether the last cluster of a Matroska file, or what follows it, is cut."""
    at = tail.rfind(CLUSTER)
    if at < 0:
        return False
    for _ in range(MOST_ELEMENTS):
        if at >= len(tail):
            return at > len(tail)
        kind, size, at = read_element(tail, at)
        if kind not in ELEMENTS:
            return False
        if kind != int.from_bytes(CLUSTER):  # the elements in it follow
            at += size
    return False


def _ends_within_flac(file: BinaryIO, end: int) -> bool:
    """Whether the last frame of a FLAC file lacks its checksum, which makes that of it all 0."""
    tail = _read_tail(file, end, FLAC_TAIL)
    places = [found.start() for found in re.finditer(rb"\xff[\xf8\xf9]", tail)]
    return bool(places) and all(_sum_crc16(tail[at:]) for at in reversed(places))


def _sum_crc16(data: bytes) -> int:
    """Compute the CRC-16 of the polynomial 0x8005 (RFC 9639, section 9.3)."""
    crc = 0
    for byte in data:
        crc = (crc << 8 & 0xFFFF) ^ CRC16[crc >> 8 ^ byte]
    return crc


def _make_crc16() -> list[int]:
    table = []
    for crc in range(0, 1 << 16, 1 << 8):
        for _ in range(8):
            crc = crc << 1 ^ (0x18005 if crc & 0x8000 else 0)
        table.append(crc)
    return table


CRC16 = _make_crc16()


def _ends_within_packet(file: BinaryIO, size: int) -> bool:
    """Whether the last packet of a WMA file is cut whose writer did not know its size."""
    file.seek(0)
    head = file.read(TAIL)
    at = head.find(ASF_FILE)
    if at < 0 or at + 96 > len(head):
        return False
    (begin,) = struct.unpack_from("<Q", head, 16)
    flags, length = struct.unpack_from("<II", head, at + 88)  # all packets are of that length
    return bool(flags & LIVE and length and (size - begin - ASF_DATA) % length > SLACK)


def _ends_within_block(file: BinaryIO, size: int) -> bool:
    """Whether the last block of a VOC file is cut."""
    file.seek(20)
    at = int.from_bytes(file.read(2), "little")
    for _ in range(MOST_ELEMENTS):
        file.seek(at)
        head = file.read(4)
        if len(head) < 4 or not head[0]:
            return False
        at += 4 + int.from_bytes(head[1:], "little")
        if at > size:
            return True
    return False


def _ends_within_essence(tail: bytes) -> bool:
    """Whether the last part of an MXF file is cut that holds audio or pictures, or a later part."""
    at = tail.rfind(ESSENCE)
    while 0 <= at < len(tail):
        if tail[at : at + 4] != MXF or at + 17 > len(tail):
            return tail[at : at + 4] == MXF[: len(tail) - at]
        size, width = tail[at + 16], 0
        if size & 0x80:  # the number of bytes of the size
            width = size & 0x7F
            size = int.from_bytes(tail[at + 17 : at + 17 + width])
        at += 17 + width + size
    return at > len(tail)
