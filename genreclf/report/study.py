"""The report of a study: which sections it has, written as HTML and as Markdown."""

import re
from collections.abc import Callable
from pathlib import Path

from genreclf.evaluation.runs import PAGE
from genreclf.files import write_text
from genreclf.report import (
    study_artists,
    study_data,
    study_enhancement,
    study_final,
    study_grid,
    study_head,
    study_models,
    study_notes,
    study_tuning,
)
from genreclf.report.section import Report, Section
from genreclf.report.templates import template
from genreclf.studies.study import Study

MARKDOWN, FIGURES = "report.md", "figures"
PAPER: list[tuple[str, list[Callable[[Study], Section]]]] = [  # by phase, in the paper's order
    ("features", [study_data.audio, study_data.clip, study_data.features]),
    ("models", [study_models.structure, study_models.models]),
    ("batch_size", [study_tuning.batch_size]),
    ("learning_rate", [study_tuning.learning_rate]),
    ("optimizer", [study_tuning.optimizer, study_tuning.scheduler]),
    ("grid", [study_grid.top, study_grid.impact]),
    ("enhancement", [study_enhancement.augmentation, study_enhancement.enhancement]),
    ("final", [study_final.final, study_final.confusion, study_final.roc]),
    ("splits", [study_artists.artists]),
]


def write_study(study: Study, folder: Path) -> Path:
    """Write `report.html`, `report.md` and `figures/*.svg` into a folder; the path of the first."""
    report = assemble(study, folder)
    for section in report.sections:
        for picture in section.pictures:
            write_text(folder / FIGURES / f"{picture.name}.svg", picture.svg)
    write_text(folder / MARKDOWN, template("study.md.j2").render(report=report, figures=FIGURES))
    write_text(folder / PAGE, template("study.html.j2").render(report=report, inline=inline))
    return folder / PAGE


def assemble(study: Study, folder: Path) -> Report:
    """All that is to be said; a phase without runs says so."""
    names = [phase.name for phase in study.phases]
    known = {name for name, _ in PAPER}
    sections = [
        study_head.facts(study),
        study_head.summary(study),
        *(section(study) for name, group in PAPER if name in names for section in group),
        *(study_notes.phase_of_ones_own(p) for p in study.phases if p.name not in known),
        study_notes.protocol(study),
        study_notes.rejected(study),
        study_notes.made(study, folder),
    ]
    return Report(
        f"Music genre classification: study “{study.name}”", *study_head.headline(study), sections
    )


def inline(svg: str, caption: str) -> str:
    """For a page of several figures: without the names that each gives to its groups."""
    escaped = caption.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
    plain = re.sub(r'<g id="[^"]*"', "<g", svg)
    return plain.replace("<svg", f'<svg role="img" aria-label="{escaped}"', 1)
