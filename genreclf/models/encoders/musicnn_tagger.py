"""musicnn with its published weights as a model: from spectrograms to tags."""

from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor, nn

from genreclf.audio.descriptions import build_features
from genreclf.errors import InputError
from genreclf.models.checkpoint import TrainedModel
from genreclf.models.encoders.musicnn import PATCH, Musicnn
from genreclf.models.encoders.musicnn_features import BANDS
from genreclf.models.encoders.musicnn_inference import MusicnnInference
from genreclf.models.encoders.musicnn_mel import MusicnnMel
from genreclf.models.encoders.musicnn_weights import (
    TAGS,
    UNITS,
    check_weights,
    read_weights,
)
from genreclf.models.model_files import PRETRAINED, read_exported
from genreclf.models.novelty import Novelty

VOCABULARY = "musicnn's 50 tags: genres, moods, voices, instruments, decades"
NO_GENRES = (  # moods, voices, instruments and decades
    *("female vocalists", "female vocalist", "male vocalists", "guitar", "acoustic"),
    *("beautiful", "Mellow", "chill", "sexy", "catchy", "party", "sad", "happy"),
    *("60s", "70s", "80s", "90s", "00s", "oldies"),
)
LOWEST = 1e-7  # probability, whose logit is finite


class MusicnnTagger(nn.Module):
    """musicnn for `MusicnnMel`: its probabilities and units are averaged over audible patches.

    Args:
        net: the trained network.
    """

    embedding_size = UNITS

    def __init__(self, net: Musicnn) -> None:
        super().__init__()
        self.net = net
        self._faster = [MusicnnInference(net)]  # on the CPU; in a list, so it stays there

    def forward(self, features: Tensor, embedded: bool = False) -> Tensor | tuple[Tensor, Tensor]:
        """Compute the logits (batch, tags) of the mean probabilities.

        Args:
            features: float32 (batch, 96, frames), of `MusicnnMel`.
            embedded: also return the mean of the units before the tags, (batch, 200).
        """
        patches = features.unflatten(2, (-1, PATCH)).transpose(1, 2)
        audible = (patches > 0).flatten(2).any(dim=2)  # (batch, patches)
        audible[:, 0] |= ~audible.any(dim=1)
        heard = patches[audible]
        if features.device.type == "cpu":
            units = embed_in_threads(self._faster[0], heard)
        else:
            units = self.net.embed(self.net.pool(heard))
        counts = audible.sum(dim=1).tolist()
        scores = torch.stack(
            [each.mean(dim=0) for each in self.net.tags(units).sigmoid().split(counts)]
        )
        logits = scores.clamp(LOWEST, 1 - LOWEST).logit()
        if not embedded:
            return logits
        return logits, torch.stack([each.mean(dim=0) for each in units.split(counts)])


def embed_in_threads(net: MusicnnInference, patches: Tensor) -> Tensor:
    """Compute the units (patches, units) before the tags on as many cores as PyTorch may use.

    Each thread computes patches of its own: PyTorch would divide each small operation, which takes
    five times the CPU time.
    """
    threads = min(torch.get_num_threads(), len(patches))
    if threads == 1:
        return net.embed(net.pool(patches))
    inferring = torch.is_inference_mode_enabled()  # in this thread alone

    def embed(part: Tensor) -> Tensor:
        with torch.inference_mode(inferring):
            return net.embed(net.pool(part))

    before = torch.get_num_threads()
    with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        units = torch.cat([*pool.map(embed, patches.tensor_split(threads))])
    torch.set_num_threads(before)  # for threads to come
    return units


def load_tagger() -> TrainedModel:
    """Load musicnn with its published weights.

    Its tags do not show whether a clip is music: noise gets "electronic" like electronic music. So
    the novelty is that of the bundled model, which rates the spectrogram.

    Raises:
        InputError: the weights are missing or damaged; the message says what to type.
    """
    try:
        check_weights("checkpoint=tags")
    except InputError as error:
        raise InputError(
            f"{error}, or choose checkpoint=fma8, the model that comes with genreclf"
        ) from None
    net = Musicnn(len(TAGS), units=UNITS)
    weights = {name: torch.from_numpy(values) for name, values in read_weights().items()}
    net.load_state_dict(weights, strict=False)  # without the numbers of batches of the batch norms
    described = read_exported(PRETRAINED)["genreclf"]
    return TrainedModel(
        MusicnnTagger(net.eval()).eval(),
        [*TAGS],
        MusicnnMel(),
        BANDS,
        trained_on=None,
        novelty=Novelty.read(described["novelty"]),
        novelty_input=build_features(described["features"]),
        multi_label=True,
        no_genres=NO_GENRES,
        vocabulary=VOCABULARY,
    )
