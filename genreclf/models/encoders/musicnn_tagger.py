"""musicnn with its published weights as a model: from spectrograms to tags."""

from concurrent.futures import ThreadPoolExecutor
from threading import Lock

import torch
from torch import Tensor, nn

from genreclf.audio.descriptions import build_features
from genreclf.errors import InputError
from genreclf.models.checkpoint import TrainedModel
from genreclf.models.encoders.musicnn import PATCH, Musicnn
from genreclf.models.encoders.musicnn_features import BANDS
from genreclf.models.encoders.musicnn_inference import MusicnnInference
from genreclf.models.encoders.musicnn_patches import MusicnnPatches
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
CHANGING = Lock()  # of the number of PyTorch's threads
LOWEST = 1e-7  # probability, whose logit is finite


class MusicnnTagger(nn.Module):
    """musicnn for `MusicnnPatches`: averages over patches, weighted by their audible frames.

    Args:
        net: the trained network.
    """

    embedding_size = UNITS
    divides_work = True  # among threads of its own

    def __init__(self, net: Musicnn) -> None:
        super().__init__()
        self.net = net
        self._faster = [MusicnnInference(net)]  # on the CPU; in a list, so it stays there

    def forward(self, features: Tensor, embedded: bool = False) -> Tensor | tuple[Tensor, Tensor]:
        """Compute the logits (batch, tags) of the mean probabilities.

        Args:
            features: float32 (batch, 96, frames), of `MusicnnPatches`.
            embedded: also return the mean of the units before the tags, (batch, 200).
        """
        patches = features.unflatten(2, (-1, PATCH)).transpose(1, 2)
        audible = (patches > 0).any(dim=2).float().mean(dim=2)  # (batch, patches): share of frames
        audible[:, 0] += (audible.amax(dim=1) == 0).float()  # a clip without any has one, too
        heard = audible > 0
        if features.device.type == "cpu":
            units = embed_in_threads(self._faster[0], patches[heard])
        else:
            units = self.net.embed(self.net.pool(patches[heard]))
        weights = (audible / audible.sum(dim=1, keepdim=True))[heard]
        counts = heard.sum(dim=1).tolist()
        scores = add_up(self.net.tags(units).sigmoid(), weights, counts)
        logits = scores.clamp(LOWEST, 1 - LOWEST).logit()
        return (logits, add_up(units, weights, counts)) if embedded else logits


def add_up(rows: Tensor, weights: Tensor, counts: list[int]) -> Tensor:
    """Add up rows (patches, size) with their weights, a number of patches for each clip."""
    weighted = rows * weights[:, None]
    return torch.stack([each.sum(dim=0) for each in weighted.split(counts)])


def embed_in_threads(net: MusicnnInference, patches: Tensor) -> Tensor:
    """Compute the units (patches, units) before the tags on as many cores as PyTorch may use.

    Each thread computes patches of its own: PyTorch would divide each small operation, which takes
    five times the CPU time.
    """
    inferring = torch.is_inference_mode_enabled()  # in this thread alone

    def embed(part: Tensor) -> Tensor:
        with torch.inference_mode(inferring):
            return net.embed(net.pool(part))

    with CHANGING:  # the number is also that of threads to come
        before = torch.get_num_threads()
        threads = min(before, len(patches))
        if threads > 1:
            one = {"initializer": torch.set_num_threads, "initargs": (1,)}
            try:
                with ThreadPoolExecutor(threads, **one) as pool:
                    return torch.cat([*pool.map(embed, patches.tensor_split(threads))])
            finally:
                torch.set_num_threads(before)
    return embed(patches)


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
        MusicnnPatches(),
        BANDS,
        trained_on=None,
        novelty=Novelty.read(described["novelty"]),
        novelty_input=build_features(described["features"]),
        multi_label=True,
        no_genres=NO_GENRES,
        vocabulary=VOCABULARY,
    )
