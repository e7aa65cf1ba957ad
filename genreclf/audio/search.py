"""Searches folders for audio files, and says what it has left out."""

import heapq
import os
import stat
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

from genreclf.files import format_path

EXTENSIONS = (
    *(".mp3", ".wav", ".flac", ".ogg", ".opus", ".m4a", ".aac", ".wma", ".aif", ".aiff"),
    *(".aifc", ".au", ".snd", ".wave", ".w64", ".rf64", ".bwf", ".caf", ".sd2", ".voc", ".8svx"),
    *(".nist", ".sph", ".avr", ".mp1", ".mp2", ".mpa", ".mpga", ".oga", ".spx", ".weba", ".webm"),
    *(".mka", ".mp4", ".m4b", ".m4r", ".mov", ".3gp", ".3g2", ".adts", ".ac3", ".eac3", ".dts"),
    *(".asf", ".amr", ".awb", ".wv", ".ape", ".mpc", ".mpp", ".mp+", ".tta", ".tak", ".shn"),
    *(".dsf", ".dff", ".mlp", ".thd", ".ra", ".oma", ".gsm"),
)
SHOWN = ", ".join((*EXTENSIONS[:10], "..."))  # for messages
KNOWN = frozenset(EXTENSIONS)
# Folders that operating systems and storage devices create; compared without case.
SYSTEM = {
    *(
        "__macosx",
        "@eadir",
        "@recycle",
        "@recently-snapshot",
        "#recycle",
        "#snapshot",
        "$recycle.bin",
    ),
    *("recycler", "system volume information", "lost+found", "network trash folder"),
}
LINK_TO_FOLDER = "a link to a folder that is searched anyway"
HIDDEN = "hidden, or made by the system"
EXAMPLES = 3  # paths in a line of a report
NOT_AUDIO = 8  # extensions in a line of a report


class Skipped:
    """What searches have left out. `describe` gives a line for each kind."""

    def __init__(self) -> None:
        self.extensions: Counter[str] = Counter()
        self.paths: defaultdict[str, list[str]] = defaultdict(list)  # by reason

    def describe(self) -> list[str]:
        """Describe what was left out in a few lines; paths are shown as `format_path` does."""
        lines = []
        if count := self.extensions.total():
            ranked = sorted(self.extensions.items(), key=lambda item: (-item[1], item[0]))
            named = [f"{n} {ending or 'without an extension'}" for ending, n in ranked[:NOT_AUDIO]]
            rest = sum(n for _, n in ranked[NOT_AUDIO:])
            listed = ", ".join([*named, *[f"{rest} others"] * bool(rest)])
            lines.append(f"skipped {_count(count, 'file')} that {_be(count)} not audio: {listed}")
        for reason, paths in self.paths.items():
            shown = ", ".join(format_path(path) for path in paths[:EXAMPLES])
            more = f" and {len(paths) - EXAMPLES} more" * (len(paths) > EXAMPLES)
            lines.append(f"skipped {shown}{more}: {reason}")
        return lines


