"""`genreclf summary`: collect finished runs in a CSV file, and make tables from it."""

from pathlib import Path

from omegaconf import DictConfig, ListConfig

from genreclf import files
from genreclf.errors import InputError
from genreclf.evaluation import runs
from genreclf.report.summary import make_record, make_tables, read_records, write_records
from genreclf.report.templates import render_template


def run(config: DictConfig) -> None:
    """Run the command: write the CSV file and, next to it, the tables; print their path."""
    places = config.runs if isinstance(config.runs, ListConfig) else [config.runs]
    file = Path(str(config.file))
    if file.suffix != ".csv":
        raise InputError(f"file={file}: its name must end in .csv; the tables go next to it")
    records = {record.run: record for record in read_records(file)}
    records |= {record.run: record for record in map(make_record, runs.read_runs(places))}
    ordered = sorted(records.values(), key=lambda r: (r.split, r.settings, r.seed, r.fold))
    page, tables = file.with_suffix(".md"), make_tables(ordered)
    write_records(file, ordered)
    files.write_text(page, render_template("summary.md.j2", tables=tables, file=file.name))
    print(page)
