"""features=huggingface: which models of transformers are loaded, and what is said of others."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_transformers import RATE, SIZES, SMALL, TOKENS, WAV2VEC2, build, make_noise, save

from genreclf.audio.batches import compute_clips
from genreclf.audio.own_features import compute_features
from genreclf.errors import InputError
from genreclf.models import HuggingFaceEmbedding

transformers: Any = pytest.importorskip("transformers")

WEIGHTS, PREPROCESSING = "model.safetensors", "preprocessor_config.json"


@pytest.fixture
def wav2vec2(tmp_path: Path) -> Path:
    extractor = transformers.Wav2Vec2FeatureExtractor()
    return save(tmp_path / "wav2vec2", build("Wav2Vec2Model", **WAV2VEC2), extractor)


def change(file: Path, **settings: Any) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **settings}))


def rename_weights(folder: Path, rename: Callable[[str], str]) -> None:
    found = load_file(folder / WEIGHTS)
    kept = {rename(key): value for key, value in found.items() if rename(key)}
    save_file(kept, folder / WEIGHTS, metadata={"format": "pt"})


def compute(folder: Path, seconds: float = 2.0, **settings: Any) -> np.ndarray:
    features = HuggingFaceEmbedding(str(folder), **settings)
    rate = features.sample_rate
    return compute_features(features, make_noise(seconds, rate=rate), rate)[:, 0]


def test_a_model_whose_files_lack_weights_is_refused(wav2vec2: Path) -> None:
    """A1: transformers gave them random values, so the features were noise."""
    change(wav2vec2 / "config.json", num_hidden_layers=4)
    line = r"its files lack 32 weights, such as encoder\.layers\.2\..*; they do not belong to its c"
    for layer in ("last", 1):
        with pytest.raises(InputError, match=line):
            compute(wav2vec2, layer=layer)


def test_a_model_whose_weights_have_other_names_is_refused(wav2vec2: Path) -> None:
    rename_weights(wav2vec2, "module.{}".format)
    with pytest.raises(
        InputError, match=r"its files lack \d\d weights, such as encoder\.layer_nor"
    ):
        compute(wav2vec2)


def test_a_model_whose_weights_have_other_shapes_is_refused(wav2vec2: Path) -> None:
    change(wav2vec2 / "config.json", intermediate_size=64)
    with pytest.raises(InputError, match=r"its files have other shapes of 6 weights, such as enc"):
        compute(wav2vec2)


def test_weights_that_are_not_used_may_be_missing(wav2vec2: Path, tmp_path: Path) -> None:
    """The decoder of Whisper's classifiers, the text tower of CLAP, what only training uses."""
    expected = compute(wav2vec2)
    rename_weights(wav2vec2, lambda key: "" if key == "masked_spec_embed" else f"wav2vec2.{key}")
    np.testing.assert_array_equal(compute(wav2vec2), expected)
    whisper = build(
        "WhisperForAudioClassification",
        **SIZES,
        d_model=16,
        num_mel_bins=8,
        max_source_positions=100,
    )
    extractor = transformers.WhisperFeatureExtractor(feature_size=8, chunk_length=2)
    folder = save(tmp_path / "whisper", whisper, extractor)
    assert compute(folder).shape == (16,)
    rename_weights(folder, lambda key: "" if "layers.1" in key else key)
    with pytest.raises(InputError, match=r"its files lack \d+ weights, such as encoder\.layers\.1"):
        compute(folder)


def test_a_part_of_clap_that_is_used_may_not_be_missing(tmp_path: Path) -> None:
    audio = {
        "spec_size": 64,
        "num_mel_bins": 16,
        "patch_stride": [4, 4],
        "patch_embeds_hidden_size": 8,
        "hidden_size": 16,
        "depths": [1, 1],
        "num_attention_heads": [2, 2],
        "window_size": 4,
    }
    text = {**SMALL, "vocab_size": 20}
    clap = build("ClapModel", text_config=text, audio_config=audio, projection_dim=12)
    extractor = transformers.ClapFeatureExtractor(
        feature_size=16, max_length_s=2, truncation="rand_trunc"
    )
    folder = save(tmp_path / "clap", clap, extractor)
    expected = compute(folder)
    rename_weights(folder, lambda key: "" if key.startswith("text_") else key)
    np.testing.assert_array_equal(compute(folder), expected)
    rename_weights(folder, lambda key: "" if key.startswith("audio_projection") else key)
    with pytest.raises(InputError, match=r"its files lack \d weights, such as audio_projection"):
        compute(folder)


def build_moonshine() -> Any:
    heads = {f"{part}_num_{kind}": 2 for part in ("encoder", "decoder") for kind in KINDS}
    layers = {"encoder_num_hidden_layers": 2, "decoder_num_hidden_layers": 1}
    sizes = {"hidden_size": 16, "intermediate_size": 32, "vocab_size": 30}
    return build("MoonshineModel", **sizes, **heads, **layers, **TOKENS)


KINDS = ("attention_heads", "key_value_heads")


