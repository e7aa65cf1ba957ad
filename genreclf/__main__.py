"""The command line: `genreclf COMMAND [Hydra options and overrides]`."""

import difflib
import importlib
import re
import signal
import sys
from dataclasses import dataclass
from importlib.metadata import version

from genreclf.commands import streams
from genreclf.errors import InputError

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
    streams.set_up_streams()
    _end_with_terminal()
    try:
        try:
            run_command()
        finally:
            streams.check_output()
    except InputError as error:  # the output cannot be written
        _fail(str(error))
    except BrokenPipeError:
        streams.discard_output()  # for the flush at exit
        sys.exit(1)
    except FileNotFoundError as error:
        if "usable temporary directory" not in str(error):
            raise
        _fail("no folder for temporary files: set TMPDIR to one that can be written")
    except ImportError as error:  # also where memory is limited: a library cannot be loaded
        if not re.search("cannot allocate memory|failed to map segment", str(error), re.I):
            raise
        _fail("memory ran out while libraries were loaded; end other programs, or allow more")


def _fail(message: str) -> None:
    print(f"genreclf: {message}", file=sys.stderr)
    sys.exit(1)


def _end_with_terminal() -> None:
    """Clean up when the terminal is closed, unless this is to be ignored, as under nohup."""
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) == signal.SIG_DFL:
        signal.signal(signal.SIGHUP, lambda number, _: sys.exit(128 + number))


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
