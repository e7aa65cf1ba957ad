"""`make bench-library`: one `genreclf predict` over a library of about 1,000 files in 66 formats.

python tests/bench/library.py FOLDER [--songs N] [--json FILE]

The library is made of songs from FOLDER, each in every format of formats.py, and of 20 odd files:
damaged ones, some that are no audio, and some whose names or contents are unusual. Prints how many
files were answered, files per second, and the peak of the memory of all processes together.
"""

import argparse
import json
import os
import struct
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import formats
import numpy as np
import soundfile
from launchers import measure

RATE = 44100  # Hz


def write_library(folder: Path, songs: list[Path]) -> None:
    """Write each song in every format."""
    reference = folder / "reference.wav"
    for number, song in enumerate(songs):
        formats.encode(song, reference, "-t", str(formats.SECONDS), "-c:a", "pcm_f32le")
        for each in formats.list_formats():
            place = folder / each.name.replace("/", " per ")
            place.mkdir(exist_ok=True)
            formats.encode(reference, place / f"{number:02}.{each.suffix}", *each.arguments)
    reference.unlink()


def write_oddities(folder: Path, song: Path) -> None:
    """Write 20 files that a decoder or a terminal may not like."""
    music = song.read_bytes()
    wave = (0.3 * np.sin(np.arange(5 * RATE) / 9)).astype(np.float32)
    header = b"RIFF\xff\xff\xff\xffWAVEfmt " + struct.pack("<IHHIIHH", 16, 1, 2, 2**31, 0, 4, 16)
    contents = {
        "empty.mp3": b"",
        "zeros.mp3": bytes(100_000),
        "page.mp3": b"<!DOCTYPE html><html><body>Not found</body></html>",
        "archive.mp3": b"PK\x03\x04" + os.urandom(50_000),
        "picture.mp3": b"\xff\xd8\xff\xe0\x00\x10JFIF" + os.urandom(50_000),
        "document.flac": b"%PDF-1.4\n" + os.urandom(50_000),
        "random.ogg": os.urandom(100_000),
        "playlist.mp3": b"#EXTM3U\nhttp://localhost/secret.mp3\n",
        "cut.mp3": music[: len(music) // 3],
        "beheaded.mp3": music[1000:],
        "joined.mp3": music + music,
        "absurd rate.wav": header + b"data" + struct.pack("<I", 1000) + bytes(1000),
        "Re:Zero.mp3": music,
        "line\nbreak.mp3": music,
        "日本 & #1 = 50 %.mp3": music,
        os.fsdecode(b"latin1 \xe9.mp3"): music,
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    soundfile.write(folder / "silent.wav", 0 * wave, RATE)
    soundfile.write(folder / "short.wav", wave[: RATE // 2], RATE)
    soundfile.write(folder / "not finite.wav", 1e30 * wave.astype(np.float64), RATE, "DOUBLE")
    soundfile.write(folder / "out of phase.flac", np.stack([wave, -wave], axis=1), RATE)


def main() -> None:
    """Write the library, predict it, print and write the figures."""
    parser = argparse.ArgumentParser("make bench-library", description=__doc__)
    parser.add_argument("folder", type=Path, help="music; its files may be anywhere below")
    parser.add_argument("--songs", type=int, default=15, help="number of songs (default: 15)")
    parser.add_argument("--json", type=Path, default=Path("outputs/bench-library.json"))
    given = parser.parse_args()
    songs = formats.find_songs(given.folder, given.songs)
    with tempfile.TemporaryDirectory() as place:
        library, answers = Path(place, "library"), Path(place, "answers.jsonl")
        (library / "odd").mkdir(parents=True)
        write_library(library, songs)
        write_oddities(library / "odd", songs[0])
        files = [path for path in library.rglob("*") if path.is_file()]
        command = [
            sys.executable,
            "-m",
            "genreclf",
            "predict",
            str(library),
            "--checkpoint",
            "fma8",
        ]
        command += ["--format", "json"]
        with answers.open("wb") as file:
            found: dict[str, Any] = measure(command, dict(os.environ), file, accepted=(1,))
        lines = [json.loads(line) for line in answers.read_text().splitlines()]
    outcomes = Counter(
        "error" if line.get("error") else line["genre"] if line["unknown"] else "genre"
        for line in lines
    )
    answered = Counter(line["path"] for line in lines)
    figures = {
        "files": len(files),
        "answered once": sum(count == 1 for count in answered.values()),
        **outcomes,
        **found,
        "files per second": len(files) / found["s"],
    }
    for line in lines:
        if "/odd/" in line["path"]:
            name = line["path"].rpartition("/odd/")[2]
            print(f"{name!r}: {line.get('error') or [line['genre'], *line['notes']]}")
    print(figures)
    given.json.parent.mkdir(parents=True, exist_ok=True)
    given.json.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
