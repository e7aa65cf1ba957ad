"""features=huggingface: small models with random weights, which the tests save to disk."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_transformers import RATE, SIZES, SMALL, WAV2VEC2, make_noise, save

import genreclf
from genreclf.audio import ConcatenatedFeatures, MelFrames
from genreclf.audio.descriptions import build_features, describe_features, identify_features
from genreclf.audio.own_features import compute_features
from genreclf.errors import InputError
from genreclf.models import HuggingFaceEmbedding
from genreclf.models.encoders import huggingface_features, huggingface_files
from genreclf.trust import REMOTE_CODE

transformers: Any = pytest.importorskip("transformers")

AST = {"max_length": 300, "num_mel_bins": 32}
CLAP = {
    "spec_size": 64,
    "num_mel_bins": 16,
    "patch_size": 4,
    "patch_stride": [4, 4],
    "patch_embeds_hidden_size": 8,
    "hidden_size": 16,
    "depths": [1, 1],
    "num_attention_heads": [2, 2],
    "window_size": 4,
    "num_hidden_layers": 2,
    "projection_dim": 12,
    "enable_fusion": True,
    "num_classes": 3,
}
WHISPER = {**SIZES, "d_model": 16, "num_mel_bins": 8, "max_source_positions": 200}
WINDOWS = {"ast": 3.015, "clap": 2.5, "whisper": 4.0}  # s; others take any length


def save_model(folder: Path, kind: str) -> str:
    """Save a model with random weights and its preprocessing, as `save_pretrained` does."""
    t = transformers
    torch.manual_seed(0)
    if kind == "ast":
        strides = {"patch_size": 8, "time_stride": 8, "frequency_stride": 8}
        model = t.ASTModel(t.ASTConfig(**SMALL, **AST, **strides))
        extractor = t.ASTFeatureExtractor(**AST)
    elif kind == "clap":
        text = {**SMALL, "vocab_size": 20, "projection_dim": 12}
        model = t.ClapModel(t.ClapConfig(text_config=text, audio_config=CLAP, projection_dim=12))
        extractor = t.ClapFeatureExtractor(feature_size=16, max_length_s=2.5)
    elif kind == "whisper":
        model = t.WhisperModel(t.WhisperConfig(**WHISPER))
        extractor = t.WhisperFeatureExtractor(feature_size=8, chunk_length=4)
    else:
        config, network = getattr(t, f"{kind}Config"), getattr(t, f"{kind}Model")
        model, extractor = network(config(**WAV2VEC2)), t.Wav2Vec2FeatureExtractor()
    return str(save(folder, model, extractor))


@pytest.fixture(scope="module")
def wav2vec2(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_model(tmp_path_factory.mktemp("models") / "wav2vec2", "Wav2Vec2")


def compute_directly(folder: str, clip: np.ndarray, layer: Any) -> np.ndarray:
    """Compute an embedding of a clip of one window as transformers' documentation does."""
    model = transformers.AutoModel.from_pretrained(folder).eval()
    extractor = transformers.AutoFeatureExtractor.from_pretrained(folder)
    inputs = extractor(clip, sampling_rate=extractor.sampling_rate, return_tensors="pt")
    with torch.no_grad():
        if "is_longer" in inputs:
            inputs["is_longer"] = torch.zeros(1, 1, dtype=torch.bool)
            if layer == "last":
                found = model.get_audio_features(**inputs)
                return getattr(found, "pooler_output", found)[0].numpy()
            outputs = model.audio_model(**inputs, output_hidden_states=True)
            return outputs.hidden_states[layer][0].mean(dim=(1, 2)).numpy()
        model = model.get_encoder() if hasattr(model, "decoder") else model
        outputs = model(**inputs, output_hidden_states=True)
        if layer == "last" and getattr(outputs, "pooler_output", None) is not None:
            return outputs.pooler_output[0].numpy()
        layers = outputs.hidden_states
        kept = layers[-1:] if layer == "last" else layers if layer == "all" else [layers[layer]]
        if layer == "last":
            kept = [outputs.last_hidden_state]
        return torch.stack([each[0].mean(dim=0) for each in kept]).mean(dim=0).numpy()


