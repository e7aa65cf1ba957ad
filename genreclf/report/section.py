"""What a report consists of, whatever it is rendered to: plain text, tables, figures."""

from dataclasses import dataclass, field
from typing import NamedTuple

PAPER, MEASURED = "paper", "measured"


class Column(NamedTuple):
    """Of a table."""

    name: str
    source: str = ""  # PAPER or MEASURED; empty where it is neither
    text: bool = False  # words, which stand at the left


@dataclass(frozen=True)
class Table:
    """Cells are texts; a short row spans the rest of the table with its last cell."""

    columns: list[Column]
    rows: list[list[str]]


class Picture(NamedTuple):
    """A figure: `name` of its file, SVG text, and what it shows."""

    name: str
    svg: str
    caption: str


@dataclass(frozen=True)
class Section:
    """One table or figure of the paper, with what was measured.

    Args:
        anchor: its name in links.
        title: its heading.
        text: paragraphs before the table.
        table: paper and measurement side by side.
        pictures: the figures.
        notes: where protocols differ, a sentence or two each.
        command: that repeats it; empty where there is none.
    """

    anchor: str
    title: str
    text: list[str] = field(default_factory=list)
    table: Table | None = None
    pictures: list[Picture] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    command: str = ""


@dataclass(frozen=True)
class Report:
    """All that is said of a study; `headline` is its main figure, `lead` the words after it."""

    title: str
    headline: str
    lead: str
    sections: list[Section]
