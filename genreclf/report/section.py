"""The parts of a study's report, whatever they are rendered to: text, tables and figures."""

from dataclasses import dataclass, field
from typing import NamedTuple

PAPER, MEASURED = "paper", "measured"


class Column(NamedTuple):
    """A column of a table.

    Args:
        name: its heading.
        source: `PAPER` or `MEASURED`; empty if it is neither.
        text: whether its cells contain words, which are aligned left.
    """

    name: str
    source: str = ""
    text: bool = False


@dataclass(frozen=True)
class Table:
    """Columns, and rows with a text for each column."""

    columns: list[Column]
    rows: list[list[str]]


class Picture(NamedTuple):
    """A figure: the name of its file, its SVG text, and what it shows."""

    name: str
    svg: str
    caption: str


@dataclass(frozen=True)
class Section:
    """One table or figure of the paper, together with what was measured.

    Args:
        anchor: name for links to it.
        title: heading.
        text: paragraphs before the table.
        table: the paper's values and the measured ones side by side.
        pictures: the figures.
        notes: differences between the protocols, in a sentence or two each.
        command: the command that repeats it; empty if there is none.
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
    """The report of a study.

    Args:
        title: title of the page.
        headline: the main result, such as "63.65 %".
        lead: the sentence that continues the headline.
        sections: in the order of the paper.
    """

    title: str
    headline: str
    lead: str
    sections: list[Section]
