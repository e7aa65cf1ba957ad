"""Finds the user's own options and classes: in installed packages and in folders."""

import os
import sys
from collections.abc import Iterable
from functools import lru_cache
from importlib.machinery import PathFinder
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.plugins import Plugins
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import DictConfig, OmegaConf

from genreclf.commands.compose import find_config_folders, find_option_files, is_own_option
from genreclf.errors import InputError
from genreclf.trust import find_targets

GROUP = "genreclf.conf"  # entry points that name a package's folder of options


class PackageOptions(SearchPathPlugin):
    """Adds the folders of options that installed packages name, after genreclf's own."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Append the folders to Hydra's search path."""
        for value, folder in find_option_folders().items():
            search_path.append(f"{GROUP}:{value}", f"file://{folder}")


def register_options() -> None:
    """Let Hydra find the options of installed packages."""
    Plugins.instance().register(PackageOptions)


@lru_cache
def find_option_folders() -> dict[str, Path]:
    """Find the folders that installed packages name, by the value of the entry point.

    Nothing of a package is imported. Several packages may give their entry points one name. The
    value, such as `mypackage.conf` or `mypackage:conf`, is the path of the folder inside the
    package.
    """
    folders: dict[str, Path] = {}
    entries = entry_points(group=GROUP)
    for entry in sorted(entries, key=lambda entry: (entry.name, entry.value)):
        top, *rest = entry.value.replace(":", ".").split(".")
        spec = find_spec(top)
        places = spec.submodule_search_locations if spec else None
        found = [path for place in places or [] if (path := Path(place, *rest)).is_dir()]
        if found:
            folders[entry.value] = found[0].absolute()
        else:
            print(
                f"genreclf: the entry point {entry.name} = {entry.value} names no folder of an "
                "installed package; its options are left out",
                file=sys.stderr,
            )
    return folders


def list_hidden_options(hydra_config: Any) -> list[str]:
    """Say which of the chosen options have a second file that is not used; one line for each."""
    lines = []
    for choice, option in hydra_config.runtime.choices.items():
        files = find_option_files(hydra_config, choice, option)
        own = is_own_option(choice, option)
        used = "genreclf's own" if own else files[0] if files else None
        lines += [
            f"{choice}={option} is {used}; {file} is not used: rename one of them"
            for file in files[not own :]
        ]
    return lines


def make_targets_importable(config: DictConfig, hydra_config: Any) -> None:
    """Let Python find the modules that the config names, or trusts, in a folder of the user.

    A top-level module that is not installed is looked for in the folders given by `--config-dir`,
    then in the current folder. The folder is added at the end of the module search path, of this
    process and of those that it starts, so it never hides an installed module.

    Raises:
        InputError: a module of a `_target_` is in none of these folders.
    """
    make_importable(config, map(Path, find_config_folders(hydra_config)))


def make_importable(config: DictConfig, given: Iterable[Path]) -> None:
    """Do what `make_targets_importable` does, for the folders given by `--config-dir`."""
    folders = [*given, Path.cwd()]
    trust = config.get("trust")
    trusted = [("trust", str(name)) for name in trust] if OmegaConf.is_list(trust) else []
    for key, target in [*find_targets(OmegaConf.to_container(config)), *trusted]:
        top = target.partition(".")[0]
        if not top.isidentifier() or top in sys.modules or find_spec(top) is not None:
            continue
        holders = [folder for folder in folders if _holds_module(folder, top)]
        if not holders and key == "trust":  # no file may need it
            continue
        if not holders:
            places = " or ".join(str(folder) for folder in folders)
            raise InputError(
                f"{key}={target}: there is no module {top} in {places}, and none is installed; "
                "install its package, or set PYTHONPATH=FOLDER"
            )
        folder = str(holders[0])
        sys.path.append(folder)
        known = os.environ.get("PYTHONPATH")
        os.environ["PYTHONPATH"] = os.pathsep.join([*([known] if known else []), folder])


def _holds_module(folder: Path, name: str) -> bool:
    """Whether a folder holds this module; a folder of options in it is none."""
    spec = PathFinder.find_spec(name, [str(folder)])
    return spec is not None and (spec.origin is not None or any((folder / name).rglob("*.py")))