@pytest.mark.slow
@pytest.mark.parametrize("layer", ["last", "all", 1])
@pytest.mark.parametrize("kind", ["ast", "clap", "whisper", "Wav2Vec2", "Hubert", "WavLM"])
def test_it_is_what_transformers_computes(tmp_path: Path, kind: str, layer: Any) -> None:
    folder = save_model(tmp_path / kind, kind)
    features = HuggingFaceEmbedding(folder, layer=layer)
    rate = features.sample_rate
    clip = make_noise(WINDOWS.get(kind, 4.0), rate=rate)
    if (kind, layer) == ("clap", "all"):
        with pytest.raises(InputError, match="the layers of this model have different sizes"):
            compute_features(features, clip, rate)
        return
    found = compute_features(features, clip, rate)
    assert found.shape == features.shape
    np.testing.assert_allclose(found[:, 0], compute_directly(folder, clip, layer), atol=1e-5)


def test_windows_of_several_clips_are_computed_together(wav2vec2: str) -> None:
    """A clip of 7 s is three windows of 2.5 s, the last of which overlaps; another is shorter."""
    features = HuggingFaceEmbedding(wav2vec2, window=2.5)
    clips = [(make_noise(seconds, seed), RATE) for seed, seconds in enumerate([7.0, 2.2, 5.0])]
    together = features.compute_batch(clips)
    for clip, found in zip(clips, together, strict=True):
        np.testing.assert_allclose(found, compute_features(features, *clip), atol=1e-6)
    first = HuggingFaceEmbedding(wav2vec2)
    starts = (0, int(2.5 * RATE), int(4.5 * RATE))
    windows = [clips[0][0][start : start + int(2.5 * RATE)] for start in starts]
    expected = np.mean([first(window, RATE) for window in windows], axis=0)
    np.testing.assert_allclose(together[0], expected, atol=1e-6)
    both = ConcatenatedFeatures([features, MelFrames(frames=4)])
    rows = both.compute_batch([(np.repeat(clip, 2), 2 * RATE) for clip, _ in clips[:2]])
    assert both.batched
    np.testing.assert_allclose(rows[0], both(np.repeat(clips[0][0], 2), 2 * RATE), atol=1e-6)


def test_what_a_short_clip_is_filled_up_with_is_not_averaged(tmp_path: Path) -> None:
    """Whisper takes 4 s here; of the 200 positions of its encoder, 100 belong to 2 s of audio."""
    folder = save_model(tmp_path / "whisper", "whisper")
    clip = make_noise(2.0)
    model = transformers.AutoModel.from_pretrained(folder).eval().get_encoder()
    extractor = transformers.AutoFeatureExtractor.from_pretrained(folder)
    with torch.no_grad():
        inputs = extractor(clip, sampling_rate=RATE, return_tensors="pt")
        states = model(**inputs).last_hidden_state
    found = HuggingFaceEmbedding(folder)(clip, RATE)
    np.testing.assert_allclose(found[:, 0], states[0, :100].mean(dim=0), atol=1e-5)