def build_seamless() -> Any:
    parts = ("encoder", "decoder", "speech_encoder", "t2u_encoder", "t2u_decoder")
    sizes = {f"{part}_attention_heads": 2 for part in parts}
    sizes |= {f"{part}_ffn_dim": 16 for part in parts} | {f"{part}_layers": 1 for part in parts}
    sizes |= {"speech_encoder_intermediate_size": 16, "hidden_size": 16, "vocab_size": 30}
    sizes |= {"t2u_vocab_size": 30, "unit_hifi_gan_vocab_size": 30, "unit_embed_dim": 8}
    sizes |= {"lang_embed_dim": 8, "spkr_embed_dim": 8, "upsample_initial_channel": 32}
    return build("SeamlessM4TModel", **sizes)


OTHERS: dict[str, tuple[Callable[[], Any], Callable[[], Any], int]] = {
    "moonshine": (build_moonshine, lambda: transformers.Wav2Vec2FeatureExtractor(), 16),
    "speech2text": (
        lambda: build("Speech2TextModel", **SIZES, d_model=16, conv_channels=8),
        lambda: transformers.Speech2TextFeatureExtractor(),
        16,
    ),
    "seamless": (build_seamless, lambda: transformers.SeamlessM4TFeatureExtractor(), 16),
    "encodec": (
        lambda: build(
            "EncodecModel",
            num_filters=2,
            hidden_size=8,
            codebook_size=8,
            codebook_dim=8,
            num_lstm_layers=1,
            audio_channels=2,
        ),
        lambda: transformers.EncodecFeatureExtractor(feature_size=2, sampling_rate=24_000),
        8,
    ),
    "dac": (
        lambda: build(
            "DacModel",
            encoder_hidden_size=2,
            decoder_hidden_size=16,
            hidden_size=32,
            codebook_size=8,
            codebook_dim=4,
            n_codebooks=2,
        ),
        lambda: transformers.DacFeatureExtractor(),
        32,
    ),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_encoders_of_speech_and_of_codecs_are_used_alone(tmp_path: Path, kind: str) -> None:
    """B5: they failed with messages from the inside of their decoders."""
    model, extractor, size = OTHERS[kind]
    folder = save(tmp_path / kind, model(), extractor())
    values = compute(folder)
    assert values.shape == (size,)
    assert np.isfinite(values).all()
    assert np.abs(compute(folder, 4.0) - values).max() > 0
    if kind in ("encodec", "dac"):
        with pytest.raises(
            InputError, match=r"features\.layer=1: this model does not give its lay"
        ):
            compute(folder, layer=1)
    else:
        assert compute(folder, layer=1).shape == (size,)


def test_models_that_take_more_than_audio_are_refused(tmp_path: Path) -> None:
    speech = {"hidden_size": 16, "conv_dim": (8,) * 7, "num_conv_pos_embedding_groups": 2}
    univnet = build("UnivNetModel", model_hidden_channels=4)
    cases: list[tuple[str, Any, Any]] = [
        ("bert", build("BertModel", vocab_size=20, **SMALL), None),
        ("univnet", univnet, transformers.UnivNetFeatureExtractor()),
        ("speecht5", build("SpeechT5ForSpeechToText", **SIZES, **speech), None),
    ]
    for kind, model, extractor in cases:
        folder = save(tmp_path / kind, model, extractor or transformers.Wav2Vec2FeatureExtractor())
        line = (
            rf"this model \({kind}\) (gives no embedding of|fails on) audio alone.*; tested are A"
        )
        with pytest.raises(InputError, match=line) as caught:
            compute(folder)
        assert len(str(caught.value).replace(str(folder), "")) < 500


def compute_states(folder: Path, seconds: float) -> torch.Tensor:
    """Compute the last layer, (frames, values), as transformers' documentation does."""
    model = transformers.AutoModel.from_pretrained(folder).eval()
    extractor = transformers.AutoFeatureExtractor.from_pretrained(folder)
    inputs = extractor(make_noise(seconds), sampling_rate=RATE, return_tensors="pt")
    with torch.no_grad():
        return model(inputs["input_features"]).last_hidden_state[0]


def test_an_encoder_saved_alone_averages_the_audio_only(tmp_path: Path) -> None:
    """B6: Whisper's extractor fills 2 s up to 30 s, whose silence was averaged."""
    encoder = build(
        "Qwen2AudioEncoder",
        d_model=16,
        encoder_layers=1,
        encoder_attention_heads=2,
        encoder_ffn_dim=16,
        num_mel_bins=8,
    )
    extractor = transformers.WhisperFeatureExtractor(feature_size=8)
    folder = save(tmp_path / "encoder", encoder, extractor)
    states = compute_states(folder, 6.0)
    assert len(states) == 750  # for 30 s
    np.testing.assert_allclose(compute(folder, 6.0), states[:150].mean(dim=0), atol=1e-5)


def test_layers_of_ast_are_averaged_over_the_audio_only(tmp_path: Path) -> None:
    """Its first two frames stand for the whole window, the others for (frequency, time)."""
    sizes = {"max_length": 400, "num_mel_bins": 32}
    strides = {"patch_size": 8, "time_stride": 8, "frequency_stride": 8}
    model = build("ASTModel", **SMALL, **sizes, **strides)
    folder = save(tmp_path / "ast", model, transformers.ASTFeatureExtractor(**sizes))
    extractor = transformers.AutoFeatureExtractor.from_pretrained(folder)
    inputs = extractor(make_noise(2.0), sampling_rate=RATE, return_tensors="pt")
    with torch.no_grad():
        states = model.eval()(**inputs, output_hidden_states=True).hidden_states[1][0]
    used = int(np.ceil(50 * 2.0 / (399 * 0.01 + 0.025)))
    patches = states[2:].reshape(4, 50, 16)[:, :used].reshape(-1, 16)
    expected = torch.cat([states[:2], patches]).mean(dim=0)
    np.testing.assert_allclose(compute(folder, layer=1), expected, atol=1e-5)


def test_the_sample_rate_may_be_written_with_a_point(wav2vec2: Path) -> None:
    expected = compute(wav2vec2)
    change(wav2vec2 / PREPROCESSING, sampling_rate=16000.0)
    np.testing.assert_array_equal(compute(wav2vec2), expected)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            '{"sampling_rate": "16000"}',
            r'sampling_rate in .*r_config.json is "16000"; a whole numb',
        ),
        ('{"sampling_rate": 0}', r"sampling_rate in preprocessor_config.json is 0; a whole number"),
        ('{"sampling_rate": 0.5}', r"is 0\.5; a whole number of Hz above 0"),
        ('{"sampling_rate": null}', r"is null; a whole number of Hz above 0"),
        ('{"sampling_rate": NaN}', r"is NaN; a whole number of Hz above 0"),
        ("{broken", r"preprocessor_config.json is not JSON \(Expecting property name"),
        ("[]", r"preprocessor_config.json holds no JSON object"),
        ("{}", r"preprocessor_config.json states no sampling_rate, so this is no audio model"),
        ('{"sampling_rate": 8000, "feature_extractor_type": "None"}', r"does not know the prepro"),
        ("version https://git-lfs.github.com/spec/v1\noid sha256:a", r"r_config.json is a pointer"),
    ],
)
def test_what_is_wrong_with_the_preprocessing_is_said(wav2vec2: Path, text: str, line: str) -> None:
    """C4: all of it was "is missing or states no sampling_rate"."""
    (wav2vec2 / PREPROCESSING).write_text(text)
    with pytest.raises(InputError, match=line):
        compute(wav2vec2)


