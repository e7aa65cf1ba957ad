"""`genreclf prepare`: build the store of a dataset's features."""

from hydra.utils import instantiate
from omegaconf import DictConfig

from genreclf.data.build_store import build_store


def run(config: DictConfig) -> None:
    """Run the command: make the store and print its path."""
    store = build_store(
        instantiate(config.data),
        instantiate(config.features),
        outputs=config.outputs,
        path=config.store,
        workers=config.workers,
    )
    print(store.path)
