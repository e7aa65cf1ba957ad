"""Predicts damaged copies of real music, and checks that each file is answered exactly once.

    python tests/bench/fuzz.py MUSIC [--count 2000] [--seed 0]

Clips of the folder are encoded as MP3, FLAC, OGG, WAV, M4A and Opus, damaged, and predicted in one
call of `genreclf predict`. The outcomes are printed as a Markdown table.
"""

import argparse
import json
import random
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1]))
import soundfile
from encode import encode  # a module of the tests

from genreclf.audio.decode import read_audio

CODECS = {
    ".mp3": "libmp3lame",
    ".flac": "flac",
    ".ogg": "",
    ".wav": "pcm_s16le",
    ".m4a": "aac",
    ".opus": "libopus",
}
RATE = 48000  # Hz, which all of them can have
LONGEST = 60.0  # s without an answer


def break_header(data: bytearray, dice: random.Random, other: bytes) -> None:
    """Overwrite some of the first bytes."""
    for _ in range(dice.randint(1, 16)):
        data[dice.randrange(min(len(data), 256))] = dice.randrange(256)


def set_field(data: bytearray, dice: random.Random, other: bytes) -> None:
    """Write an extreme number where a size or a rate may be."""
    at = dice.randrange(min(len(data), 4096) - 4)
    data[at : at + 4] = dice.choice(
        [b"\xff" * 4, b"\0" * 4, b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f"]
    )


def truncate(data: bytearray, dice: random.Random, other: bytes) -> None:
    """Cut off the end."""
    del data[dice.randrange(len(data)) :]


def behead(data: bytearray, dice: random.Random, other: bytes) -> None:
    """Cut off the beginning."""
    del data[: dice.randrange(len(data))]


def splice(data: bytearray, dice: random.Random, other: bytes) -> None:
    """Continue with a part of another file, of any format."""
    data[dice.randrange(len(data)) :] = other[dice.randrange(len(other)) :]


def flip_bits(data: bytearray, dice: random.Random, other: bytes) -> None:
    """Flip one to a thousand bits anywhere."""
    for _ in range(int(10 ** dice.uniform(0, 3))):
        data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)


def break_tags(data: bytearray, dice: random.Random, other: bytes) -> None:
    """Put a tag with a wrong size in front, or garbage that begins like a tag at the end."""
    noise = dice.randbytes(dice.randrange(200))
    if dice.random() < 0.5:
        data[:0] = b"ID3\x04\0\0" + dice.randbytes(4) + noise
    else:
        data += dice.choice([b"TAG", b"APETAGEX", b"LYRICSBEGIN"]) + noise


def zero_block(data: bytearray, dice: random.Random, other: bytes) -> None:
    """Set a stretch to zero, as a disk does that lost it."""
    at = dice.randrange(len(data))
    size = min(dice.randrange(1, 20000), len(data) - at)
    data[at : at + size] = bytes(size)


MUTATIONS: list[Callable[[bytearray, random.Random, bytes], None]] = [
    *(break_header, set_field, truncate, behead, splice, flip_bits, break_tags, zero_block),
]


def write_mutations(music: Path, folder: Path, count: int, seed: int, clips: int = 8) -> None:
    """Write damaged files, named by number, damage and format, into a folder."""
    dice = random.Random(seed)
    paths = sorted(music.rglob("*.mp3"))
    sources: list[tuple[str, bytes]] = []
    with tempfile.TemporaryDirectory() as place:
        for path in dice.sample(paths, min(clips, len(paths))):
            samples, rate = read_audio(path, RATE, 12.0)
            for suffix, codec in CODECS.items():
                file = Path(place, f"clip{suffix}")
                if codec:
                    encode(file, samples[:, None], codec, rate)
                else:  # PyAV has no encoder for Vorbis
                    soundfile.write(file, samples, rate)
                sources.append((suffix, file.read_bytes()))
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        suffix, whole = sources[number % len(sources)]
        mutate, data = dice.choice(MUTATIONS), bytearray(whole)
        mutate(data, dice, dice.choice(sources)[1])
        (folder / f"{number:05}_{mutate.__name__}{suffix}").write_bytes(data)


class Outcome(NamedTuple):
    """What a call of `genreclf predict` did.

    Attributes:
        answers: the JSON object of each file, by path.
        faults: what must not happen, a line each.
        seconds: how long it took.
        wait: the longest time between two answers, in seconds.
    """

    answers: dict[str, dict]
    faults: list[str]
    seconds: float
    wait: float


def predict_folder(folder: Path) -> Outcome:
    """Predict a folder, and check that each of its files is answered exactly once."""
    command = [sys.executable, "-m", "genreclf", "predict", str(folder), "--format", "json"]
    command += ["--checkpoint", "fma8"]
    began = last = time.monotonic()
    answers: dict[str, dict] = {}
    faults: list[str] = []
    wait = 0.0
    with tempfile.TemporaryFile("w+") as errors:
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True) as process:
            for line in process.stdout or []:
                answer = json.loads(line)
                if answer["path"] in answers:
                    faults.append(f"answered twice: {answer['path']}")
                answers[answer["path"]] = answer
                wait, last = max(wait, time.monotonic() - last), time.monotonic()
        errors.seek(0)
        text = errors.read()
    if process.returncode not in (0, 1) or "Traceback" in text:
        faults.append(f"exit status {process.returncode}: {text[-2000:]}")
    if wait > LONGEST:
        faults.append(f"no answer for {wait:.0f} s")
    missing = {str(path) for path in folder.iterdir()} - set(answers)
    faults += [f"not answered: {path}" for path in sorted(missing)]
    return Outcome(answers, faults, time.monotonic() - began, wait)


def classify(answer: dict) -> str:
    """Name the kind of an answer, without its numbers."""
    if "error" in answer:
        return re.sub(r"[\d.]+", "N", answer["error"])[:70]
    return "predicted, with a note" if answer["notes"] else "predicted"


def format_table(answers: dict[str, dict]) -> str:
    """Count the outcomes by format, as a Markdown table."""
    counts = Counter((classify(answer), Path(path).suffix) for path, answer in answers.items())
    totals = Counter(classify(answer) for answer in answers.values())
    lines = ["| outcome | " + " | ".join(CODECS) + " | all |", "| --- |" + " --- |" * 7]
    for outcome, total in totals.most_common():
        cells = " | ".join(str(counts[outcome, suffix]) for suffix in CODECS)
        lines.append(f"| {outcome} | {cells} | {total} |")
    return "\n".join(lines)


def main() -> int:
    """Run the script; the exit status is 1 if a file was not answered exactly once."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("music", type=Path, help="a folder with MP3 files")
    parser.add_argument("--count", type=int, default=2000, help="how many files (default: 2000)")
    parser.add_argument("--seed", type=int, default=0, help="of the damage (default: 0)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place, "files")
        write_mutations(options.music, folder, options.count, options.seed)
        outcome = predict_folder(folder)
    print(format_table(outcome.answers))
    print(
        f"\n{len(outcome.answers)} files in {outcome.seconds:.0f} s, at most {outcome.wait:.1f} s"
    )
    print(*outcome.faults, sep="\n")
    return 1 if outcome.faults else 0


if __name__ == "__main__":
    sys.exit(main())
