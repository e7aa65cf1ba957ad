"""`genreclf download`: fetch a public dataset, check and unpack it."""

from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig

from genreclf.data.download import Archive, download
from genreclf.errors import InputError


def run(config: DictConfig) -> None:
    """The command: fetch and unpack what is not there yet, print the root."""
    chosen = HydraConfig.get().runtime.choices["data"]
    if not config.data.get("archives"):  # before data.root=... is asked for
        raise InputError(f"data={chosen} has nothing to download; data=fma_small has, for one")
    dataset = instantiate(config.data)
    if faulty := [entry for entry in dataset.archives if not {"url", "sha1"} <= set(entry)]:
        raise InputError(f"data.archives: {faulty[0]} needs a url and a sha1")
    archives = [Archive(str(entry["url"]), str(entry["sha1"])) for entry in dataset.archives]
    download(archives, dataset.root, config.keep_archives)
    print(dataset.root)