def test_fewer_windows_are_computed_together_where_memory_is_short(
    wav2vec2: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    features, clips = HuggingFaceEmbedding(wav2vec2, window=2.0), [(make_noise(10.0), RATE)]
    expected = features.compute_batch(clips)
    encoder = features._load("cpu")
    forward, most = encoder.net.forward, 2

    def run_out(input_values: torch.Tensor, **settings: Any) -> Any:
        if len(input_values) > most:
            raise torch.OutOfMemoryError
        return forward(input_values, **settings)

    monkeypatch.setattr(encoder.net, "forward", run_out)
    np.testing.assert_allclose(features.compute_batch(clips)[0], expected[0], atol=1e-6)
    most = 0
    with pytest.raises(InputError, match=r"a window of 2 s needs more memory than the GPU has"):
        features.compute_batch(clips)


def test_short_and_silent_clips_have_features(wav2vec2: str) -> None:
    for clip in (make_noise(1), np.zeros(3 * RATE, np.float32)):
        assert np.isfinite(compute_features(HuggingFaceEmbedding(wav2vec2), clip, RATE)).all()


def test_the_files_identify_it_and_not_their_place(wav2vec2: str, tmp_path: Path) -> None:
    copy = shutil.copytree(wav2vec2, tmp_path / "copy")
    here, there = HuggingFaceEmbedding(wav2vec2), HuggingFaceEmbedding(str(copy))
    assert here == there
    assert identify_features(here) == identify_features(there)
    assert build_features(describe_features(here)) == here
    others = {"layer": 1}, {"layer": "all"}, {"window": 2.0}, {"duration": 5.0}
    for other in others:
        assert identify_features(HuggingFaceEmbedding(wav2vec2, **other)) != identify_features(here)
    settings = json.loads((copy / "preprocessor_config.json").read_text())
    (copy / "preprocessor_config.json").write_text(json.dumps({**settings, "do_normalize": False}))
    assert HuggingFaceEmbedding(str(copy)) != here
    with pytest.raises(InputError, match="it contains another model than before"):
        there.check_available()


def test_a_model_that_is_replaced_is_loaded_anew(wav2vec2: str, tmp_path: Path) -> None:
    folder, clip = shutil.copytree(wav2vec2, tmp_path / "copy"), make_noise(2)
    before = HuggingFaceEmbedding(str(folder))(clip, RATE)
    model = transformers.AutoModel.from_pretrained(folder)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.5)
    model.save_pretrained(folder)
    after = HuggingFaceEmbedding(str(folder))(clip, RATE)
    assert np.abs(after - before).max() > 0.01


def test_the_weights_that_are_loaded_identify_it(wav2vec2: str, tmp_path: Path) -> None:
    """Other weights in the folder do not, nor do they hide a change."""
    folder = shutil.copytree(wav2vec2, tmp_path / "copy")
    here, clip = HuggingFaceEmbedding(str(folder)), make_noise(2)
    values = here(clip, RATE)
    (folder / "adapter.safetensors").write_bytes(b"others")
    (folder / "model.fp16.safetensors").write_bytes(b"others")
    (folder / "pytorch_model.bin").write_bytes(b"others")
    assert HuggingFaceEmbedding(str(folder)) == here
    (folder / "model.safetensors").rename(folder / "first.safetensors")
    old = HuggingFaceEmbedding(str(folder))
    (folder / "pytorch_model.bin").write_bytes(b"changed")
    assert HuggingFaceEmbedding(str(folder)) != old
    config = json.loads((folder / "config.json").read_text())
    named = json.dumps({**config, "transformers_weights": "first.safetensors"})
    (folder / "config.json").write_text(named)
    chosen = HuggingFaceEmbedding(str(folder))
    (folder / "pytorch_model.bin").unlink()
    assert HuggingFaceEmbedding(str(folder)) == chosen
    np.testing.assert_array_equal(chosen(clip, RATE), values)
    (folder / "first.safetensors").unlink()
    with pytest.raises(InputError, match=r"no weights, first\.safetensors, in this folder"):
        HuggingFaceEmbedding(str(folder))


