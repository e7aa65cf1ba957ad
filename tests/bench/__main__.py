"""`make bench`: compare genreclf's speed with a plain implementation; a table and bench.json.

python tests/bench [CASE ...] [--music FOLDER] [--repetitions N] [--json FILE]
"""

import argparse
import json
import os
import platform
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import agreement as agreeing
import commands
import sides
from measure import Prepare, Side, compute_ratio, measure_in_turn
from music import find_clips, make_music

Case = tuple[Prepare, Prepare, int, int, int, str]  # both ways, frames, clips, cores, target
LONG, SHORT = 1292, 128  # frames: 30 s at the paper's setting, and 3 s


@dataclass
class Line:
    """One line of the table."""

    work: str
    reference: str  # what genreclf is compared with
    ours: str
    comparison: str
    target: str
    memory_mb: str  # peaks of the reference and of genreclf


@dataclass
class Options:
    """Command-line options."""

    folder: Path | None  # of the user's music
    repetitions: int
    scratch: Path  # emptied at the end

    @cached_property
    def music(self) -> Path:
        """A folder of genre folders: the user's, or generated clips."""
        return self.folder or make_music(self.scratch / "music")


def compare(work: str, theirs: Side, ours: Side, target: str) -> Line:
    """Compare the rates of two sides in clips/s."""
    times = compute_ratio(ours, theirs)
    return Line(
        work,
        f"{theirs.name}: {theirs.median():.1f} clips/s",
        f"{ours.median():.1f} clips/s",
        f"{times['median']:.2f} times ({times['least']:.2f} to {times['greatest']:.2f})",
        target,
        f"{theirs.memory_mb:.0f}, {ours.memory_mb:.0f}",
    )


def extraction(options: Options) -> list[Line]:
    """Extract stored mel spectrograms from MP3 on one core."""
    paths = find_clips(options.music)
    kept = Side("librosa, kept in memory", sides.librosa_extraction, (paths, False), 1)
    stored = Side("librosa, and savez_compressed", sides.librosa_extraction, (paths, True), 1)
    decoded = Side("decoding alone", sides.decoding, (paths,), 1)
    ours = Side("genreclf", sides.extraction, (options.music, len(paths), 1), 1)
    measure_in_turn([kept, stored, decoded, ours], options.repetitions)
    work = "MP3 to mel, one core"
    return [
        compare(work, stored, ours, "2 times"),
        compare(work, kept, ours, "-"),
        compare(work, decoded, ours, "0.5 times"),
    ]


def workers(options: Options) -> list[Line]:
    """Compare extraction by two processes with one, and the memory for few and many clips."""
    with tempfile.TemporaryDirectory() as place:
        few, many = (make_music(Path(place, str(n)), n, options.music) for n in (2, 8))
        count = len(find_clips(many))
        one = Side("1 worker", sides.extraction, (many, count, 1))
        two = Side("2 workers", sides.extraction, (many, count, 2))
        small = Side("a quarter of the clips", sides.extraction, (few, len(find_clips(few)), 2))
        measure_in_turn([one, two, small], options.repetitions)
    growth = Line(
        "memory of 2 workers for 4 times the clips",
        f"{small.name}: {small.memory_mb:.0f} MB",
        f"{two.memory_mb:.0f} MB",
        f"{two.memory_mb / small.memory_mb:.2f} times",
        "does not grow",
        "-",
    )
    return [compare("MP3 to mel, 2 workers", one, two, "1.8 times"), growth]


def compare_with_plain_loop(work: str, cases: list[Case], options: Options) -> list[Line]:
    """Compare the paper's network on long and short clips."""
    lines = []
    for theirs, ours, frames, clips, cores, target in cases:
        plain = Side("plain loop", theirs, (clips, frames), cores)
        side = Side("genreclf", ours, (clips, frames), cores)
        measure_in_turn([plain, side], options.repetitions)
        lines.append(compare(f"{work}, 128 x {frames}, cores: {cores}", plain, side, target))
    return lines


def training(options: Options) -> list[Line]:
    """Time training epochs of the paper's network."""
    ways = sides.reference_training, sides.training
    cases = [(*ways, LONG, 32, 2, "4 times"), (*ways, SHORT, 128, 1, "2 times")]
    return compare_with_plain_loop("training", cases, options)


def agreement(options: Options) -> list[Line]:
    """Compare the losses of the first 20 steps from the same weights."""
    lines = []
    for frames in (LONG, SHORT):
        losses = agreeing.train_first_steps(128, frames)
        theirs, ours, both = (
            f"{agreeing.compute_difference(losses, *pair):.1e}"
            for pair in (("plain", "double"), ("genreclf", "double"), ("plain", "genreclf"))
        )
        work = f"losses of the first 20 steps, 128 x {frames}, from double precision"
        lines.append(Line(work, theirs, ours, f"{both} from each other", "1e-4", "-"))
    return lines


