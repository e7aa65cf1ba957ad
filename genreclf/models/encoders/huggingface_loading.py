"""Loads models of Hugging Face's transformers, and finds the part of each that takes audio.

transformers gives random values to weights that the files lack, and only warns of it; here such a
model is refused. Nothing is downloaded: `huggingface_files` finds the folder.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from genreclf.errors import InputError, shorten_failure
from genreclf.models.encoders.huggingface_files import read_model_type

CODECS = ("encodec", "dac")  # their encoders take and return a plain tensor
AUDIO_PARTS = ("audio_model", "audio_tower", "speech_encoder")  # CLAP, Qwen2-Audio, SeamlessM4T
TESTED = (
    "AST, CLAP, DAC, Data2Vec, EnCodec, HuBERT, Moonshine, Parakeet, SeamlessM4T, SEW, "
    "Speech2Text, UniSpeech, wav2vec 2.0, WavLM and Whisper"
)
# Weights that only training uses, and tables that are the same in each model of a size.
UNUSED = {"masked_spec_embed", "num_batches_tracked", "position_ids", "relative_position_index"}


class Loaded(NamedTuple):
    """A model of transformers.

    Attributes:
        model: all of it.
        extractor: the preprocessing.
        net: the part that takes audio.
        pools: whether the files have the weights that the model needs to summarise a window.
    """

    model: Any
    extractor: Any
    net: Any
    pools: bool


def load_parts(folder: Path, trust_remote_code: bool) -> Loaded:
    """Load model and preprocessing of a folder.

    Raises:
        InputError: transformers cannot load them, the model takes no audio, or its files lack
            weights.
    """
    import torch
    import transformers

    level = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()  # it warns of parts that are not used
    transformers.logging.disable_progress_bar()
    given: Any = {"local_files_only": True, "trust_remote_code": trust_remote_code}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the exceptions say the same
            extractor: Any = transformers.AutoFeatureExtractor.from_pretrained(str(folder), **given)
            model, info = transformers.AutoModel.from_pretrained(
                str(folder),
                dtype=torch.float32,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # _check_weights reports them
                **given,
            )
    except Exception as error:
        raise InputError(_explain_failure(folder, error)) from None
    finally:
        transformers.logging.set_verbosity(level)
    net = _find_audio_part(model)
    prefixes = [next(name for name, part in model.named_modules() if part is net)]
    if hasattr(model, "audio_projection"):  # of CLAP
        prefixes.append("audio_projection")
    pools = _check_weights(folder, info, prefixes)
    return Loaded(model, extractor, net, pools)


def explain_no_audio(where: str, model: Any, error: Exception | None = None) -> str:
    """Say that a model gives no embedding of audio, or fails, and which ones are tested."""
    kind = f"{where}: this model ({getattr(model.config, 'model_type', type(model).__name__)})"
    if error is None:
        return f"{kind} gives no embedding of audio alone; tested are {TESTED}"
    return f"{shorten_failure(f'{kind} fails on audio alone', error)}; tested are {TESTED}"


def _find_audio_part(model: Any) -> Any:
    """Find the part of a model that takes audio: one of two towers, or an encoder."""
    for name in AUDIO_PARTS:
        if (part := getattr(model, name, None)) is not None:
            return part
    if model.config.model_type in CODECS:
        return model.encoder
    if getattr(model.config, "is_encoder_decoder", False):
        return model.get_encoder()
    return model


def _check_weights(folder: Path, info: dict[str, Any], prefixes: Iterable[str]) -> bool:
    """Check that the files have all weights that are used, and in the model's shapes.

    Args:
        folder: names the model.
        info: what transformers says of loading it.
        prefixes: of the names of the parts that are used; empty for all.

    Returns:
        Whether they also have those of the pooler, which is not used otherwise.

    Raises:
        InputError: they have not.
    """

    def is_used(key: str) -> bool:
        own = any(not prefix or key.startswith(f"{prefix}.") for prefix in prefixes)
        return own and not UNUSED.intersection(key.split("."))

    named = info["mismatched_keys"]  # before transformers 5 without the shapes
    other = sorted(filter(is_used, (key if isinstance(key, str) else key[0] for key in named)))
    lacking = sorted(filter(is_used, {*info["missing_keys"]}.difference(other)))
    needed = [key for key in lacking if not re.search(r"(^|\.)pooler\.", key)]
    for keys, problem in ((needed, "lack {}"), (other, "have other shapes of {}")):
        if keys:
            number = problem.format(f"{len(keys)} weight{'s' * (len(keys) > 1)}")
            raise InputError(
                f"features.model={folder}: its files {number}, such as {keys[0]}; they do not "
                "belong to its config.json"
            )
    return len(lacking) == len(needed)


def _explain_failure(folder: Path, error: Exception) -> str:
    """Say in one short line why transformers cannot load a model."""
    import transformers

    where, text = f"features.model={folder}", str(error)
    if "trust_remote_code" in text:
        return (
            f"{where}: its code is in the folder; if you trust it, set "
            "features.trust_remote_code=true"
        )
    if type(error).__name__ == "SafetensorError":
        return f"{where}: its weights are damaged or incomplete; download the model again"
    if type(error).__name__ == "UnpicklingError" or "pytorch checkpoint file" in text:
        return (
            f"{where}: its pytorch_model.bin is damaged, or holds more than tensors, which could "
            "run code; get the model as model.safetensors"
        )
    if re.search("Unrecognized (model|configuration)|does not recognize this arch", text):
        return (
            f"{where}: transformers {transformers.__version__} has no model of the type "
            f"{read_model_type(folder)} to load; tested are {TESTED}"
        )
    if re.search("[Ff]eature extractor", text):
        return f"{where}: transformers does not know the preprocessing in preprocessor_config.json"
    return shorten_failure(where, error)
