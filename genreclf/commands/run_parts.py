"""The parts and the store of a run, checked before anything slow happens, and only once.

PyTorch is imported only if parts are needed; a finished run is recognised without it.
"""

from collections.abc import Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from genreclf.commands.instantiation import instantiate
from genreclf.commands.single_frames import drop_augmentation, refuse_dropped
from genreclf.commands.stores import find_store
from genreclf.data.build_store import StorePlan, write_store
from genreclf.data.store import Store
from genreclf.evaluation.runs import RESULT
from genreclf.trust import list_targets

if TYPE_CHECKING:
    from genreclf.training.parts import Parts  # imports PyTorch

STANDARD = ("torch.nn.Identity", "torchmetrics.classification.MulticlassAccuracy")  # our options


def check_trainer(config: DictConfig) -> None:
    """Check the Trainer's settings before any data is read, unless the run may be finished.

    A finished run is reused without the GPU that it was trained on, and without PyTorch. Which run
    it is depends on the data; if none of this model is finished, it is none of them. Otherwise
    `RunParts.checked` checks the Trainer, once the store is found and before anything is decoded.
    """
    choices = HydraConfig.get().runtime.choices
    finished = Path(str(config.outputs), "train").glob(f"*-{choices['model']}-*/{RESULT}")
    if choices.get("debug") or not any(finished):  # debug=... reuses no run
        from genreclf.training.process_group import make_probe  # imports PyTorch

        make_probe(partial(instantiate, config.trainer))


class RunParts:
    """The parts of a run, made and checked when they are first needed, and only once.

    That is before decoding if the store is missing, and before training if it is not.

    Attributes:
        dropped: keys of the augmentation that is left out for the sake of the features.
    """

    def __init__(self, config: DictConfig) -> None:
        self._config, self._tried, self.dropped = config, False, list[str]()
        self._shape: tuple[int, int] | None = None  # of the rows of a finished store

    def adapt(self, shape: tuple[int, int]) -> None:
        """Leave out augmentation that features of this shape (bins, frames) have no use for.

        Raises:
            InputError: the user asked for it.
        """
        features = instantiate(self._config.features)
        if dropped := drop_augmentation(self._config, features, shape):
            refuse_dropped(dropped, features)
            self.dropped += dropped
            self.__dict__.pop("checked", None)

    def adapt_to_store(self, store: Store) -> None:
        """Leave out augmentation as `adapt` does; the features need not be computed any more.

        Raises:
            InputError: as `adapt`.
        """
        self._shape = store.shape
        self.adapt(store.shape)

    @cached_property
    def checked(self) -> "Parts":
        """The parts, whose settings have been checked.

        Raises:
            InputError: a setting is wrong.
        """
        from genreclf.commands.parts import make_parts
        from genreclf.training.check import check_settings

        parts = make_parts(self._config)
        check_settings(parts, self._shape)
        return parts

    def try_out(self, genres: Sequence[str], store: Store | None = None) -> None:
        """Try the parts on two tracks of the store, or on noise, unless this has been done.

        Raises:
            InputError: a part fails.
        """
        if not self._tried:
            from genreclf.training.trial import make_clips, read_clips, try_parts

            features = self.checked.features
            clips = make_clips(features) if store is None else read_clips(features, store)
            try_parts(self.checked, genres, clips)
            self._tried = True


def has_others_parts(config: Mapping[str, Any]) -> bool:
    """Whether some part of a run's config is not of genreclf: it is tried before training."""
    parts = {key: value for key, value in config.items() if key not in ("trainer", "logger")}
    callbacks = config["trainer"].get("callbacks")
    return any(
        not target.startswith("genreclf.") and target not in STANDARD
        for target in list_targets([parts, callbacks])
    )


def open_store(config: DictConfig, parts: RunParts) -> Store:
    """Open the run's store; if it is missing, check all settings and then build it.

    Raises:
        InputError: a setting is wrong, or the store cannot be made.
    """
    store = find_store(config)
    if isinstance(store, StorePlan) and store.is_recorded:  # the encoder need not be here
        store = write_store(store, config.workers)
    if isinstance(store, Store):
        parts.adapt_to_store(store)
    else:
        from genreclf.commands.split_checks import check_config_split  # imports scikit-learn
        from genreclf.training.check import check_genres

        if callable(store.features):
            parts.adapt(store.features.shape)
        genres, features = sorted({track.genre for track in store.tracks}), parts.checked.features
        check_genres(genres, "data")
        check_config_split(config, store)
        if callable(features):  # others come with the dataset, and need no decoding
            parts.try_out(genres)
        store = write_store(store, config.workers)
        parts.adapt_to_store(store)
    return store
