"""The report of a study: its sections in the paper's order, written as HTML and as Markdown."""

import re
from collections.abc import Callable
from pathlib import Path

from genreclf.evaluation.runs import PAGE
from genreclf.files import write_text
from genreclf.report import (
    study_artists,
    study_comparison,
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
from genreclf.report.templates import render_template
from genreclf.studies.settings import TEST
from genreclf.studies.study import Study

MARKDOWN, FIGURES = "report.md", "figures"
PAPER: dict[str, list[Callable[[Study], Section]]] = {  # by phase, in the paper's order
    "features": [
        study_data.build_audio_table,
        study_data.build_clip_figure,
        study_data.build_features_table,
    ],
    "models": [study_models.build_structure_figure, study_models.build_models_table],
    "batch_size": [study_tuning.build_batch_size_table],
    "learning_rate": [study_tuning.build_learning_rate_figure],
    "optimizer": [study_tuning.build_optimizer_figure],
    "scheduler": [study_tuning.build_scheduler_table],
    "grid": [study_grid.build_ranking_table, study_grid.build_impact_figure],
    "enhancement": [
        study_enhancement.build_augmentation_table,
        study_enhancement.build_enhancement_table,
    ],
    TEST: [
        study_final.build_final_table,
        study_final.build_confusion_figure,
        study_final.build_roc_figure,
    ],
    "splits": [study_artists.build_artists_table],
}


def write_study_report(study: Study, folder: Path) -> Path:
    """Write `report.html`, `report.md` and `figures/*.svg`; return the path of the first."""
    report = build_report(study, folder)
    for section in report.sections:
        for picture in section.pictures:
            write_text(folder / FIGURES / f"{picture.name}.svg", picture.svg)
    markdown = render_template("study.md.j2", report=report, figures=FIGURES)
    write_text(folder / MARKDOWN, markdown)
    page = render_template("study.html.j2", report=report, inline_svg=_inline_svg)
    write_text(folder / PAGE, page)
    return folder / PAGE


def build_report(study: Study, folder: Path) -> Report:
    """Build all sections; the section of a phase without runs says so.

    A study that shares no phase with the paper's is not compared with it.
    """
    names = [phase.name for phase in study.phases]
    follows_paper = not PAPER.keys().isdisjoint(names)
    compared = study.metric is None and any(map(study_notes.has_folds, study.phases))
    ranked = study_comparison.rank_tested(study)
    sections = [
        study_head.build_overview_table(study, follows_paper),
        *[study_comparison.build_comparison_table(ranked)] * compared,
        study_head.build_phases_table(study),
        *(build(study) for name, builders in PAPER.items() if name in names for build in builders),
        *(study_notes.build_phase_table(p) for p in study.phases if p.name not in PAPER),
        *[study_notes.list_differences(study)] * follows_paper,
        study_notes.build_rejected_table(study),
        study_notes.describe_provenance(study, folder),
    ]
    title = f"Music genre classification: study “{study.name}”"
    return Report(title, *study_head.build_headline(study, ranked), sections)


def _inline_svg(svg: str, caption: str) -> str:
    """Prepare a figure for a page: label it, and drop group ids, which would not be unique."""
    escaped = caption.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
    plain = re.sub(r'<g id="[^"]*"', "<g", svg)
    return plain.replace("<svg", f'<svg role="img" aria-label="{escaped}"', 1)
