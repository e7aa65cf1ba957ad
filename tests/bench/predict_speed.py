"""How fast `genreclf predict` is, and what limits it: `make bench-predict MUSIC=folder`.

CPU seconds are those of all processes together, so they hardly depend on what else runs. The
arithmetic limit is the time that the multiplications and additions of musicnn's convolutions take
at the speed of a large matrix product or convolution on one core, the least of several trials each.
"""

import argparse
import ctypes
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import conv2d

from genreclf.audio.search import find_audio_files
from genreclf.models.encoders.musicnn_tagger import MusicnnTagger, load_tagger

SUBREAPER = 36  # option of Linux's prctl: processes whose parent has ended become our children
SIZE = 1536  # rows and columns of the matrices
CHANNELS = 256  # of the large convolution
TRIALS, REPETITIONS = 20, 4


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser("make bench-predict", description=__doc__)
    parser.add_argument("music", type=Path, help="folder of clips of 30 s")
    parser.add_argument("--files", type=int, default=60)
    parser.add_argument("--repetitions", type=int, default=5)
    given = parser.parse_args()
    files = sorted(map(str, find_audio_files(given.music)))
    files = files[:: max(1, len(files) // given.files)][: given.files]
    ctypes.CDLL(None).prctl(SUBREAPER, 1, 0, 0, 0)
    print("| model | one file: CPU s | s | more: CPU s per file | files per CPU s |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for model in ("tags", "fma8"):
        measure = [time_command([*files[:1], "--checkpoint", model])]  # files of the system's cache
        measure = [
            time_command([*files[:1], "--checkpoint", model]) for _ in range(given.repetitions)
        ]
        cpu, wall = (statistics.median(each) for each in zip(*measure, strict=True))
        all_cpu, all_wall = time_command([*files, "--checkpoint", model])
        each = (all_cpu - cpu) / (len(files) - 1)
        print(f"| {model} | {cpu:.2f} | {wall:.2f} | {each:.3f} | {1 / each:.1f} |")
        print(f"{len(files)} files: {all_wall:.1f} s on {os.cpu_count()} cores", file=sys.stderr)
    print_limit()


def time_command(arguments: list[str]) -> tuple[float, float]:
    """Run `genreclf predict`; return CPU seconds of all its processes, and seconds."""
    command = [sys.executable, "-m", "genreclf", "predict", *arguments]
    before, start = os.times(), time.perf_counter()
    with tempfile.TemporaryFile() as output:
        subprocess.run(command, check=True, stdout=output, stderr=output)
    wall = time.perf_counter() - start
    try:
        while True:  # processes that decoded
            os.wait()
    except ChildProcessError:
        pass
    after = os.times()
    return sum(after[2:4]) - sum(before[2:4]), wall


def print_limit() -> None:
    """Print the time of musicnn for a clip next to that of its operations in a matrix product."""
    torch.set_num_threads(1)
    tagger: Any = load_tagger().net
    clip = torch.rand(1, 96, 1870)
    operations = count_operations(tagger, clip)
    left, right = torch.rand(SIZE, SIZE), torch.rand(SIZE, SIZE)
    image = torch.rand(1, CHANNELS, 32, 32).to(memory_format=torch.channels_last)
    kernel = torch.rand(CHANNELS, CHANNELS, 3, 3).to(memory_format=torch.channels_last)
    with torch.inference_mode():
        product = 2 * SIZE**3 / time_least(lambda: left @ right)
        convolution = 2 * 30 * 30 * kernel.numel() / time_least(lambda: conv2d(image, kernel))
        network = time_least(lambda: tagger(clip))
    print(f"\nmusicnn, 30 s: {operations / 1e9:.1f} GFLOP in {1e3 * network:.0f} ms of CPU time")
    for name, speed in (("a matrix product", product), ("a large convolution", convolution)):
        print(f"{name}: {speed / 1e9:.0f} GFLOP/s, musicnn: {operations / network / 1e9:.0f}")
    share = operations / max(product, convolution) / network
    print(f"{share:.0%} of the faster of them, on one core")


def count_operations(tagger: MusicnnTagger, clip: torch.Tensor) -> int:
    """Count multiplications and additions of the convolutions of musicnn as published."""
    total = 0

    def count(layer: Any, _: Any, output: torch.Tensor) -> None:
        nonlocal total
        total += 2 * output.numel() * layer.weight[0].numel()

    kinds = (torch.nn.Conv1d, torch.nn.Conv2d)
    layers = [module for module in tagger.net.modules() if isinstance(module, kinds)]
    hooks = [layer.register_forward_hook(count) for layer in layers]
    with torch.inference_mode():
        tagger.net.pool(clip.unflatten(2, (10, 187)).transpose(1, 2)[0])
    for hook in hooks:
        hook.remove()
    return total


def time_least(work: Callable[[], Any]) -> float:
    """Measure the least CPU seconds of several trials."""
    work()
    times = []
    for _ in range(TRIALS):
        start = time.thread_time()
        for _ in range(REPETITIONS):
            work()
        times.append((time.thread_time() - start) / REPETITIONS)
    return min(times)


if __name__ == "__main__":
    main()
