"""`genreclf summary`: collect finished runs in a CSV file, and make tables from it."""

from pathlib import Path

from omegaconf import DictConfig, ListConfig

from genreclf import files
from genreclf.errors import InputError
from genreclf.evaluation import runs
from genreclf.locks import hold_lock
from genreclf.paths import name_sibling
from genreclf.report.records import update_records, write_records
from genreclf.report.summary import make_tables
from genreclf.report.templates import render_template


def run(config: DictConfig) -> None:
    """Run the command: write the CSV file and, next to it, the tables; print their path."""
    places = config.runs if isinstance(config.runs, ListConfig) else [config.runs]
    file = Path(str(config.file))
    if file.suffix != ".csv":
        raise InputError(f"file={file}: its name must end in .csv; the tables go next to it")
    page = file.with_suffix(".md")
    for path in (file, page):
        files.check_writable(path, "file")
    found = runs.read_runs(places)
    # Two calls at once would lose each other's lines.
    with hold_lock(name_sibling(file, ".lock", "."), "the same file", "file"):
        records = update_records(file, found)
        tables = make_tables(records)
        write_records(file, records)
        files.write_text(page, render_template("summary.md.j2", tables=tables, file=file.name))
    print(page)
