"""Audio models of Hugging Face's transformers as encoders, loaded from folders.

What a model needs of the audio (sample rate, length, normalisation) is read from the files next to
its weights. Nothing is downloaded here: `huggingface_files` finds the folder.
"""

from __future__ import annotations

import inspect
import math
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from genreclf.errors import InputError, describe_failure
from genreclf.models.encoders.windowed import FREE

STEP, FRAME = 0.010, 0.025  # s, of the spectrogram of models that state its number of frames


class HuggingFaceEncoder:
    """A model of transformers for inference.

    Args:
        folder: the folder of its files.
        layer: "last", "all" or a number, as for `HuggingFaceEmbedding`.
        window: length of the windows in seconds; None for the model's own, or 10 s.
        trust_remote_code: whether code in the folder may run.
        device: "cpu" or "cuda".

    Raises:
        InputError: transformers cannot load it, or windows are longer than the model's own.
    """

    def __init__(
        self,
        folder: Path,
        layer: str | int,
        window: float | None,
        trust_remote_code: bool,
        device: str,
    ) -> None:
        self.where = f"features.model={folder}"
        self.device, self.layer = device, layer
        self.model, self.extractor = _load_parts(folder, trust_remote_code)
        self.model = self.model.requires_grad_(False).eval().to(device)
        self.rate = int(self.extractor.sampling_rate)
        longest = _find_longest(self.extractor)
        if window is not None and longest is not None and window > longest:
            raise InputError(
                f"features.window={window:g}: this model takes at most {longest:g} s; set "
                "features.window=null"
            )
        self.seconds: float = window or longest or FREE
        # Whisper's encoder fills up what is shorter than 30 s; the rest is not averaged.
        self.filled = longest if getattr(self.model.config, "is_encoder_decoder", False) else None
        self.net = self._find_audio_part()
        self.accepted = {*inspect.signature(self.net.forward).parameters}

    def embed(self, windows: np.ndarray) -> np.ndarray:
        """Compute embeddings, float32 (windows, values), of windows (windows, samples).

        Raises:
            InputError: the model fails, or has no such layer.
        """
        import torch

        inputs = self.prepare(windows)
        try:
            with torch.inference_mode():
                if self.layer == "last" and hasattr(self.model, "get_audio_features"):  # CLAP
                    values = self.model.get_audio_features(**inputs)
                    values = getattr(values, "pooler_output", values)
                else:
                    whole = self.layer != "last"
                    outputs = self.net(**inputs, output_hidden_states=whole, return_dict=True)
                    values = self._pool(outputs, windows.shape[1] / self.rate)
        except InputError:
            raise
        except torch.OutOfMemoryError:
            if len(windows) == 1:
                raise InputError(
                    f"{self.where}: a window of {self.seconds:g} s needs more memory than the GPU "
                    "has; set a shorter features.window, or compute on the CPU: "
                    "CUDA_VISIBLE_DEVICES="
                ) from None
            halves = np.array_split(windows, 2)
            return np.concatenate([self.embed(half) for half in halves])
        except Exception as error:
            raise InputError(describe_failure(self.where, error)) from error
        return values.float().cpu().numpy()

    def prepare(self, windows: np.ndarray) -> dict[str, Any]:
        """Prepare the model's inputs from windows (windows, samples), as its checkpoint says."""
        import torch

        made = self.extractor([*windows], sampling_rate=self.rate, return_tensors="pt")
        inputs = {key: made[key] for key in made if key in self.accepted}
        if "is_longer" in inputs:  # of CLAP, which marks one at random if none is
            inputs["is_longer"] = torch.zeros_like(torch.as_tensor(inputs["is_longer"]))
        return {key: value.to(self.device) for key, value in inputs.items()}

    def _find_audio_part(self) -> Any:
        """Find the part of the model that takes audio: of CLAP one of two, of Whisper half."""
        if self.filled is not None:
            return self.model.get_encoder()
        return getattr(self.model, "audio_model", self.model)

    def _pool(self, outputs: Any, seconds: float) -> Any:
        """Average what the model computes over time: (windows, values)."""
        import torch

        if self.layer == "last":
            pooled = getattr(outputs, "pooler_output", None)
            return self._average(outputs[0], seconds) if pooled is None else pooled
        layers = [*(outputs.hidden_states or ())]
        try:
            if self.layer != "all":
                return self._average(layers[int(self.layer)], seconds)
            return torch.stack([self._average(each, seconds) for each in layers]).mean(dim=0)
        except IndexError:
            needed = f"this model has layers 0 to {len(layers) - 1}"
        except RuntimeError:
            needed = "the layers of this model have different sizes: choose one"
        raise InputError(f"features.layer={self.layer}: {needed}")

    def _average(self, values: Any, seconds: float) -> Any:
        """Average (windows, frames, values), or (windows, values, bands, frames), over time."""
        if values.ndim == 4:
            return values.mean(dim=(2, 3))
        frames = values.shape[1]
        if self.filled is not None:
            frames = max(1, math.ceil(frames * min(1.0, seconds / self.filled)))
        return values[:, :frames].mean(dim=1)


def _load_parts(folder: Path, trust_remote_code: bool) -> tuple[Any, Any]:
    """Load model and preprocessing of a folder."""
    import torch
    import transformers

    level = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()  # it warns of parts that are not used
    transformers.logging.disable_progress_bar()
    given: Any = {"local_files_only": True, "trust_remote_code": trust_remote_code}
    try:
        extractor = transformers.AutoFeatureExtractor.from_pretrained(str(folder), **given)
        model = transformers.AutoModel.from_pretrained(str(folder), dtype=torch.float32, **given)
    except Exception as error:
        text = " ".join(str(error).split())
        if "trust_remote_code" in text:
            text = "its code is in the folder; if you trust it, set features.trust_remote_code=true"
            raise InputError(f"features.model={folder}: {text}") from None
        raise InputError(describe_failure(f"features.model={folder}", error)) from None
    finally:
        transformers.logging.set_verbosity(level)
    return model, extractor


def _find_longest(extractor: Any) -> float | None:
    """Find how many seconds a model takes at once; None if any length will do."""
    rate = extractor.sampling_rate
    for name in ("n_samples", "nb_max_samples"):  # of Whisper and CLAP
        if samples := getattr(extractor, name, None):
            return samples / rate
    frames = getattr(extractor, "max_length", None)  # of AST
    return (frames - 1) * STEP + FRAME if isinstance(frames, int) else None


@lru_cache(maxsize=2)
def load_encoder(
    folder: Path,
    digest: str,
    layer: str | int,
    window: float | None,
    trust_remote_code: bool,
    device: str,
) -> HuggingFaceEncoder:
    """Load a model once per process and device; `digest` tells whether it is the same."""
    return HuggingFaceEncoder(folder, layer, window, trust_remote_code, device)
