"""`genreclf download`: download, verify and unpack a public dataset."""

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from genreclf.commands.instantiation import instantiate
from genreclf.data.download import Archive, download
from genreclf.errors import InputError
from genreclf.protocols import DownloadableDataset


def run(config: DictConfig) -> None:
    """Download and unpack whatever is missing, then print the dataset's root."""
    if not config.data.get("archives"):  # checked first: data.root may not have been given
        chosen = HydraConfig.get().runtime.choices["data"]
        raise InputError(f"data={chosen} has nothing to download; try data=fma_small")
    dataset: DownloadableDataset = instantiate(config.data)
    if faulty := [entry for entry in dataset.archives if not {"url", "sha1"} <= set(entry)]:
        raise InputError(f"data.archives: {faulty[0]} needs a url and a sha1")
    archives = [Archive(str(entry["url"]), str(entry["sha1"])) for entry in dataset.archives]
    download(archives, dataset.root, config.keep_archives)
    print(dataset.root)
