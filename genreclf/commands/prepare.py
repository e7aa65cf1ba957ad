"""`genreclf prepare`: from a dataset to its store of features."""

from omegaconf import DictConfig

from genreclf.commands.stores import build_config_store


def run(config: DictConfig) -> None:
    """Run the command: build the store and print its path."""
    print(build_config_store(config).path)
