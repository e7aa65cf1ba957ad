"""The style of all figures, and how they are written: as SVG text for a page, or to a file.

The colours are Okabe and Ito's, safe for colour-blind readers. Lines also differ in their dashes,
which keeps a greyscale print legible.
"""

import io
import warnings
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from genreclf.errors import InputError
from genreclf.files import check_writable, write_atomically

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#7F7F7F")
DASHES = ("-", "--", "-.", ":")
STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#DDDDDD",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "svg.fonttype": "none",  # text stays text: searchable, and in the reader's font
    "svg.hashsalt": "genreclf",  # the same figure gives the same file
    "pdf.fonttype": 42,  # TrueType, which printers ask for
}
SUFFIXES = (".svg", ".png", ".pdf")


def render_svg(figure: Figure) -> str:
    """Render a figure as SVG text, starting at its `<svg` tag; equal figures give equal text."""
    text = io.StringIO()
    with mpl.rc_context(STYLE):
        figure.savefig(text, format="svg", bbox_inches="tight", metadata={"Date": None})
    return text.getvalue().partition("<svg")[1] + text.getvalue().partition("<svg")[2]


def choose_picture_path(chosen: str | None, default: Path) -> Path:
    """Choose where to write a picture, and check that it can be written.

    Raises:
        InputError: the suffix is not one of `SUFFIXES`, or the file cannot be created.
    """
    path = Path(str(chosen)) if chosen else default
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(f"file={path}: its name must end in {', '.join(SUFFIXES)}")
    check_writable(path, "file" if chosen else "outputs")
    return path


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure atomically, in the format of its suffix; equal figures give equal files."""
    suffix = path.suffix.lower()
    dates: dict[str, Any] = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}
    with mpl.rc_context(STYLE), warnings.catch_warnings(), write_atomically(path, "wb") as file:
        warnings.filterwarnings("ignore", "Glyph .* missing")  # in a title in another script
        dated = {"metadata": dates.get(suffix)}
        figure.savefig(file, format=suffix[1:], bbox_inches="tight", dpi=300, **dated)
