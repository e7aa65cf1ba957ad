"""Runs one command as a Hydra application, and reports errors in one line."""

import _thread
import errno
import importlib
import os
import re
import signal
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable
from functools import cache
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from genreclf.commands.arguments import (
    UsageError,
    arrange_arguments,
    check_arguments,
    drop_plus,
)
from genreclf.commands.config_keys import check_keys
from genreclf.commands.config_types import check_types
from genreclf.commands.feature_parts import expand_parts
from genreclf.commands.instantiation import locate_target
from genreclf.commands.optuna_sweeper import register_sweeper
from genreclf.commands.own_parts import (
    list_hidden_options,
    make_targets_importable,
    register_options,
)
from genreclf.commands.packed.launcher import register_launcher
from genreclf.commands.path_overrides import quote_paths
from genreclf.commands.run_folder import keep_log
from genreclf.commands.run_name import add_sweep_settings
from genreclf.commands.user_errors import (
    USER_ERRORS,
    explain_error,
    explain_override,
    was_raised_by_launcher,
)
from genreclf.errors import InputError
from genreclf.paths import format_path
from genreclf.training import launch
from genreclf.trust import find_targets, list_own_targets

CONF = "pkg://genreclf.conf"
DISK_ERRORS = {
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EPERM, errno.EROFS),
    *(errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.ELOOP),
}


def keep_interrupts() -> None:
    """Raise Ctrl-C again if it arrives in a finaliser, where Python would report and drop it."""
    report = sys.unraisablehook

    def hook(unraisable: Any) -> None:
        if isinstance(unraisable.exc_value, KeyboardInterrupt):
            threading.Thread(target=interrupt_later, daemon=True).start()
        else:
            report(unraisable)

    def interrupt_later() -> None:
        while _is_running(hook):  # where the interrupt would be dropped once more
            time.sleep(0.01)
        _interrupt_main()

    sys.unraisablehook = hook


def _is_running(function: Callable[..., Any]) -> bool:
    """Whether the main thread is inside this function."""
    frame = sys._current_frames().get(threading.main_thread().ident or 0)
    while frame is not None and frame.f_code is not function.__code__:
        frame = frame.f_back
    return frame is not None


def _interrupt_main() -> None:
    """Send Ctrl-C to the main thread, and wake it if it sleeps or waits."""
    thread = threading.main_thread().ident
    if thread is not None and hasattr(signal, "pthread_kill"):
        signal.pthread_kill(thread, signal.SIGINT)
    else:  # Windows
        _thread.interrupt_main()


def run(name: str, config_name: str, arguments: list[str]) -> None:
    """Run the command `name` with these Hydra arguments; exit if it fails."""
    register_options()
    register_sweeper()
    register_launcher()
    try:
        check_arguments(arguments)
        arguments = quote_paths(arguments, config_name)
    except InputError as error:
        _fail(str(error), 2 if isinstance(error, UsageError) else 1)
    if name == "train" and {"-m", "--multirun"} & set(arguments):
        arguments = add_sweep_settings(arguments)
    sys.argv = [f"genreclf {name}", *arrange_arguments(arguments)]
    # Hydra then raises its errors instead of printing them.
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")

    def task(config: DictConfig) -> Any:
        try:
            prepare_job(name, config)
            command = importlib.import_module(f"genreclf.commands.{name}")
            with keep_log():
                return command.run(config)
        except USER_ERRORS as error:
            message = explain_error(error)
            if HydraConfig.get().mode == RunMode.MULTIRUN:  # let the other jobs finish first
                print(f"genreclf: {format_path(message)}", file=sys.stderr)
                raise InputError(message) from None  # a cause is lost between processes
            _fail(message)

    try:
        hydra.main(CONF, config_name, version_base="1.3")(task)()
    except USER_ERRORS as error:
        plain = drop_plus(str(error), arguments)
        if plain != arguments:
            run(name, config_name, plain)
            return
        _fail(explain_override(error, name, config_name, arguments))
    except ValueError as error:
        if "Only one of --run" in str(error):
            _fail("-m runs a sweep and --cfg prints the config: leave out one of them")
        if "Config group override" in str(error):
            _fail("a group has no option null; most groups have one called none (see --help)")
        if not was_raised_by_launcher(error):
            raise
        _fail(f"hydra/launcher: {explain_error(error)}")
    except OSError as error:
        if error.errno not in DISK_ERRORS and not _is_about_new_folder(error):
            raise
        place = f"{error.filename}: " if error.filename else ""
        _fail(
            f"{place}{os.strerror(error.errno or 0)}; correct that, or choose another place: "
            "outputs=..."
        )
    except KeyboardInterrupt:
        _fail("interrupted; the same command continues from here", 130)
    except Exception as error:
        if not was_raised_by_launcher(error):
            raise
        _fail(f"hydra/launcher: {explain_error(error)}")
    finally:
        _stop_idle_workers()