def inference(options: Options) -> list[Line]:
    """Time predictions of the paper's network."""
    ways = sides.reference_inference, sides.inference
    cases = [(*ways, LONG, 48, 2, "4 times"), (*ways, SHORT, 256, 1, "2 times")]
    return compare_with_plain_loop("inference", cases, options)


def waiting(options: Options) -> list[Line]:
    """Measure the share of an epoch spent waiting for batches."""
    lines = []
    for name, cache, cold, frames, target in (
        ("cached", "memory", False, LONG, "2 %"),
        ("cached", "memory", False, SHORT, "2 %"),
        ("from a file in the kernel's cache", "none", False, LONG, "-"),
        ("from the disk", "none", True, LONG, "10 %"),
        ("from the disk", "none", True, SHORT, "10 %"),
    ):
        side = Side(
            "genreclf", sides.training, (128 if frames == LONG else 1024, frames, cache, cold)
        )
        measure_in_turn([side], options.repetitions)
        shares = [figures["waiting"] for figures in side.figures]
        lines.append(
            Line(
                f"waiting for data, 128 x {frames}, {name}",
                "-",
                f"{side.median():.1f} clips/s",
                f"{side.median('waiting'):.2%} ({min(shares):.2%} to {max(shares):.2%})",
                target,
                f"{side.memory_mb:.0f}",
            )
        )
    return lines


def sweep(options: Options) -> list[Line]:
    """Time a grid of small runs with Hydra's basic launcher and with joblib."""
    one, two, overhead = commands.sweep(repetitions=max(1, options.repetitions // 2))
    ratios = [a / b for a, b in zip(one, two, strict=True)]
    median = sorted(ratios)[len(ratios) // 2]
    return [
        Line(
            f"grid of {commands.RUNS} runs, 2 cores",
            f"in turn: {min(one):.1f} s",
            f"joblib: {min(two):.1f} s",
            f"{median:.2f} times ({min(ratios):.2f} to {max(ratios):.2f})",
            "1.8 times",
            "-",
        ),
        Line("a run of it, less its training", "-", f"{overhead:.2f} s", "-", "1 s", "-"),
    ]


def startup(options: Options) -> list[Line]:
    """Time commands that do not train."""
    lines = []
    for arguments, target in ((["--help"], "1 s"), (["train", "--cfg", "job"], "2 s")):
        seconds = [commands.time_command(arguments) for _ in range(options.repetitions)]
        middle = sorted(seconds)[len(seconds) // 2]
        spread = f"{min(seconds):.2f} to {max(seconds):.2f}"
        name = " ".join(["genreclf", *arguments])
        lines.append(Line(name, "-", f"{middle:.2f} s ({spread})", "-", target, "-"))
    return lines


CASES: dict[str, Callable[[Options], list[Line]]] = {
    case.__name__: case
    for case in (startup, extraction, workers, agreement, training, inference, waiting, sweep)
}


def format_table(lines: list[Line]) -> str:
    """Markdown."""
    head = ["work", "reference", "genreclf", "comparison", "target", "memory, MB"]
    rows = [head, ["---"] * len(head), *(list(asdict(line).values()) for line in lines)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def main() -> None:
    """Measure, print a table, and write the JSON file."""
    parser = argparse.ArgumentParser("make bench", description=__doc__)
    parser.add_argument("cases", nargs="*", help=f"one or more of {', '.join(CASES)}; default: all")
    parser.add_argument(
        "--music", type=Path, help="folder of genre folders; default: generated clips"
    )
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--json", type=Path, default=Path("outputs/bench.json"))
    given = parser.parse_args()
    if unknown := [name for name in given.cases if name not in CASES]:
        parser.error(f"no case {unknown[0]}; choose from {', '.join(CASES)}")
    with tempfile.TemporaryDirectory() as place:
        options = Options(given.music, given.repetitions, Path(place))
        lines: list[Line] = []
        for name in given.cases or CASES:
            print(f"measuring: {name}", flush=True)
            found = CASES[name](options)
            lines += found
            print(format_table(found), flush=True)
    machine = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
    given.json.parent.mkdir(parents=True, exist_ok=True)
    given.json.write_text(
        json.dumps({"machine": machine, "lines": [asdict(line) for line in lines]}, indent=1)
    )
    print(f"\n{machine}\n\n{format_table(lines)}\n\n{given.json}")


if __name__ == "__main__":
    main()
