"""What the audio files of a store's tracks are: for Table I."""

from collections import Counter
from functools import cache
from pathlib import Path
from typing import NamedTuple

import mutagen


class AudioFiles(NamedTuple):
    """Specifications of audio files: how many have each value."""

    files: int  # that could be read
    bytes: int
    specs: dict[str, Counter[str]]  # by the names of paper.AUDIO


@cache  # a study writes its report after each phase, of the same thousands of files
def read(paths: tuple[str, ...]) -> AudioFiles:
    """The specifications of those files that are there and can be parsed."""
    specs: dict[str, Counter[str]] = {}
    count = size = 0
    for path in filter(Path.is_file, map(Path, filter(None, paths))):
        size += path.stat().st_size
        found = _specs(path)
        count += bool(found)
        for name, value in found.items():
            specs.setdefault(name, Counter())[value] += 1
    return AudioFiles(count, size, specs)


def _specs(path: Path) -> dict[str, str]:
    try:
        file = mutagen.File(path)  # pyright: ignore[reportPrivateImportUsage]
    except mutagen.MutagenError:  # pyright: ignore[reportPrivateImportUsage]
        file = None
    if file is None:
        return {}
    info = file.info
    channels = getattr(info, "channels", 0)
    rate = round(getattr(info, "bitrate", 0) / 1000)
    variable = str(getattr(info, "bitrate_mode", "")).endswith(("VBR", "ABR"))
    return {
        "format": type(file).__name__.upper(),
        "sampling rate": f"{getattr(info, 'sample_rate', 0):,} Hz",
        "bit rate": "variable" if variable else f"{rate:,} kbit/s",
        "channels": {1: "mono", 2: "stereo"}.get(channels, str(channels)),
        "duration": f"{info.length:.0f} s",
    }
