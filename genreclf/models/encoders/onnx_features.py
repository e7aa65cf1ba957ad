"""Features from a model in an ONNX file."""

from __future__ import annotations

import dataclasses
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from genreclf.audio import filterbank
from genreclf.audio.settings import check_duration
from genreclf.errors import InputError
from genreclf.files import check_fetched
from genreclf.models.encoders.digests import check_digest, digest_file
from genreclf.models.encoders.onnx_files import list_external_files
from genreclf.models.encoders.windowed import FREE, WindowedEmbedding, check_window
from genreclf.paths import expand_home, make_absolute

if TYPE_CHECKING:
    from genreclf.models.encoders.onnx_model import OnnxModel
    from genreclf.models.encoders.windowed import Encoder

EXTRA = "features=onnx needs an extra: pip install 'genreclf[onnx]'"
TOP_DB = 80.0  # dB


@dataclasses.dataclass(frozen=True)
class OnnxEmbedding(WindowedEmbedding):
    """The output of an ONNX model of waveforms, averaged over time and over windows.

    The model has one input: (samples,), (batch, samples) or (batch, 1, samples), for any number of
    samples or a stated one. The embeddings of a clip's windows are averaged, weighted by their
    audible seconds. A clip shorter than the stated number of samples is repeated.

    Two embeddings are equal if their files are, wherever they lie.

    Args:
        model: the file.
        sample_rate: Hz of the waveforms that the model takes.
        window: seconds of a window; None for what the input states, 10 s if it takes any length.
        output: name or number of the output; None for the first. Of (batch, time, values), the mean
            over time is used, as it is of (batch, values, time) if the number of samples is open;
            of (batch, values, ., .) that over the last two axes.
        duration: seconds of a clip; longer clips are cut.
        digest: identifies the file that is needed; empty for the one that is there now. Checkpoints
            of classifiers on these features record it.

    Raises:
        InputError: there is no such file, or a setting is impossible.
    """

    model: str = dataclasses.field(compare=False)
    sample_rate: int = 16_000  # Hz
    window: float | None = None  # s
    output: str | int | None = None
    duration: float = 30.0  # s
    digest: str = ""

    name: ClassVar[str] = "onnx"
    version: ClassVar[int] = 2

    def __post_init__(self) -> None:
        check_duration(self)
        if not isinstance(self.model, str) or not self.model:
            raise InputError(f"features.model={self.model}: the path of an ONNX file is needed")
        object.__setattr__(self, "model", make_absolute(self.model))
        self._check_whole("sample_rate")
        check_window(self)
        if not self.digest:
            object.__setattr__(self, "digest", self._digest_files())

    def _check_whole(self, name: str) -> None:
        value: Any = getattr(self, name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 1:
            raise InputError(f"features.{name}={value!r}: set a number above 0")
        if value % 1:
            raise InputError(f"features.{name}={value!r}: set a whole number above 0")
        object.__setattr__(self, name, int(value))

    @property
    def path(self) -> Path:
        """The file's path."""
        return Path(expand_home(self.model))

    def _digest_files(self) -> str:
        """Compute the SHA-256 of the file, or of it and those with its weights."""
        where = f"features.model={self.model}"
        try:
            check_fetched(self.path, f"{where}: {self.path.name} is")
            digests = [digest_file(self.path)]
            for name in list_external_files(self.path, digests[0]):
                check_fetched(self.path.parent / name, f"{where}: {Path(name).name} is")
                digests.append(digest_file(self.path.parent / name))
        except InputError:
            raise
        except OSError as error:
            lost = Path(str(error.filename or self.path))
            other = f"its file of weights {lost.name}: " if lost != self.path else ""
            reason = error.strerror or error
            raise InputError(f"{where}: {other}{reason}") from None
        return digests[0] if len(digests) == 1 else sha256("".join(digests).encode()).hexdigest()

    def check_available(self) -> None:
        """Check that onnxruntime and the file are there, and that it is the one that is needed.

        Raises:
            InputError: they are not.
        """
        if not find_spec("onnxruntime"):
            raise InputError(EXTRA)
        check_digest(self._digest_files(), self.digest, f"features.model={self.model}")

    def _choose_place(self) -> str:
        import onnxruntime

        available = onnxruntime.get_available_providers()
        return "cuda" if "CUDAExecutionProvider" in available else "cpu"

    def _load(self, place: str) -> Encoder:
        from genreclf.models.encoders.onnx_model import load_model

        self.check_available()
        return self._make_encoder(load_model(self.path, self.digest, self.output, place))

    def _make_encoder(self, model: OnnxModel) -> Encoder:
        from genreclf.models.encoders.onnx_encoders import OnnxEncoder

        return OnnxEncoder(model, self.sample_rate, self.window, FREE)


@dataclasses.dataclass(frozen=True)
class OnnxMelEmbedding(OnnxEmbedding):
    """The output of an ONNX model of mel bands, averaged over time and over patches.

    The model has one input, whose last two axes are bands and frames, in any order. If it states
    the number of frames, a clip is divided into such patches; without it, into windows. The bands
    are Slaney's, of the power in centred Hann windows. The defaults are those of musicnn and of
    most of Essentia's models.

    Args:
        model: the file.
        sample_rate: Hz of the audio that the bands are computed from.
        window: seconds of a window where the number of frames is open; None for 10 s.
        output: as for `OnnxEmbedding`.
        duration: seconds of a clip; longer clips are cut.
        digest: as for `OnnxEmbedding`.
        n_mels: number of bands.
        n_fft: samples of a frame.
        hop_length: samples from one frame to the next.
        levels: "log10" for log10(10000 x + 1) of the power x, "dB" for dB relative to the loudest
            bin of the window, at least -80, as in `features=mel`.

    Raises:
        InputError: there is no such file, or a setting is impossible.
    """

    n_mels: int = 96
    n_fft: int = 512  # samples
    hop_length: int = 256  # samples
    levels: str = "log10"

    name: ClassVar[str] = "onnx_mel"

    def __post_init__(self) -> None:
        for each in ("n_mels", "n_fft", "hop_length"):
            self._check_whole(each)
        if self.levels not in ("log10", "dB"):
            raise InputError(f"features.levels={self.levels}: choose log10 or dB")
        super().__post_init__()

    def compute_mel(self, window: np.ndarray) -> np.ndarray:
        """Compute mel bands, float32 (bands, frames), of a window (samples,)."""
        filters = filterbank.build_mel_filters(self.sample_rate, self.n_fft, self.n_mels)
        settings = filters, self.n_fft, self.hop_length
        if self.levels == "dB":
            return filterbank.compute_levels(window, *settings, TOP_DB)
        return filterbank.compress_power(window, *settings)

    def _make_encoder(self, model: OnnxModel) -> Encoder:
        from genreclf.models.encoders.onnx_encoders import OnnxMelEncoder

        length = self.duration if None not in model.shape[-2:] else FREE
        return OnnxMelEncoder(
            model, self.compute_mel, self.n_mels, self.sample_rate, self.window, length
        )
