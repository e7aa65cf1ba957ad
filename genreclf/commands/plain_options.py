"""What the commands with ordinary options, `predict` and `similar`, have in common.

Their options are not composed by Hydra: they answer at once, and take the names of files as a shell
gives them.
"""

import argparse
import logging
import os
import re
import signal
import sys
from collections.abc import Callable, Iterable, Sequence
from importlib.util import find_spec
from pathlib import Path

from genreclf.errors import InputError
from genreclf.paths import format_path, locate_path

FEW = 8  # files, for which workers need not have imported librosa, which few features use
OPTIONS = {  # by the keys of the config that stand for them in messages
    **{name: name for name in ("checkpoint", "device", "map", "outputs", "overlap", "threshold")},
    "data.root": "library",
    "store": "outputs",
}


def run_command(run: Callable[[argparse.Namespace], int], options: argparse.Namespace) -> int:
    """Run a command, and report in one line what ends it; returns the exit status.

    Warnings are lines on standard error. Messages name the options that the user has typed.
    """
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    log, handler = logging.getLogger("genreclf"), logging.StreamHandler()
    handler.format = lambda record: f"genreclf: {_name_flags(record.getMessage(), vars(options))}"
    log.addHandler(handler)
    try:
        return run(options)
    except InputError as error:
        message = format_path(_name_flags(str(error), vars(options)))
        print(f"genreclf: {message}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # as in `genreclf predict ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        print("genreclf: interrupted", file=sys.stderr)
        return 130
    finally:
        log.removeHandler(handler)
        signal.signal(signal.SIGTERM, before)


def _name_flags(text: str, options: Iterable[str]) -> str:
    """Replace keys of the config in a message by the options that stand for them."""
    text = re.sub(
        r"trust=\[([^\]]+)\]",
        lambda found: " ".join(f"--trust {name}" for name in found[1].split(",")),
        text,
    )
    keys = "|".join(re.escape(key) for key, option in OPTIONS.items() if option in options)
    text = re.sub(rf"(?<![\w./-])({keys})=(?=\S)", lambda found: f"--{OPTIONS[found[1]]} ", text)
    return re.sub("^data\\.root: ", "--library: ", text) if "library" in options else text


def locate_typed(typed: str) -> str:
    """Find the path that was typed, as it is if it exists: see `locate_path`.

    An empty one stays empty, and is answered like a file that cannot be read.
    """
    return typed if not typed or os.path.lexists(typed) else str(locate_path(typed))


def start_processes(trust: Sequence[str], count: int) -> None:
    """Get the processes that decode `count` files ready while this one imports what it needs."""
    find_modules_here(trust)
    from genreclf.audio.processes import start_forkserver

    start_forkserver(for_many=count > FEW)


def find_modules_here(trust: Sequence[str]) -> None:
    """Let Python find trusted modules in the current folder that are not installed."""
    tops = {name.partition(".")[0] for name in trust}
    if any(_is_here(top) and find_spec(top) is None for top in tops if top.isidentifier()):
        sys.path.append(str(Path.cwd()))
        known = os.environ.get("PYTHONPATH")  # of the processes that decode
        os.environ["PYTHONPATH"] = os.pathsep.join([*([known] if known else []), str(Path.cwd())])


def _is_here(module: str) -> bool:
    return Path(f"{module}.py").is_file() or any(Path(module).glob("**/*.py"))


def add_trust(parser: argparse.ArgumentParser, use: str) -> None:
    """Add the option --trust; `use` says what a trusted package's code is for."""
    parser.add_argument(
        "--trust",
        action="append",
        default=[],
        metavar="PACKAGE",
        help=f"a package whose code {use} if it is not part of genreclf: an installed one, or "
        "a module of the current folder",
    )


def add_format(parser: argparse.ArgumentParser, formats: Iterable[str]) -> None:
    """Add the option --format; the default is a table."""
    parser.add_argument(
        "--format", choices=list(formats), default="table", help="output format (default: table)"
    )


def parse_positive(text: str) -> int:
    """Parse a whole number of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text}: a whole number of at least 1 is needed")
    return int(text)
