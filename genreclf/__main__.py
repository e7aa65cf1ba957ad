"""The command line: `genreclf COMMAND [Hydra options and overrides]`."""

import difflib
import importlib
import io
import os
import sys
from dataclasses import dataclass
from importlib.metadata import version

USAGE = """\
genreclf: music genre classification

{commands}

Commands take Hydra overrides (data=folder batch_size=32); predict and similar take plain
options. genreclf COMMAND --help lists them."""


@dataclass(frozen=True)
class Command:
    """A sub-command: module `genreclf.<name>` with a function `run(config)`."""

    config: str | None  # name of the primary config in conf/; None: no Hydra, plain arguments
    summary: str
    example: str


COMMANDS = {
    "download": Command(
        "download",
        "download, verify and unpack a public dataset",
        "genreclf download data=fma_small",
    ),
    "prepare": Command(
        "prepare",
        "decode audio and store its features",
        "genreclf prepare data=folder data.root=music",
    ),
    "train": Command(
        "config",
        "train and test a model and report the result; -m runs a sweep",
        "genreclf train data=folder data.root=music split=artist\n"
        "  genreclf train -m model=cnn_gru,efficient_cnn seed=0,1,2",
    ),
    "study": Command(
        "study",
        "run several sweeps (phases), each starting from the previous one's winner",
        "genreclf study study=paper data=fma_small\n  genreclf study --status",
    ),
    "evaluate": Command(
        "evaluate",
        "test a trained model on any data that has its genres",
        "genreclf evaluate checkpoint=RUN/best.ckpt data=folder data.root=music",
    ),
    "predict": Command(
        None,
        "predict the genres of audio files",
        "genreclf predict music --format json",
    ),
    "embed": Command(
        "embed",
        "write the embeddings of a music library as Parquet or npz",
        "genreclf embed data.root=music file=library.parquet",
    ),
    "similar": Command(
        None,
        "find the tracks of a library that sound most like a file",
        "genreclf similar song.mp3 --library library.parquet",
    ),
    "export": Command(
        "export",
        "export a trained model for sharing, calibrated and with a model card",
        "genreclf export checkpoint=RUN/best.ckpt folder=my_model",
    ),
    "report": Command(
        "report",
        "write an HTML page for a run, for many runs, or for a study",
        "genreclf report runs=outputs/train page=report.html",
    ),
    "summary": Command(
        "summary",
        "collect finished runs in a CSV file, and make a table from it",
        "genreclf summary runs=outputs/train file=results.csv",
    ),
    "wandb_sweep": Command(
        None,
        "print the YAML of a W&B sweep, whose agents run genreclf train",
        "genreclf wandb_sweep model=cnn_gru,efficient_cnn \\\n"
        "    'optimizer.lr=tag(log, interval(1e-4, 1e-2))' > sweep.yaml",
    ),
    "dashboard": Command(
        "dashboard",
        "build the paper's figures as a W&B workspace",
        "genreclf dashboard group=STUDY job_type=grid",
    ),
    "network": Command(
        "network",
        "draw the structure of a model",
        "genreclf network model=cnn_gru file=network.pdf",
    ),
    "spectrogram": Command(
        "spectrogram",
        "draw the features of a clip, and what a model predicts from them",
        "genreclf spectrogram clip=a.mp3 features=mel checkpoint=RUN/best.ckpt",
    ),
}


def main() -> None:
    """Run the command line; a reader that stops early, such as `| head`, is no error."""
    _accept_any_name()
    try:
        run_command()
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for the flush at exit
        sys.exit(1)


def _accept_any_name() -> None:
    """Print names of files that the terminal's encoding lacks, or that are not UTF-8.

    In UTF-8, bytes that are not are printed unchanged, so that a printed path can be used. In other
    encodings, what they lack is escaped. Processes that this one starts do the same.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            utf8 = stream.encoding.lower().replace("-", "") == "utf8"
            errors = "surrogateescape" if utf8 else "backslashreplace"
            stream.reconfigure(errors=errors)
            os.environ["PYTHONIOENCODING"] = f"{stream.encoding}:{errors}"


def run_command() -> None:
    """Run the command line. Exit status: 0 done, 1 failed, 2 wrong usage, 130 interrupted."""
    name = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if name == "--version":
        print(version("genreclf"))
        return
    if name in ("-h", "--help", "help"):
        lines = (f"  {name:<13}{command.summary}" for name, command in COMMANDS.items())
        print(USAGE.format(commands="\n".join(lines)))
        return
    if name not in COMMANDS:
        near = difflib.get_close_matches(name, COMMANDS, 1)
        hint = f"did you mean {near[0]}?" if near else f"choose one of {', '.join(COMMANDS)}"
        print(f"genreclf: no command {name}; {hint}", file=sys.stderr)
        sys.exit(2)
    command = COMMANDS[name]
    arguments = sys.argv[2:]
    if {"-h", "--help"} & set(arguments):
        print(f"genreclf {name}: {command.summary}\n\n  {command.example}\n", flush=True)
    if command.config is None:
        sys.exit(importlib.import_module(f"genreclf.commands.{name}").main(arguments))
    from genreclf.commands import hydra_app  # imports Hydra; not needed above

    hydra_app.keep_interrupts()
    hydra_app.run(name, command.config, arguments)


if __name__ == "__main__":
    main()
