"""The documentation's pages, taken apart: fenced blocks, inline commands, files to write."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(
    r"(?:<!-- (?P<note>.*?) -->\n)?^```(?P<language>\S*)\n(?P<text>.*?)^```$", re.M | re.S
)
SEPARATORS = {"|", ">", "&&", ";"}


@dataclass(frozen=True)
class Block:
    """A fenced block, and what the HTML comment before it says."""

    page: Path
    language: str
    text: str
    note: str


@dataclass(frozen=True)
class Command:
    """One command of a page, as a shell splits it."""

    page: Path
    words: tuple[str, ...]

    def __str__(self) -> str:
        return shlex.join(self.words)


def read_blocks(page: Path) -> list[Block]:
    """All fenced blocks of a page."""
    return [
        Block(page, found["language"], found["text"], found["note"] or "")
        for found in FENCE.finditer(page.read_text())
    ]


def read_commands(page: Path) -> list[Command]:
    """The commands in `bash` blocks, line by line."""
    lines = [
        line
        for block in read_blocks(page)
        if block.language == "bash"
        for line in block.text.replace("\\\n", " ").splitlines()
    ]
    return [Command(page, words) for line in lines for words in split_line(line)]


def split_line(line: str) -> list[tuple[str, ...]]:
    """The commands of a line; a file that output goes to is not one."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|>;&")
    lexer.whitespace_split = True
    words, commands, skipped = list[str](), list[tuple[str, ...]](), False
    for word in [*lexer, ";"]:
        if word not in SEPARATORS:
            words.append(word)
            continue
        if words and not skipped:
            commands.append(tuple(words))
        words, skipped = [], word == ">"
    return commands


def read_inline_commands(page: Path) -> list[Command]:
    """Commands between single backticks, such as those in tables."""
    prose = FENCE.sub("", page.read_text())
    found = re.findall(r"`(genreclf [^`]+)`", prose)
    return [Command(page, tuple(shlex.split(" ".join(text.split())))) for text in found]


def write_files(page: Path, folder: Path) -> None:
    """Write the blocks that a comment `<!-- file: NAME -->` names."""
    for block in read_blocks(page):
        if block.note.startswith("file: "):
            path = folder / block.note.removeprefix("file: ")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text)
