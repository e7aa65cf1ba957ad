"""Runs one command as a Hydra application, and reports errors in one line."""

import _thread
import difflib
import errno
import importlib
import logging
import os
import re
import signal
import sys
import threading
import traceback
import warnings
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, OverrideParseException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from genreclf.commands.run_folder import keep_log
from genreclf.commands.run_name import add_sweep_settings
from genreclf.errors import InputError, format_error

CONF = "pkg://genreclf.conf"
USER_ERRORS = (InputError, HydraException, OmegaConfBaseException, MemoryError)
# Flags of genreclf study: --status sets status=true. Two of them create no output folder.
FLAGS = {"status": ["hydra.run.dir=."], "estimate": ["hydra.run.dir=."], "retry": []}
LAUNCHER_EXTRAS = {"joblib": "joblib", "ray": "ray", "submitit": "slurm"}  # our extras
DISK_ERRORS = {
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EPERM, errno.EROFS),
    *(errno.ENOTDIR, errno.EEXIST),
}


def keep_interrupts() -> None:
    """Raise Ctrl-C again if it arrives in a finaliser, where Python would report and drop it."""
    report = sys.unraisablehook

    def hook(unraisable: Any) -> None:
        if isinstance(unraisable.exc_value, KeyboardInterrupt):
            threading.Timer(0.01, _interrupt_main).start()  # after the finaliser
        else:
            report(unraisable)

    sys.unraisablehook = hook


def _interrupt_main() -> None:
    """Send Ctrl-C to the main thread, and wake it if it sleeps or waits."""
    thread = threading.main_thread().ident
    if thread is not None and hasattr(signal, "pthread_kill"):
        signal.pthread_kill(thread, signal.SIGINT)
    else:  # Windows
        _thread.interrupt_main()


def run(name: str, config_name: str, arguments: list[str]) -> None:
    """Run the command `name` with these Hydra arguments; exit if it fails."""
    if name == "train" and {"-m", "--multirun"} & set(arguments):
        arguments = add_sweep_settings(arguments)
    sys.argv = [f"genreclf {name}", *_arrange_arguments(arguments)]
    # Hydra then raises its errors instead of printing them.
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")

    def task(config: DictConfig) -> None:
        try:
            _check_types(config, config_name)
            if config.get("fast"):
                from genreclf.audio.workers import keep_memory  # imports NumPy

                keep_memory()
            command = importlib.import_module(f"genreclf.commands.{name}")
            _quiet_lightning()  # after its import, which sets the level itself
            with keep_log():
                command.run(config)
        except USER_ERRORS as error:
            message = explain_error(error)
            if HydraConfig.get().mode == RunMode.MULTIRUN:  # let the other jobs finish first
                print(f"genreclf: {message}", file=sys.stderr)
                raise InputError(message) from None  # a cause is lost between processes
            _fail(message)

    try:
        hydra.main(CONF, config_name, version_base="1.3")(task)()
    except USER_ERRORS as error:
        _fail(explain_error(error) + suggest_key(str(error), name, config_name))
    except ValueError as error:
        if "Config group override" not in str(error):
            raise
        _fail("a group has no option null; most groups have one called none (see --help)")
    except OSError as error:
        if error.errno is None or error.errno not in DISK_ERRORS:
            raise
        place = f"{error.filename}: " if error.filename else ""
        _fail(
            f"{place}{os.strerror(error.errno)}; correct that, or choose another place: outputs=..."
        )
    except KeyboardInterrupt:
        _fail("interrupted; the same command continues from here", 130)
    except Exception as error:
        if not _was_raised_by_launcher(error):
            raise
        _fail(f"hydra/launcher: {explain_error(error)}")
    finally:
        _stop_idle_workers()


def _arrange_arguments(arguments: list[str]) -> list[str]:
    """Turn our flags into overrides, and move -m to the front, where Hydra expects it."""
    for flag, settings in FLAGS.items():
        if f"--{flag}" in arguments:
            others = (text for text in arguments if text != f"--{flag}")
            arguments = [*others, f"{flag}=true", *settings]
    return sorted(arguments, key=lambda argument: argument not in ("-m", "--multirun"))


def _stop_idle_workers() -> None:
    """Stop the idle workers of hydra/launcher=joblib: a study would wait minutes for them."""
    if "hydra_plugins.hydra_joblib_launcher._core" in sys.modules:
        loky = importlib.import_module("joblib.externals.loky")
        loky.get_reusable_executor(reuse=True).shutdown(kill_workers=True)