def find_audio_files(
    folder: str | Path,
    skipped: Skipped | None = None,
    marker: str = "",
    elsewhere: Iterable[tuple[int, int]] = (),
) -> Iterator[Path]:
    """Find the files in a folder and its subfolders whose names end in one of EXTENSIONS.

    Symbolic links are followed, after all that can be found without them, and each folder is
    searched once. Links to a folder that contains this one are not followed. Hidden files and
    folders, and those of the operating system, are skipped; and so are pipes, sockets and devices.

    Args:
        folder: the folder; nothing is found if it is none.
        skipped: is told what is left out.
        marker: subfolders that hold a file of this name are skipped.
        elsewhere: device and inode of further folders that are not to be searched.
    """
    skipped = Skipped() if skipped is None else skipped
    if not os.path.isdir(folder):  # noqa: PTH112
        return
    searched = {*elsewhere, *identify_parents(folder)} - {identify(folder)}
    folders, links, found = [str(folder)], list[str](), list[str]()
    linked_files: list[str] = []
    while folders or links:
        # Real folders come first, so that each file is found under its real path.
        place = folders.pop() if folders else heapq.heappop(links)
        identity = identify(place)
        if identity in searched:
            skipped.paths[LINK_TO_FOLDER].append(place)
            continue
        searched.add(identity)
        for entry in _list_folder(place, skipped, marker if place != str(folder) else ""):
            ending = os.path.splitext(entry.name)[1].lower()  # noqa: PTH122
            if is_folder(entry):
                if is_system_folder(entry.name):
                    skipped.paths[HIDDEN].append(entry.path)
                elif entry.is_symlink():
                    heapq.heappush(links, entry.path)
                else:
                    folders.append(entry.path)
            elif entry.name.startswith("."):
                if ending in KNOWN:
                    skipped.paths[HIDDEN].append(entry.path)
            elif ending not in KNOWN:
                skipped.extensions[ending if ending[1:].isalnum() else ""] += 1
            elif entry.is_symlink():
                linked_files.append(entry.path)
            elif entry.is_file():
                found.append(entry.path)
                yield Path(entry.path)
            else:
                skipped.paths[explain_irregular(entry.path)].append(entry.path)
    real = {os.path.realpath(path) for path in found} if linked_files else set()
    for path in sorted(linked_files):
        # A link that leads nowhere is found: its music is missing, which has to be seen.
        fault = explain_irregular(path) if os.path.exists(path) else ""  # noqa: PTH110
        if os.path.realpath(path) in real:
            fault = "a link to a file that is found anyway"
        if fault:
            skipped.paths[fault].append(path)
            continue
        real.add(os.path.realpath(path))
        yield Path(path)


def identify(folder: str | Path) -> tuple[int, int]:
    """Identify a folder by device and inode; zeros if it has just been deleted."""
    try:
        found = os.stat(folder)  # noqa: PTH116
    except OSError:
        return 0, 0
    return found.st_dev, found.st_ino


def identify_parents(folder: str | Path) -> set[tuple[int, int]]:
    """Identify a folder and those that contain it, by device and inode."""
    real = Path(os.path.realpath(folder))
    return {identify(place) for place in (real, *real.parents)}


def explain_irregular(path: str | Path) -> str:
    """Say why a path cannot be read as a file, without opening it; empty if it can."""
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116
    except FileNotFoundError:
        is_link = os.path.islink(path)  # noqa: PTH114
        return "a link to a file that does not exist" if is_link else "no such file"
    except (OSError, ValueError) as error:  # a loop of links, a null byte
        return str(getattr(error, "strerror", None) or error)
    if stat.S_ISREG(mode):
        return ""
    kinds = {
        stat.S_IFDIR: "a folder, not an audio file",
        stat.S_IFIFO: "a named pipe, not a file",
        stat.S_IFSOCK: "a socket, not a file",
        stat.S_IFCHR: "a device, not a file",
        stat.S_IFBLK: "a device, not a file",
    }
    return kinds.get(stat.S_IFMT(mode), "not a regular file")


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a folder, or a link to one; a link that leads nowhere is none."""
    try:
        return entry.is_dir()
    except OSError:  # a loop of links, or no permission
        return False


def is_system_folder(name: str) -> bool:
    """Whether a folder is hidden, or of the operating system or a storage device."""
    return name.startswith(".") or name.casefold() in SYSTEM


def _list_folder(folder: str, skipped: Skipped, marker: str) -> list[os.DirEntry[str]]:
    """List a folder, sorted; nothing if it cannot be read or holds the marker."""
    try:
        with os.scandir(folder) as entries:
            listed = sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        skipped.paths[f"cannot be read ({error.strerror})"].append(folder)
        return []
    return [] if marker and any(entry.name == marker for entry in listed) else listed


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'s' * (number != 1)}"


def _be(number: int) -> str:
    return "is" if number == 1 else "are"
