"""Errors that a user can correct, explained in one line."""

import re
import traceback

import hydra
from hydra.errors import HydraException, OverrideParseException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from genreclf.commands.config_keys import explain_refusal, list_keys, suggest_key
from genreclf.errors import InputError, format_error

USER_ERRORS = (InputError, HydraException, OmegaConfBaseException, MemoryError)
LAUNCHER_EXTRAS = {"joblib": "joblib", "ray": "ray", "submitit": "slurm"}  # our extras


def explain_error(error: BaseException) -> str:
    """Describe an error in one line for the user."""
    if isinstance(error, MemoryError):  # outside training, which reports its own
        return "memory ran out; end other programs, or use fewer processes: workers=1 num_workers=0"
    # Ray and submitit report an error in a job as the text of its traceback.
    raised = re.findall(r"^[\w.]+(?:Error|Exception): (.+)$", str(error), re.MULTILINE)
    text = raised[-1] if raised else format_error(error)
    if missing := re.search(r"Missing mandatory value: (\S+)", text):
        return f"{missing[1]}=... is needed"
    if re.search(r"No supported gpu backend|Accelerator. can not run on your system", text):
        return "trainer.accelerator: this machine has no GPU; add trainer.accelerator=cpu"
    launcher = re.search(r"Could not find 'hydra/launcher/(([a-z]+)\w*)'", text)
    if launcher and launcher[2] in LAUNCHER_EXTRAS:
        extra = LAUNCHER_EXTRAS[launcher[2]]
        return f"hydra/launcher={launcher[1]} is not installed: pip install 'genreclf[{extra}]'"
    for technical in ("Config search path", "To append to your", "full_key:", "See https://hydra"):
        text = text.partition(technical)[0]
    if isinstance(error, OverrideParseException):
        text += " (quote what holds = , [ ] { } ~ or spaces: 'key=\"value\"')"
    return text.strip()


def explain_key(message: str, name: str, config_name: str) -> str:
    """Suggest a known key that resembles the mistyped one, or say why it is refused."""
    mistyped = re.search(r"Could not override '([^']+)'", message)
    if not mistyped:
        return ""
    if reason := explain_refusal(mistyped[1]):
        return f" {reason}"
    with hydra.initialize_config_module("genreclf.conf", version_base="1.3"):
        known = list_keys(OmegaConf.to_container(hydra.compose(config_name)))
    if near := suggest_key(mistyped[1], known):
        return f" D{near[1:]}"
    if "." in mistyped[1] and (hint := re.search(r"To append to your config use .*", message)):
        return f" {hint[0]}"
    return f" genreclf {name} --help lists the keys."


def was_raised_by_launcher(error: Exception) -> bool:
    """Whether the launcher itself failed; an error in a job is re-raised outside it."""
    frames = traceback.walk_tb(error.__traceback__)
    return any(frame.f_globals["__name__"].startswith("hydra_plugins.") for frame, _ in frames)