def _quiet_lightning() -> None:
    """Hide Lightning's warnings about things that are intended."""
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    for message in (
        ".*exists and is not empty.*",  # a run's folder holds more than checkpoints
        ".*does not have many workers.*",  # a batch is read in a few milliseconds
        ".*LeafSpec.*is deprecated.*",
    ):
        warnings.filterwarnings("ignore", message)


def _fail(message: str, status: int = 1) -> None:
    print(f"genreclf: {message}", file=sys.stderr)
    sys.exit(status)


def _was_raised_by_launcher(error: Exception) -> bool:
    """Whether the launcher itself failed; an error in a job is re-raised outside it."""
    frames = traceback.walk_tb(error.__traceback__)
    return any(frame.f_globals["__name__"].startswith("hydra_plugins.") for frame, _ in frames)


def explain_error(error: BaseException) -> str:
    """Describe an error in one line for the user."""
    if isinstance(error, MemoryError):  # outside training, which reports its own
        return "memory ran out; end other programs, or use fewer processes: workers=1 num_workers=0"
    # Ray and submitit report an error in a job as the text of its traceback.
    raised = re.findall(r"^[\w.]+(?:Error|Exception): (.+)$", str(error), re.MULTILINE)
    text = raised[-1] if raised else format_error(error)
    if missing := re.search(r"Missing mandatory value: (\S+)", text):
        return f"{missing[1]}=... is needed"
    launcher = re.search(r"Could not find 'hydra/launcher/(([a-z]+)\w*)'", text)
    if launcher and launcher[2] in LAUNCHER_EXTRAS:
        extra = LAUNCHER_EXTRAS[launcher[2]]
        return f"hydra/launcher={launcher[1]} is not installed: pip install 'genreclf[{extra}]'"
    for technical in ("Config search path", "To append to your", "full_key:", "See https://hydra"):
        text = text.partition(technical)[0]
    if isinstance(error, OverrideParseException):
        text += " (quote what holds = , [ ] { } ~ or spaces: 'key=\"value\"')"
    return text.strip()


def suggest_key(message: str, name: str, config_name: str) -> str:
    """Suggest a known key that resembles the mistyped one."""
    mistyped = re.search(r"Could not override '([^']+)'", message)
    if not mistyped:
        return ""
    with hydra.initialize_config_module("genreclf.conf", version_base="1.3"):
        known = _list_keys(OmegaConf.to_container(hydra.compose(config_name)))
    near = difflib.get_close_matches(mistyped[1], known, 1)
    if near and near[0] != mistyped[1]:
        return f" Did you mean {near[0]}?"
    return f" genreclf {name} --help lists the keys."


def _list_keys(config: Any, prefix: str = "") -> list[str]:
    if not isinstance(config, dict):
        return []
    names = [name for name in config if not name.startswith("_")]
    return [
        key
        for name in names
        for key in (prefix + name, *_list_keys(config[name], f"{prefix}{name}."))
    ]


def _check_types(config: DictConfig, config_name: str) -> None:
    """Refuse a value whose type differs from its default's: the YAML files are the schema.

    Raises:
        InputError: a value has the wrong type.
    """
    choices = HydraConfig.get().runtime.choices
    chosen = [f"{g}={c}" for g, c in choices.items() if c and not g.startswith("hydra/")]
    default = hydra.compose(config_name, chosen)
    for key in _list_keys(OmegaConf.to_container(default)):
        expected, value = OmegaConf.select(default, key), OmegaConf.select(config, key)
        if OmegaConf.is_dict(expected) and not OmegaConf.is_dict(value):
            group = next((g for g in choices if g.rpartition("@")[2] == key), key)
            raise InputError(
                f"{key}={value}: it is a group of settings; choose an option: {group}=..."
            )
        if value is None and expected is not None and _may_be_null(key, config_name):
            continue  # set by an experiment, and null without one
        numeric = isinstance(expected, int | float) and not isinstance(expected, bool)
        kinds = (int, float) if isinstance(expected, float) else (type(expected),)
        if isinstance(expected, bool | int | float) and type(value) not in kinds:
            number = "a number" if float in kinds else "an integer"
            kind = number if numeric else "true or false"
            raise InputError(f"{key}={value}: {kind} is needed (the default is {expected})")


def _may_be_null(key: str, config_name: str) -> bool:
    plain = hydra.compose(config_name)
    known = _list_keys(OmegaConf.to_container(plain))
    return key in known and OmegaConf.select(plain, key) is None