def test_weights_in_several_files_are_those_of_the_index(wav2vec2: str, tmp_path: Path) -> None:
    folder = shutil.copytree(wav2vec2, tmp_path / "copy")
    (folder / "model.safetensors").unlink()
    model = transformers.AutoModel.from_pretrained(wav2vec2)
    model.save_pretrained(folder, max_shard_size="10KB")
    parts = sorted(folder.glob("model-*.safetensors"))
    assert len(parts) > 1
    here = HuggingFaceEmbedding(str(folder))
    parts[1].write_bytes(b"changed")
    assert HuggingFaceEmbedding(str(folder)) != here
    parts[1].unlink()
    with pytest.raises(InputError, match=rf"names {parts[1].name}, which is not there"):
        HuggingFaceEmbedding(str(folder))
    (folder / "model.safetensors.index.json").write_text("{}")
    with pytest.raises(InputError, match=r"index\.json names no files; download"):
        HuggingFaceEmbedding(str(folder))


def test_an_adapter_is_no_model(wav2vec2: str, tmp_path: Path) -> None:
    folder = shutil.copytree(wav2vec2, tmp_path / "copy")
    (folder / "adapter_config.json").write_text("{}")
    with pytest.raises(InputError, match=r"an adapter .* needs a model from elsewhere; merge"):
        HuggingFaceEmbedding(str(folder))


def test_all_code_that_a_model_runs_identifies_it(wav2vec2: str, tmp_path: Path) -> None:
    folder = shutil.copytree(wav2vec2, tmp_path / "copy")
    (folder / "layers").mkdir()
    (folder / "layers" / "own.py").write_text("size = 1\n")
    here = HuggingFaceEmbedding(str(folder), trust_remote_code=True)
    (folder / "layers" / "own.py").write_text("size = 2\n")
    assert HuggingFaceEmbedding(str(folder), trust_remote_code=True) != here
    for name in ("config.json", "preprocessor_config.json"):
        text = (folder / name).read_text()
        other = {"auto_map": {"AutoModel": "other/repository--own.OwnModel"}}
        (folder / name).write_text(json.dumps({**json.loads(text), **other}))
        with pytest.raises(InputError, match=rf"auto_map in {name} names code of another repos"):
            HuggingFaceEmbedding(str(folder), trust_remote_code=True)
        HuggingFaceEmbedding(str(folder))  # which runs no code
        (folder / name).write_text(text)


def test_a_model_of_the_hub_is_found_once_it_is_downloaded(
    wav2vec2: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    line = r"features\.model=org/name: no such folder; if it .*download it: hf download org/name"
    with pytest.raises(InputError, match=line):
        HuggingFaceEmbedding("org/name")
    found = Path(wav2vec2)
    monkeypatch.setattr(huggingface_files, "_find_downloaded", lambda _: found)
    assert HuggingFaceEmbedding("org/name") == HuggingFaceEmbedding(wav2vec2)


def test_without_transformers_the_extra_is_named(
    wav2vec2: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_features, "find_spec", lambda _: None)
    with pytest.raises(InputError, match=r"pip install 'genreclf\[huggingface\]'"):
        HuggingFaceEmbedding(wav2vec2).check_available()


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"model": ""}, r"features\.model=: a folder, or the name of a model, is needed"),
        ({"model": "a b c"}, "no such folder"),
        ({"layer": "first"}, "features.layer=first: last, all or the number"),
        ({"layer": -1}, "features.layer=-1: last, all or the number"),
        ({"window": 0}, r"features\.window=0: at least 0\.1 s"),
        ({"duration": 1}, r"features\.duration=1: at least 2 s"),
    ],
)
def test_impossible_settings_are_refused(
    wav2vec2: str, settings: dict[str, Any], line: str
) -> None:
    with pytest.raises(InputError, match=line):
        HuggingFaceEmbedding(**{"model": wav2vec2, **settings})


