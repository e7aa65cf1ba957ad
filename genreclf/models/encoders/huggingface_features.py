"""Features from audio models of Hugging Face's transformers."""

from __future__ import annotations

import dataclasses
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, ClassVar

from genreclf.audio.settings import check_duration
from genreclf.errors import InputError
from genreclf.models.encoders.digests import check_digest
from genreclf.models.encoders.huggingface_files import (
    EXTRA,
    digest_model,
    locate_model,
    read_sample_rate,
)
from genreclf.models.encoders.windowed import WindowedEmbedding, check_window
from genreclf.paths import make_absolute

if TYPE_CHECKING:
    from genreclf.models.encoders.huggingface import HuggingFaceEncoder


@dataclasses.dataclass(frozen=True)
class HuggingFaceEmbedding(WindowedEmbedding):
    """The embedding of an audio model of transformers: AST, wav2vec 2.0, HuBERT, CLAP, Whisper, ...

    A clip is divided into windows of the length that the model takes; their embeddings are
    averaged, weighted by the audible seconds of each window.

    Two embeddings are equal if the files of their models are, wherever they lie.

    Args:
        model: a folder with a model that `save_pretrained` wrote or that was downloaded; or the
            name of a model of the hub, such as MIT/ast-finetuned-audioset-10-10-0.4593, after
            `hf download NAME`.
        layer: "last": what the model itself makes of a whole window, if it does (CLAP, AST), else
            its last layer, averaged over time; "all": the mean of all layers; or the number of a
            layer, 0 for the input of the first one.
        window: seconds of a window; None for the model's own, 10 s if it takes any length.
        duration: seconds of a clip; longer clips are cut.
        trust_remote_code: whether Python code that comes with the model may run, as MERT needs.
        digest: identifies the files that the model has to have; empty for those it has now.
            Checkpoints of classifiers on these features record it.

    Raises:
        InputError: there is no such model, or a setting is impossible.
    """

    model: str = dataclasses.field(compare=False)
    layer: str | int = "last"
    window: float | None = None  # s
    duration: float = 30.0  # s
    trust_remote_code: bool = dataclasses.field(default=False, compare=False)
    digest: str = ""

    name: ClassVar[str] = "huggingface"
    version: ClassVar[int] = 2

    def __post_init__(self) -> None:
        check_duration(self)
        self._check_layer()
        if not isinstance(self.model, str) or not self.model:
            raise InputError(
                f"features.model={self.model}: a folder, or the name of a model, is needed"
            )
        object.__setattr__(self, "model", make_absolute(self.model))
        if not isinstance(self.trust_remote_code, bool):
            raise InputError("features.trust_remote_code: set true or false")
        check_window(self, "; null is the model's own length")
        if not self.digest:
            found = digest_model(locate_model(self.model), self.trust_remote_code)
            object.__setattr__(self, "digest", found)

    def _check_layer(self) -> None:
        layer: Any = self.layer
        if isinstance(layer, str) and layer.isdigit():
            object.__setattr__(self, "layer", int(layer))
        elif layer not in ("last", "all") and not (type(layer) is int and layer >= 0):
            raise InputError(
                f"features.layer={layer}: last, all or the number of a layer is needed"
            )

    @property
    def sample_rate(self) -> int:
        """Hz: the model's."""
        return read_sample_rate(locate_model(self.model))

    def check_available(self) -> None:
        """Check that transformers and the files are there, and are those that are needed.

        Raises:
            InputError: they are not.
        """
        if not find_spec("transformers"):
            raise InputError(EXTRA)
        folder = locate_model(self.model)
        read_sample_rate(folder)
        found = digest_model(folder, self.trust_remote_code)
        check_digest(found, self.digest, f"features.model={self.model}")

    def _load(self, place: str) -> HuggingFaceEncoder:
        from genreclf.models.encoders.huggingface import load_encoder

        self.check_available()
        settings = self.layer, self.window, self.trust_remote_code
        device = "cuda" if place == "cuda" else "cpu"
        return load_encoder(locate_model(self.model), self.digest, *settings, device)
