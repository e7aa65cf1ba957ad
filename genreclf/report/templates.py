"""The Jinja templates of the pages: HTML is always escaped, Markdown by the filter `md`."""

import re
from typing import Any

from jinja2 import Environment, PackageLoader

from genreclf.data.audit import format_groups
from genreclf.report.cells import format_parameters

MARKUP = re.compile(r"([\\`*_{}\[\]<>|~])")  # characters that Markdown would read as markup


def render_template(template: str, **values: Any) -> str:
    """Fill in a template, a file of this package, with these values."""
    environment = Environment(
        loader=PackageLoader("genreclf.report", "."),
        autoescape=lambda name: name is None or ".md" not in name,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["percent"] = lambda share: f"{100 * share:.2f}"
    environment.filters["md"] = lambda text: MARKUP.sub(r"\\\1", " ".join(text.split()))
    environment.filters["format_groups"] = format_groups
    environment.filters["format_parameters"] = format_parameters
    return environment.get_template(template).render(**values)
