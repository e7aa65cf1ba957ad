"""Small models of Hugging Face's transformers with random weights, for tests of encoders."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

RATE = 16_000
SMALL = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
}
WAV2VEC2 = {
    **SMALL,
    "conv_dim": (8, 8),
    "conv_stride": (10, 32),
    "conv_kernel": (20, 32),
    "num_feat_extract_layers": 2,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 2,
}
TOKENS = {f"{name}_token_id": 1 for name in ("pad", "bos", "eos", "decoder_start")}
SIZES = {  # of an encoder with a decoder
    "encoder_layers": 2,
    "decoder_layers": 1,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 16,
    "decoder_ffn_dim": 16,
    "vocab_size": 30,
    **TOKENS,
}


def make_noise(seconds: float, seed: int = 0, rate: int = RATE) -> np.ndarray:
    """Make white noise, float32 (samples,)."""
    noise = np.random.default_rng(seed).normal(0, 0.1, int(seconds * rate))
    return noise.astype(np.float32)


def build(name: str, **settings: Any) -> Any:
    """Build the model `name` with random weights."""
    import transformers  # optional: tests that need it skip without it

    torch.manual_seed(0)
    kind: Any = getattr(transformers, name)
    return kind(kind.config_class(**settings))


def save(folder: Path, model: Any, extractor: Any) -> Path:
    """Save a model and its preprocessing."""
    model.save_pretrained(folder)
    extractor.save_pretrained(folder)
    return folder
