"""The templates of the reports."""

import re

from jinja2 import Environment, PackageLoader, Template

MARKDOWN = re.compile(r"([\\`*_{}\[\]<>|~])")  # letters that would be marks


def template(name: str) -> Template:
    """The template of this name; what it shows is escaped, in Markdown by the filter `md`."""
    environment = Environment(
        loader=PackageLoader("genreclf.report", "."),
        autoescape=lambda name: name is None or ".md" not in name,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["percent"] = lambda share: f"{100 * share:.2f}"
    environment.filters["md"] = lambda text: MARKDOWN.sub(r"\\\1", " ".join(text.split()))
    return environment.get_template(name)