def test_a_damaged_config_is_refused(wav2vec2: Path) -> None:
    for text, line in (
        ("{", r"config\.json is not JSON"),
        ("{}", r"config\.json states no model_type"),  # transformers guesses from the folder's name
        ('{"model_type": "ours"}', r"transformers [\d.]+ has no model of the type ours to load; t"),
    ):
        (wav2vec2 / "config.json").write_text(text)
        with pytest.raises(InputError, match=line):
            compute(wav2vec2)


def test_weights_that_cannot_be_read_are_refused_in_a_short_line(wav2vec2: Path) -> None:
    """C2 and C3: texts of libraries were passed on whole, of up to 11,000 characters."""
    content = (wav2vec2 / WEIGHTS).read_bytes()
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:aaaa\nsize 1234\n"
    for written, line in (
        (pointer, r"model\.safetensors is a pointer of Git LFS.*type in its folder: git lfs pull"),
        (content[: len(content) // 2], r"its weights are damaged or incomplete; download the mode"),
    ):
        (wav2vec2 / WEIGHTS).write_bytes(written)
        with pytest.raises(InputError, match=line):
            compute(wav2vec2)
    (wav2vec2 / WEIGHTS).unlink()
    (wav2vec2 / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'exit'\ntR.")
    with pytest.raises(InputError, match=r"its pytorch_model\.bin is damaged, or holds more than"):
        compute(wav2vec2)


def test_paths_are_not_taken_for_names_of_the_hub(wav2vec2: Path) -> None:
    """C5: the advice was "hf download /data/models"."""
    for path in (f"{wav2vec2}x", "./models", "../models", "~/nowhere", "a/b/c"):
        with pytest.raises(InputError, match=r"no such folder$"):
            HuggingFaceEmbedding(path)
    with pytest.raises(InputError, match=rf"this is a file; name its folder: .*={wav2vec2}$"):
        HuggingFaceEmbedding(f"{wav2vec2 / WEIGHTS}")


def test_a_model_that_computes_no_numbers_is_named(wav2vec2: Path) -> None:
    """C1: the advice was to correct HuggingFaceEmbedding."""
    weights = {key: value * np.nan for key, value in load_file(wav2vec2 / WEIGHTS).items()}
    save_file(weights, wav2vec2 / WEIGHTS, metadata={"format": "pt"})
    features = HuggingFaceEmbedding(str(wav2vec2))
    line = rf"that are not finite numbers; features\.model={wav2vec2} computes them"
    with pytest.raises(InputError, match=line):
        compute(wav2vec2)
    assert "features.model=" in str(compute_clips(features, [(make_noise(2), RATE)])[0])