def prepare_job(name: str, config: DictConfig) -> None:
    """Check the config of a job, and make what it names importable.

    Raises:
        InputError: a key or a value is wrong.
    """
    hydra_config = HydraConfig.get()
    for line in list_hidden_options(hydra_config):
        _print_once(f"genreclf: {line}")
    expand_parts(config, str(hydra_config.job.config_name))
    make_targets_importable(config, hydra_config)
    for key, target in find_targets(OmegaConf.to_container(config)):
        if "${" not in target and list_own_targets({"_target_": target}):
            locate_target(key, target)
    check_keys(config, hydra_config)
    check_types(config, hydra_config)
    _check_mode(name, hydra_config)
    if config.get("fast"):
        from genreclf.audio.cores import keep_memory  # imports NumPy

        keep_memory()
    _quiet_lightning()


def _stop_idle_workers() -> None:
    """Stop the idle workers of hydra/launcher=joblib: a study would wait minutes for them."""
    if "hydra_plugins.hydra_joblib_launcher._core" in sys.modules:
        loky = importlib.import_module("joblib.externals.loky")
        loky.get_reusable_executor(reuse=True).shutdown(kill_workers=True)


def _quiet_lightning() -> None:
    """Hide warnings of Lightning and Matplotlib that help nobody."""
    for message in (
        "(?s).*exists and is not empty.*",  # a run's folder holds more than checkpoints
        ".*does not have many workers.*",  # a batch is read in a few milliseconds
        ".*LeafSpec.*is deprecated.*",
        ".*in eval mode at the start of training.*",  # init.frozen
        "Glyph .* missing from font.*",  # figures show a box; a run has hundreds of these lines
    ):
        warnings.filterwarnings("ignore", message)


def _is_about_new_folder(error: OSError) -> bool:
    """Whether a folder could not be created: /proc then says that it does not exist."""
    frames = [frame.f_code.co_name for frame, _ in traceback.walk_tb(error.__traceback__)]
    return bool(error.errno) and frames[-1] in ("mkdir", "makedirs")


def _fail(message: str, status: int = 1) -> None:
    print(f"genreclf: {format_path(message)}", file=sys.stderr)
    sys.exit(status)


def _check_mode(name: str, hydra_config: Any) -> None:
    """Refuse a sweep without -m, and options that belong to other commands.

    Raises:
        InputError: what was asked for would not be done.
    """
    choices = hydra_config.runtime.choices
    if choices.get("debug") and name != "train":
        raise InputError("debug=... is for genreclf train")
    sweeper = choices["hydra/sweeper"]
    if sweeper != "basic" and name == "study":
        raise InputError(f"hydra/sweeper={sweeper}: a study runs each point of its phases")
    if hydra_config.mode == RunMode.MULTIRUN or launch.is_child() or name == "study":
        return
    if sweeper != "basic":
        raise InputError(f"hydra/sweeper={sweeper} is for a sweep: add -m")
    from genreclf.evaluation.runs import get_key  # imports NumPy

    for text in hydra_config.overrides.hydra:
        key = get_key(text).replace("/", ".")
        if key.startswith("hydra.launcher") or re.match(r"hydra\.sweeper\.(?!params\b)", key):
            _print_once(f"genreclf: {text} has no effect without -m: it is for a sweep")
    given = [get_key(text) for text in hydra_config.overrides.task]
    if swept := [key for key in hydra_config.sweeper.params or {} if key not in given]:
        raise InputError(f"phase={choices.get('phase')} is a sweep over {', '.join(swept)}: add -m")


@cache
def _print_once(line: str) -> None:
    """Print a line on standard error, once for all runs of a sweep."""
    print(line, file=sys.stderr)
