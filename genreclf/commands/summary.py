"""`genreclf summary`: finished runs as lines of a CSV file that is kept, and as a table of it."""

from pathlib import Path

from omegaconf import DictConfig, ListConfig

from genreclf import files
from genreclf.errors import InputError
from genreclf.evaluation import runs
from genreclf.report.summary import make_record, make_tables, read_records, write_records
from genreclf.report.templates import template


def run(config: DictConfig) -> None:
    """The command: write the CSV file and the table beside it; print the path of the table."""
    places = config.runs if isinstance(config.runs, ListConfig) else [config.runs]
    file = Path(str(config.file))
    if file.suffix != ".csv":
        raise InputError(
            f"file={file}: a name that ends in .csv is needed; the table lies beside it"
        )
    lines = {line.run: line for line in read_records(file)}
    lines |= {line.run: line for line in map(make_record, runs.find_runs(places))}
    ordered = sorted(lines.values(), key=lambda line: (line.split, line.what, line.seed, line.fold))
    table, parts = file.with_suffix(".md"), make_tables(ordered)
    write_records(file, ordered)
    files.write_text(table, template("summary.md.j2").render(parts=parts, file=file.name))
    print(table)
