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

from genreclf.errors import InputError
from genreclf.models.encoders.huggingface_loading import CODECS, explain_no_audio, load_parts
from genreclf.models.encoders.windowed import FREE

AST = "audio-spectrogram-transformer"
NO_LAYERS = "this model does not give its layers; set features.layer=last"
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
        self.model, self.extractor, self.net, self.pools = load_parts(folder, trust_remote_code)
        self.model = self.model.requires_grad_(False).eval().to(device)
        self.rate = int(self.extractor.sampling_rate)
        longest = _find_longest(self.extractor)
        if window is not None and longest is not None and window > longest:
            raise InputError(
                f"features.window={window:g}: this model takes at most {longest:g} s; set "
                "features.window=null"
            )
        self.seconds: float = window or longest or FREE
        # What is shorter is filled up with silence, which is not averaged.
        self.filled = longest if _is_filled(self.extractor) else None
        self.is_codec = self.model.config.model_type in CODECS
        self.accepted = {*inspect.signature(self.net.forward).parameters}
        self.main = getattr(self.extractor, "model_input_names", ["input_values"])[0]
        if self.main not in self.accepted and not self.is_codec:
            raise InputError(explain_no_audio(self.where, self.model))

    def embed(self, windows: np.ndarray) -> np.ndarray:
        """Compute embeddings, float32 (windows, values), of windows (windows, samples).

        Raises:
            InputError: the model fails, or has no such layer.
        """
        import torch

        try:
            with torch.inference_mode():
                values = self._compute(windows)
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
            raise InputError(explain_no_audio(self.where, self.model, error)) from error
        return values.float().cpu().numpy()

    def _compute(self, windows: np.ndarray) -> Any:
        inputs = self.prepare(windows)
        if self.is_codec:
            if self.layer != "last":
                raise InputError(f"features.layer={self.layer}: {NO_LAYERS}")
            return self.net(inputs[self.main]).mean(dim=2)
        if self.layer == "last" and hasattr(self.model, "audio_projection"):  # CLAP
            values = self.model.get_audio_features(**inputs)
            return getattr(values, "pooler_output", values)
        whole = self.layer != "last"
        outputs = self.net(**inputs, output_hidden_states=whole, return_dict=True)
        return self._pool(outputs, windows.shape[1] / self.rate)

    def prepare(self, windows: np.ndarray) -> dict[str, Any]:
        """Prepare the model's inputs from windows (windows, samples), as its checkpoint says."""
        import torch

        stereo = self.is_codec and self.extractor.feature_size == 2
        given = [*windows[:, None].repeat(2, axis=1)] if stereo else [*windows]
        made = self.extractor(given, sampling_rate=self.rate, return_tensors="pt")
        accepted = {self.main} if self.is_codec else self.accepted
        inputs = {key: made[key] for key in made if key in accepted}
        if "is_longer" in inputs:  # of CLAP, which marks one at random if none is
            inputs["is_longer"] = torch.zeros_like(torch.as_tensor(inputs["is_longer"]))
        return {key: value.to(self.device) for key, value in inputs.items()}

    def _pool(self, outputs: Any, seconds: float) -> Any:
        """Average what the model computes over time: (windows, values)."""
        import torch

        if self.layer == "last":
            pooled = getattr(outputs, "pooler_output", None) if self.pools else None
            return self._average(outputs[0], seconds) if pooled is None else pooled
        layers = [*(getattr(outputs, "hidden_states", None) or ())]
        if not layers:
            raise InputError(f"features.layer={self.layer}: {NO_LAYERS}")
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
        if values.ndim not in (3, 4) or not values.is_floating_point():
            raise InputError(explain_no_audio(self.where, self.model))
        if values.ndim == 4:
            return values.mean(dim=(2, 3))
        if self.filled is not None:
            values = self._leave_out_silence(values, min(1.0, seconds / self.filled))
        return values.mean(dim=1)

    def _leave_out_silence(self, values: Any, share: float) -> Any:
        """Leave out of (windows, frames, values) the frames after a share of the window."""
        import torch

        config = self.model.config
        if config.model_type != AST:
            return values[:, : max(1, math.ceil(values.shape[1] * share))]
        # Some frames that stand for the whole window, then patches (frequency, time).
        times = (config.max_length - config.patch_size) // config.time_stride + 1
        bands = (config.num_mel_bins - config.patch_size) // config.frequency_stride + 1
        whole, patches = values.tensor_split([values.shape[1] - bands * times], dim=1)
        patches = patches.unflatten(1, (bands, times))[:, :, : max(1, math.ceil(times * share))]
        return torch.cat([whole, patches.flatten(1, 2)], dim=1)


def _find_longest(extractor: Any) -> float | None:
    """Find how many seconds a model takes at once; None if any length will do."""
    rate = extractor.sampling_rate
    for name in ("n_samples", "nb_max_samples"):  # of Whisper and CLAP
        if samples := getattr(extractor, name, None):
            return samples / rate
    frames = getattr(extractor, "max_length", None)  # of AST
    return (frames - 1) * STEP + FRAME if isinstance(frames, int) else None


def _is_filled(extractor: Any) -> bool:
    """Whether an extractor fills up short audio with silence: Whisper's and AST's do."""
    return hasattr(extractor, "nb_max_frames") or isinstance(
        getattr(extractor, "max_length", None), int
    )


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
