"""Finds the store that a config asks for: the one it names, or the one of its dataset."""

import logging
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from genreclf.audio.cores import check_workers
from genreclf.audio.descriptions import (
    build_features,
    describe_features,
    identify_features,
    locate_features,
)
from genreclf.commands.identity import digest_run
from genreclf.commands.instantiation import instantiate
from genreclf.commands.single_frames import drop_augmentation
from genreclf.data.build_store import (
    StorePlan,
    accept_store,
    plan_store,
    write_store,
)
from genreclf.data.digests import DigestCache
from genreclf.data.preview import split_store
from genreclf.data.recorded_features import read_recorded
from genreclf.data.store import Source, Store, digest_split
from genreclf.errors import InputError
from genreclf.files import digest_values
from genreclf.protocols import Dataset
from genreclf.training.sources import digest_sources

CHOOSE_FEATURES = (
    "features",
    "+features",
    "experiment",
    "init",
    "phase",
)  # prefixes of overrides
PRECOMPUTED = "genreclf.audio.Precomputed"
log = logging.getLogger(__name__)
SPLITS_VERSION = 3  # raise when a split of this package gives other rows: its digest is cached


def find_store(config: DictConfig) -> Store | StorePlan:
    """Return the store if it exists, else a plan for building it.

    Raises:
        InputError: as `plan_config_store`.
    """
    plan = plan_config_store(config)
    return write_store(plan) if isinstance(plan, StorePlan) and plan.path.exists() else plan


def plan_config_store(config: DictConfig) -> Store | StorePlan:
    """Return the store that `store=...` names, if it exists, else a plan of the dataset's store.

    If `store=...` names an existing store, the dataset is not needed. The config then takes over
    the features of the store, unless the user chose some.

    Raises:
        InputError: the named store holds other features than were chosen, or the dataset cannot be
            read or does not suit the features.
    """
    check_workers(config.workers)
    if config.store and Path(str(config.store)).exists():
        store = Store(str(config.store))
        _adopt_features(config, store.source)
        return accept_store(store, instantiate(config.features))
    dataset = instantiate(config.data)
    _adopt_duration(config, dataset)
    _adopt_recorded(config, dataset)
    return plan_store(
        dataset,
        instantiate(config.features),
        outputs=config.outputs,
        path=config.store,
    )


def build_config_store(config: DictConfig) -> Store:
    """The store that the config asks for, built if it is missing.

    Raises:
        InputError: as `plan_config_store` and `write_store`.
    """
    plan = plan_config_store(config)
    return write_store(plan, config.workers) if isinstance(plan, StorePlan) else plan


def _adopt_duration(config: DictConfig, dataset: Dataset) -> None:
    """Set the duration of features to the dataset's own, if its option file does not set any."""
    plain: Any = OmegaConf.to_container(config.features)
    duration = getattr(dataset, "duration", None)  # `plan_store` refuses a dataset without one
    unset = "duration" not in config.data and str(plain.get("duration")).startswith("${")
    if unset and isinstance(duration, int | float):
        config.features.duration = float(duration)


def _adopt_features(config: DictConfig, source: Source) -> None:
    """Set the config's features to those of the named store, unless the user chose some.

    The file may come from a stranger, and Hydra runs what a config names. So the config gets the
    settings of features that were built without Hydra, not what the file says.

    Raises:
        InputError: the features are not known, of a class that is not trusted, or not plain values.
    """
    given = HydraConfig.get().overrides.task
    if "features" not in config or any(text.startswith(CHOOSE_FEATURES) for text in given):
        return
    try:
        features = build_features(source.features, config.get("trust") or ())
    except InputError as error:
        raise InputError(f"store={config.store}: {error}") from None
    _set_features(config, features)


def _adopt_recorded(config: DictConfig, dataset: Dataset) -> None:
    """Set `features=precomputed` to the features that the dataset records, unless it was typed.

    What is trained on them then takes audio. If they cannot be built, they stay precomputed.
    """
    chosen = OmegaConf.select(config, "features._target_") != PRECOMPUTED
    typed = HydraConfig.initialized() and "features=precomputed" in HydraConfig.get().overrides.task
    recorded = None if chosen or typed else read_recorded(dataset)
    if recorded is None:
        return
    try:
        features = build_features(recorded["features"], config.get("trust") or ())
        if identify_features(features) != recorded["identity"]:
            raise InputError("another version of genreclf computed them")
    except InputError as error:
        log.warning(
            "data.path=%s: its features are used as they are, so what is trained on them cannot "
            "predict from audio (%s)",
            *(config.data.get("path"), error),
        )
        return
    _set_features(config, features)


def _set_features(config: DictConfig, features: Any) -> None:
    OmegaConf.set_struct(config, False)
    config.features = locate_features(describe_features(features))
    OmegaConf.set_struct(config, True)


def choose_folder(config: Any, store: Store) -> Path:
    """Choose the folder of a training run on this store.

    Args:
        config: the run's config, including Hydra's own; augmentation that its features have no use
            for is left out.
        store: the store that it is trained and tested on.
    """
    features = instantiate(config.features)
    drop_augmentation(config, features, store.shape)
    data = digest_values([identify_features(features), digest_config_split(config, store)])
    init = config.init.checkpoint if "init" in config else None
    files = digest_sources(instantiate(config.get("distillation")), init)
    model = config.hydra.runtime.choices.model
    name = f"{store.source.dataset}-{model}-{digest_run(config, data, files)}"
    return Path(str(config.outputs)) / "train" / name


def digest_config_split(config: DictConfig, store: Store) -> str:
    """Return `digest_split` of the config's split, computed once for each store.

    Raises:
        InputError: the store cannot be split this way.
    """

    def compute() -> str:
        return digest_split(store, split_store(instantiate(config.split), store))

    settings: Any = OmegaConf.to_container(config.split, resolve=True)
    if not str(settings["_target_"]).startswith("genreclf."):  # the user's code may have changed
        return compute()
    from importlib.metadata import version  # slow to import

    versions = [version("genreclf"), version("scikit-learn"), SPLITS_VERSION]
    cache = DigestCache(Path(str(config.outputs)) / "stores")
    key = digest_values([store.source.digest, store.row_sha1, settings, versions])
    found = cache.get(f"split {key}", compute)
    cache.save()
    return found
