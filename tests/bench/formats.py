"""`make bench-formats`: how much each audio format changes what the bundled model answers.

python tests/bench/formats.py FOLDER [--songs N] [--formats TEXT] [--json FILE]

The first 30 s of songs, which are chosen evenly from those below FOLDER, are encoded in each format
with the FFmpeg program of imageio-ffmpeg, and predicted. The reference is the same audio as a WAV
file of floats. Prints a Markdown table.
"""

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
from encode import run_ffmpeg  # a module of the tests

import genreclf

SECONDS = 30
SUFFIXES = (".mp3", ".flac", ".wav", ".m4a", ".ogg", ".opus")  # of songs


@dataclass(frozen=True)
class Format:
    """A way to encode a song: the arguments of FFmpeg, and the extension of the file."""

    name: str
    suffix: str
    arguments: tuple[str, ...]


def list_formats() -> Iterator[Format]:
    """List the formats: codec, then bit rate, then sample rate and channels."""
    lossy = {
        "MP3": ("mp3", "libmp3lame", (32, 48, 64, 96, 128, 160, 192, 256, 320)),
        "AAC": ("m4a", "aac", (32, 48, 64, 96, 128, 192, 256)),
        "Opus": ("opus", "libopus", (16, 24, 32, 48, 64, 96, 128, 192)),
        "Vorbis": ("ogg", "libvorbis", (48, 64, 96, 128, 192, 256)),
        "WMA": ("wma", "wmav2", (48, 64, 96, 128, 192)),
        "AC-3": ("ac3", "ac3", (96, 192, 384)),
        "MP2": ("mp2", "mp2", (96, 192, 384)),
    }
    for name, (suffix, codec, rates) in lossy.items():
        for rate in rates:
            more = ("-ar", "48000") if codec == "libopus" else ()
            arguments = ("-c:a", codec, "-b:a", f"{rate}k", *more)
            yield Format(f"{name} {rate} kbit/s", suffix, arguments)
    yield Format("MP3 V0", "mp3", ("-c:a", "libmp3lame", "-q:a", "0"))
    yield Format("MP3 V4 without header", "mp3", ("-q:a", "4", "-write_xing", "0"))
    for rate in (8, 16, 22.05, 32, 48, 96, 192):
        hertz = ("-ar", f"{1000 * rate:.0f}")
        yield Format(f"FLAC at {rate:g} kHz", "flac", ("-c:a", "flac", *hertz))
    yield Format("MP3 128 kbit/s at 48 kHz", "mp3", ("-b:a", "128k", "-ar", "48000"))
    yield Format("AAC 128 kbit/s at 48 kHz", "m4a", ("-b:a", "128k", "-ar", "48000"))
    for bits, kind in ((16, "s16"), (24, "s32")):
        yield Format(f"FLAC {bits} bit", "flac", ("-c:a", "flac", "-sample_fmt", kind))
    for name, channels in (("mono", 1), ("5.1", 6)):
        yield Format(f"FLAC {name}", "flac", ("-c:a", "flac", "-ac", str(channels)))
    yield Format("FLAC, 20 dB quieter", "flac", ("-af", "volume=-20dB", "-sample_fmt", "s32"))
    yield Format("MP3 128 kbit/s mono", "mp3", ("-b:a", "128k", "-ac", "1"))
    yield Format("ALAC", "m4a", ("-c:a", "alac"))
    yield Format("WavPack", "wv", ("-c:a", "wavpack"))
    yield Format("TTA", "tta", ("-c:a", "tta"))
    yield Format("WAV 8 bit", "wav", ("-c:a", "pcm_u8"))
    yield Format("WAV 16 bit", "wav", ("-c:a", "pcm_s16le"))
    yield Format("WAV ADPCM", "wav", ("-c:a", "adpcm_ima_wav"))
    yield Format("AIFF 16 bit", "aiff", ("-c:a", "pcm_s16be"))
    yield Format("AU mu-law", "au", ("-c:a", "pcm_mulaw"))


def find_songs(folder: Path, count: int) -> list[Path]:
    """Find at most `count` songs below a folder, evenly spaced in its sorted files."""
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    return files[:: max(1, len(files) // count)][:count]


def encode(source: Path, target: Path, *arguments: str) -> None:
    """Encode a file with FFmpeg, which tells the format by the target's name."""
    run_ffmpeg("-i", source, "-map", "0:a:0", *arguments, target)


def compare(song: Path, formats: list[Format], model: Any, place: Path) -> list[tuple[bool, float]]:
    """Predict a song in each format: whether the top genre stays, and how far a score moves."""
    reference, found = place / "reference.wav", []
    encode(song, reference, "-t", str(SECONDS), "-c:a", "pcm_f32le")
    expected = model.predict(reference)
    for each in formats:
        path = place / f"song.{each.suffix}"
        encode(reference, path, *each.arguments)
        got = model.predict(path)
        if got.error:
            raise SystemExit(f"{song} as {each.name}: {got.error}")
        moves = (abs(got.scores[genre] - score) for genre, score in expected.scores.items())
        found.append((next(iter(got.scores)) == next(iter(expected.scores)), max(moves)))
    return found


def summarise(formats: list[Format], found: list[list[tuple[bool, float]]]) -> list[dict[str, Any]]:
    """Summarise the songs (rows) in each format (columns)."""
    lines = []
    for number, each in enumerate(formats):
        same, moves = zip(*(row[number] for row in found), strict=True)
        lines.append(
            {
                "format": each.name,
                "files": len(found),
                "same top genre": statistics.mean(same),
                "median change of a score": statistics.median(moves),
                "largest change of a score": max(moves),
            }
        )
    return lines


def main() -> None:
    """Encode and predict the songs, print the table, and write it as JSON."""
    parser = argparse.ArgumentParser(description="How much each audio format changes the answers.")
    parser.add_argument("folder", type=Path, help="music; its files may be anywhere below")
    parser.add_argument("--songs", type=int, default=20, help="number of songs (default: 20)")
    parser.add_argument("--formats", default="", help="only formats with this text in their name")
    parser.add_argument("--json", type=Path, help="also write the table to this file")
    given = parser.parse_args()
    formats = [each for each in list_formats() if given.formats in each.name]
    songs = find_songs(given.folder, given.songs)
    if not songs or not formats:
        parser.error(f"no {'songs in ' + str(given.folder) if formats else 'such formats'}")
    model = genreclf.load("fma8", "cpu")
    with tempfile.TemporaryDirectory() as place:
        found = [compare(song, formats, model, Path(place)) for song in songs]
    lines = summarise(formats, found)
    print("| format | files | same top genre | median change of a score | largest |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for line in lines:
        name, files, same, median, largest = line.values()
        print(f"| {name} | {files} | {100 * same:.0f} % | {median:.3f} | {largest:.3f} |")
    if given.json:
        given.json.write_text(json.dumps(lines, indent=1))


if __name__ == "__main__":
    main()
