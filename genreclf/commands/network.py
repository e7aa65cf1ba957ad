"""`genreclf network`: draw the structure of a model."""

import logging
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from genreclf.commands.instantiation import instantiate
from genreclf.errors import InputError
from genreclf.figures import style
from genreclf.figures.network import draw_network, format_table, trace_network
from genreclf.models import count_parameters

log = logging.getLogger(__name__)


def run(config: DictConfig) -> None:
    """Run the command: log the table, write the drawing and print its path."""
    model = HydraConfig.get().runtime.choices["model"]
    default = Path(config.outputs, "figures", f"network-{model}.svg")
    path = style.choose_picture_path(config.file, default)
    if config.classes < 1:
        raise InputError(f"classes={config.classes}: at least 1 is needed")
    net = instantiate(config.model, classes=config.classes)
    steps = trace_network(net, config.bins, config.frames)
    log.info("%s\n%s parameters", format_table(steps), f"{count_parameters(net):,}")
    style.save_figure(draw_network(steps), path)
    print(path)
