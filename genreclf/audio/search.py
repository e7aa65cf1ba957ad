"""Searches folders for audio files, and says what it has left out."""

import heapq
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from genreclf.paths import explain_irregular, format_path

EXTENSIONS = (
    *(".mp3", ".wav", ".flac", ".ogg", ".opus", ".m4a", ".aac", ".wma", ".aif", ".aiff"),
    *(".aifc", ".au", ".snd", ".wave", ".w64", ".rf64", ".bwf", ".caf", ".sd2", ".voc", ".8svx"),
    *(".nist", ".sph", ".avr", ".mp1", ".mp2", ".mpa", ".mpga", ".oga", ".spx", ".weba", ".webm"),
    *(".mka", ".mp4", ".m4b", ".m4r", ".mov", ".3gp", ".3g2", ".adts", ".ac3", ".eac3", ".dts"),
    *(".asf", ".amr", ".awb", ".wv", ".ape", ".mpc", ".mpp", ".mp+", ".tta", ".tak", ".shn"),
    *(".dsf", ".dff", ".mlp", ".thd", ".ra", ".rm", ".oma", ".omg", ".aa3", ".gsm", ".m4p", ".aax"),
    *(".aa", ".f4a", ".f4b", ".3ga", ".isma", ".ogx", ".m2a", ".ec3", ".ac4", ".dtshd"),
    *(".truehd", ".aea", ".adx", ".hca", ".afc", ".aptx", ".aptxhd", ".sbc", ".msbc", ".lc3"),
    *(".lbc", ".c2", ".loas", ".latm", ".amrnb", ".amrwb", ".qcp", ".dss", ".bonk", ".rka"),
    *(".osq", ".qoa", ".mac"),
    *(".apl", ".vqf", ".vqe", ".vql", ".laf", ".iamf", ".ircam", ".sf", ".sox", ".sln", ".pvf"),
    *(".paf", ".ast", ".wve", ".wsd", ".rso", ".mmf", ".dfpwm", ".vag", ".xwma"),
)
SHOWN = ", ".join((*EXTENSIONS[:10], "..."))  # for messages
KNOWN = frozenset(EXTENSIONS)
# Folders that operating systems and storage devices create; compared without case.
SYSTEM = {
    *("__macosx", "@eadir", "@recycle", "@recently-snapshot", "#recycle", "#snapshot"),
    *("$recycle.bin", "recycler", "system volume information", "lost+found"),
    "network trash folder",
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
            paths = [*dict.fromkeys(paths)]  # several folders may contain one
            shown = ", ".join(format_path(path) for path in paths[:EXAMPLES])
            more = f" and {len(paths) - EXAMPLES} more" * (len(paths) > EXAMPLES)
            lines.append(f"skipped {shown}{more}: {reason}")
        return lines


def find_audio_files(
    folder: str | Path,
    skipped: Skipped | None = None,
    marker: str = "",
    elsewhere: Iterable[str] = (),
) -> Iterator[Path]:
    """Find the files in a folder and its subfolders whose names end in one of EXTENSIONS.

    Symbolic links are followed, after all that can be found without them, and each folder is
    searched once. Links to a folder that contains this one are not followed. Hidden files and
    folders, and those of the operating system, are skipped; and so are pipes, sockets and devices.

    Args:
        folder: the folder; nothing is found if it is none.
        skipped: is told what is left out.
        marker: subfolders that hold a file of this name are skipped.
        elsewhere: real paths of further folders that are not to be searched.
    """
    if not os.path.isdir(folder):  # noqa: PTH112
        return
    search = _Search(
        str(folder),
        Skipped() if skipped is None else skipped,
        marker,
        {*elsewhere, *list_parents(folder)} - {os.path.realpath(folder)},
    )
    found = []
    # Real folders come first, so that each file is found under its real path.
    search.links.append(str(folder))
    while search.links:
        for path in search.walk(heapq.heappop(search.links)):
            found.append(path)
            yield Path(path)
    yield from search.follow_files(found)


@dataclass
class _Search:
    """The state of `find_audio_files`.

    Folders are distinguished by their real paths: on some file systems, all have the inode 0.
    """

    top: str
    skipped: Skipped
    marker: str
    searched: set[str]  # real paths of folders
    links: list[str] = field(default_factory=list)  # to folders; a heap
    linked_files: list[str] = field(default_factory=list)

    def walk(self, start: str) -> Iterator[str]:
        """Find the files in a folder without following links, which are kept for later."""
        folders = [(start, os.path.realpath(start))]
        while folders:
            folder, real = folders.pop()
            if real in self.searched:
                self.skipped.paths[LINK_TO_FOLDER].append(folder)
                continue
            self.searched.add(real)
            marker = self.marker if folder != self.top else ""
            for entry in _list_folder(folder, self.skipped, marker):
                if not is_folder(entry):
                    yield from self._take_file(entry)
                elif is_system_folder(entry.name):
                    self.skipped.paths[HIDDEN].append(entry.path)
                elif entry.is_symlink():
                    heapq.heappush(self.links, entry.path)
                else:
                    folders.append((entry.path, os.path.join(real, entry.name)))  # noqa: PTH118

    def _take_file(self, entry: os.DirEntry[str]) -> Iterator[str]:
        """Yield the path of an entry if it is an audio file, and no link to one."""
        ending = os.path.splitext(entry.name)[1].lower()  # noqa: PTH122
        if entry.name.startswith("."):
            if ending in KNOWN:
                self.skipped.paths[HIDDEN].append(entry.path)
        elif ending not in KNOWN:
            self.skipped.extensions[ending if ending[1:].isalnum() else ""] += 1
        elif entry.is_symlink():
            self.linked_files.append(entry.path)
        elif entry.is_file():
            yield entry.path
        else:
            self.skipped.paths[explain_irregular(entry.path)].append(entry.path)

    def follow_files(self, found: Iterable[str]) -> Iterator[Path]:
        """Yield the links to files that are not found anyway."""
        real = {os.path.realpath(path) for path in found} if self.linked_files else set()
        for path in sorted(self.linked_files):
            # A link that leads nowhere is found: its music is missing, which has to be seen.
            fault = explain_irregular(path) if os.path.exists(path) else ""  # noqa: PTH110
            target = os.path.realpath(path)
            if target in real:
                fault = "a link to a file that is found anyway"
            if fault:
                self.skipped.paths[fault].append(path)
                continue
            real.add(target)
            yield Path(path)


def list_parents(folder: str | Path) -> set[str]:
    """List the real paths of a folder and of those that contain it."""
    real = Path(os.path.realpath(folder))
    return {str(place) for place in (real, *real.parents)}


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