def test_folders_without_a_model_are_refused(wav2vec2: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"there is no config\.json in this folder"):
        HuggingFaceEmbedding(str(tmp_path))
    copy = shutil.copytree(wav2vec2, tmp_path / "copy")
    (copy / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"no weights, model\.safetensors or pytorch_model"):
        HuggingFaceEmbedding(str(copy))
    shutil.copy(Path(wav2vec2, "model.safetensors"), copy)
    (copy / "preprocessor_config.json").unlink()
    with pytest.raises(InputError, match="so this is no audio model"):
        HuggingFaceEmbedding(str(copy)).check_available()
    (copy / "model.safetensors").write_bytes(b"damaged")
    shutil.copy(Path(wav2vec2, "preprocessor_config.json"), copy)
    with pytest.raises(InputError, match=r"features\.model=.*copy: "):
        HuggingFaceEmbedding(str(copy))(make_noise(2), RATE)


def test_a_layer_that_is_not_there_is_refused(wav2vec2: str) -> None:
    with pytest.raises(InputError, match=r"features\.layer=7: this model has layers 0 to 2"):
        HuggingFaceEmbedding(wav2vec2, layer=7)(make_noise(2), RATE)


def test_longer_windows_than_the_model_takes_are_refused(tmp_path: Path) -> None:
    features = HuggingFaceEmbedding(save_model(tmp_path / "ast", "ast"), window=5.0)
    with pytest.raises(InputError, match=r"features\.window=5: this model takes at most 3\.015 s"):
        features(make_noise(6), RATE)


def test_code_that_comes_with_a_model_runs_only_if_the_user_says_so(
    wav2vec2: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A checkpoint that asks for it, which may come from a stranger, is not enough."""
    folder = Path(shutil.copytree(wav2vec2, tmp_path / "own"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", f"{tmp_path}/modules")
    (folder / "own.py").write_text(
        "from transformers import Wav2Vec2Config, Wav2Vec2Model\n"
        "class OwnConfig(Wav2Vec2Config):\n    model_type = 'own'\n"
        "class OwnModel(Wav2Vec2Model):\n    config_class = OwnConfig\n"
    )
    config = json.loads((folder / "config.json").read_text())
    own = {"AutoConfig": "own.OwnConfig", "AutoModel": "own.OwnModel"}
    config |= {"model_type": "own", "auto_map": own}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match=r"if you trust it, set features\.trust_remote_code=true"):
        HuggingFaceEmbedding(str(folder))(make_noise(2), RATE)
    trusting = HuggingFaceEmbedding(str(folder), trust_remote_code=True)
    assert trusting(make_noise(2), RATE).shape == (16, 1)
    stored = describe_features(trusting)
    with pytest.raises(InputError, match=rf"{REMOTE_CODE} is not part of genreclf, .*trust=\["):
        build_features(stored)
    assert build_features(stored, [REMOTE_CODE]) == trusting
    target = "genreclf.models.HuggingFaceEmbedding"
    part: dict[str, Any] = {"_target_": target, "_args_": [str(folder), "last", None, 30.0, True]}
    concatenated = {"_target_": "genreclf.audio.ConcatenatedFeatures", "parts": [part]}
    positional = {"_target_": "genreclf.audio.ConcatenatedFeatures", "_args_": [[part]]}
    for settings in (part, concatenated, positional, {**part, "_partial_": True}):
        with pytest.raises(InputError, match=r"_args_ among the settings in this file; name each"):
            build_features(settings)
    (folder / "own.py").write_text("another = 1\n")
    with pytest.raises(InputError, match="it contains another model than before"):
        trusting.check_available()


@pytest.mark.slow
def test_a_classifier_on_it_predicts(
    train: Callable[..., dict[str, Any]], wav2vec2: str, music: Path
) -> None:
    result = train("features=huggingface", f"features.model={wav2vec2}", "model=linear")
    model = genreclf.load(result["folder"], device="cpu")
    paths = [*music.rglob("*.mp3")][:3]
    found = [each.scores for each in model.predict(paths)]
    for path, scores in zip(paths, found, strict=True):
        assert model.predict(path).scores == pytest.approx(scores, abs=1e-4)


def test_the_model_has_to_be_named(
    command: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        command("train", "features=huggingface")
    assert "features.model" in capsys.readouterr().err
