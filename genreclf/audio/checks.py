"""What a file can be refused for before, or instead of, decoding it."""

import re
from pathlib import Path

from genreclf.paths import explain_irregular

MIN_RATE, MAX_RATE = 4_000, 800_000  # Hz; what a header says beyond this is no audio
MAX_CHANNELS = 64  # a clip of 30 s at 48 kHz then takes 370 MB
SILENCE = 1e-4  # peak amplitude, -80 dB of full scale
HEAD = 1 << 10  # bytes that are looked at
ZEROS = 1 << 20  # bytes
FEWEST_BYTES = 8  # of a file of any format
UNREADABLE = "does not decode: neither libsndfile nor FFmpeg can read it"
NO_DECODER = "does not decode: FFmpeg has no decoder for its codec"
ONLY_A_TAG = "does not decode: the file holds only a tag, and no audio"
NO_SAMPLES = "does not decode: there are no samples in it"

# What files that are not audio begin with.
SIGNATURES = {
    "an HTML page": rb"(\xef\xbb\xbf)?\s*<(!doctype html|html|head|body)\b",
    "an XML file": rb"(\xef\xbb\xbf)?\s*<\?xml\b",
    "a ZIP archive": rb"PK(\x03\x04|\x05\x06)",
    "a gzip archive": rb"\x1f\x8b",
    "a bzip2 archive": rb"BZh[1-9]1AY&SY",
    "an xz archive": rb"\xfd7zXZ\0",
    "a 7-Zip archive": rb"7z\xbc\xaf\x27\x1c",
    "a RAR archive": rb"Rar!\x1a\x07",
    "a Zstandard archive": rb"\x28\xb5\x2f\xfd",
    "a TAR archive": rb"[^\0].{256}ustar[\0 ]",
    "a database (SQLite)": rb"SQLite format 3\0",
    "a document of Microsoft Office": rb"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1",
    "a JPEG picture": rb"\xff\xd8\xff",
    "a PNG picture": rb"\x89PNG\r\n",
    "a GIF picture": rb"GIF8[79]a",
    "a WebP picture": rb"RIFF....WEBP",
    "a HEIF or AVIF picture": rb"....ftyp(hei[cfmsx]|hev[cmsx]|mif1|msf1|avi[fs])",
    "a TIFF picture": rb"II\*\0|MM\0\*",
    "a Windows bitmap": rb"BM....\0{4}",
    "a PDF document": rb"%PDF-",
    "a playlist": rb"#EXTM3U|ffconcat version|\[playlist\]",
    "metadata of macOS (AppleDouble)": rb"\x00\x05\x16[\x00\x07]",
    "a program": rb"\x7fELF|MZ.{60}|#! ?/",
    "an HDF5 file": rb"\x89HDF\r\n",
    "a NumPy array": rb"\x93NUMPY",
    "a MIDI file, which holds notes instead of sound": rb"MThd|RIFF....RMID",
    "a Git LFS pointer: run git lfs pull": rb"version https://git-lfs",
}


class DecodeError(ValueError):
    """A file without a usable waveform; the message gives the reason, without the path."""


def check_file(path: Path) -> None:
    """Raise DecodeError if there is no such file, it is no regular file, or it is empty."""
    if fault := explain_irregular(path):  # a pipe or a device might never end
        raise DecodeError(fault)
    if path.stat().st_size == 0:
        raise DecodeError("does not decode: the file is empty")
    if path.stat().st_size < FEWEST_BYTES:
        raise DecodeError(
            f"does not decode: {path.stat().st_size} B, its size, are too few to hold audio"
        )


def check_format(sample_rate: int, channels: int) -> None:
    """Raise DecodeError if no audio has this sample rate in Hz or this number of channels."""
    if not MIN_RATE <= sample_rate <= MAX_RATE:
        raise DecodeError(
            f"does not decode: its header says {sample_rate} Hz; {MIN_RATE} to {MAX_RATE} Hz can "
            "be read"
        )
    if not 1 <= channels <= MAX_CHANNELS:
        raise DecodeError(
            f"does not decode: its header says {channels} channels; 1 to {MAX_CHANNELS} can be read"
        )


def refuse_other_content(path: Path, *, by_signature: bool = False) -> None:
    """Raise DecodeError if a file turns out to be something else than audio.

    Args:
        path: the file.
        by_signature: only look for what excludes audio: signatures, and so many zeros that no
            decoder finds what follows. Text or a few zeros at the beginning do not.
    """
    with path.open("rb") as file:
        head = file.read(HEAD)
        zeros = not head.strip(b"\0") and not (by_signature and file.read(ZEROS).strip(b"\0"))
    for name, pattern in SIGNATURES.items():
        if re.match(pattern, head, re.DOTALL | re.IGNORECASE):
            raise DecodeError(f"not audio: {name}")
    if zeros:
        raise DecodeError("not audio: the file begins with zeros")
    if by_signature:
        return
    text = head.decode(errors="ignore")  # the end may cut a character
    if len(text.encode()) > len(head) - 4 and not re.search(r"[\x00-\x08\x0e-\x1f]", text):
        raise DecodeError("not audio: text")
