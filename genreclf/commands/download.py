"""`genreclf download`: download and verify a public dataset, or the weights of a model."""

from collections.abc import Callable
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from genreclf.commands.instantiation import instantiate
from genreclf.data.download import Archive, download
from genreclf.errors import InputError
from genreclf.evaluation.runs import get_key
from genreclf.models.encoders.musicnn_download import download_weights
from genreclf.protocols import DownloadableDataset

WEIGHTS: dict[str, Callable[[], Path]] = {"musicnn": download_weights}  # of the options of model


def run(config: DictConfig) -> None:
    """Download whatever is missing, then print where it is.

    With `model=...` alone, no dataset is downloaded.
    """
    hydra_config = HydraConfig.get()
    typed = hydra_config.overrides.task
    wants_data = any(text.startswith("data") for text in typed)
    model = hydra_config.runtime.choices.get("model")
    keys = ("features", "keep_archives") if model and not wants_data else ("features",)
    if unused := [text for text in typed if get_key(text).startswith(keys)]:
        raise InputError(f"this download does not use {' '.join(unused)}; leave that out")
    if model:
        if model not in WEIGHTS:
            raise InputError(f"model={model} has nothing to download; try model=musicnn")
        print(WEIGHTS[model]())
        if not wants_data:
            return
    if not config.data.get("archives"):  # checked first: data.root may not have been given
        chosen = hydra_config.runtime.choices["data"]
        raise InputError(f"data={chosen} has nothing to download; try data=fma_small")
    dataset: DownloadableDataset = instantiate(config.data)
    if faulty := [entry for entry in dataset.archives if not {"url", "sha1"} <= set(entry)]:
        raise InputError(f"data.archives: {faulty[0]} needs a url and a sha1")
    archives = [Archive(str(entry["url"]), str(entry["sha1"])) for entry in dataset.archives]
    download(archives, dataset.root, config.keep_archives)
    print(dataset.root)
