"""`genreclf prepare`: from a dataset to its store of features."""

from hydra.utils import instantiate
from omegaconf import DictConfig

from genreclf.data.build_store import build_store


def run(config: DictConfig) -> None:
    """The command: make the store, print its path."""
    store = build_store(
        instantiate(config.data),
        instantiate(config.features),
        outputs=config.outputs,
        path=config.store,
        workers=config.workers,
    )
    print(store.path)
