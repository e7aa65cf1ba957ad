"""features=onnx and onnx_mel: small models that the tests build."""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import genreclf
from genreclf.audio import Mel
from genreclf.audio.descriptions import build_features, describe_features, identify_features
from genreclf.audio.own_features import compute_features
from genreclf.errors import InputError
from genreclf.models import OnnxEmbedding, OnnxMelEmbedding
from genreclf.models.encoders import onnx_features
from genreclf.models.encoders.musicnn_features import PATCH, compute_mel
from genreclf.models.encoders.windowed import cut_patches

onnx: Any = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

RATE = 16_000
VALUES = 5


def make_noise(seconds: float, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.1, int(seconds * RATE)).astype(np.float32)


KERNEL = np.random.default_rng(1).normal(size=(VALUES, 1, 400)).astype(np.float32)


def save_frames(path: Path, shape: Sequence[Any], order: Sequence[int], drop: bool = False) -> str:
    """A model of waveforms whose output is (1, values, time), transposed; `drop` drops the 1."""
    make = onnx.helper
    axes = {"to": [1] if len(shape) == 2 else [0, 1], "first": [0]}
    nodes = [
        make_node("Unsqueeze", "x to", "wave"),
        make_node("Conv", "wave kernel", "values", strides=[200]),
        make_node("Transpose", "values", "turned", perm=order),
        make_node("Squeeze" if drop else "Identity", "turned first" if drop else "turned", "y"),
    ]
    given = [make.make_tensor_value_info("x", 1, shape)]
    made = [make.make_tensor_value_info("y", 1, None)]
    kept = [onnx.numpy_helper.from_array(np.array(axes[n], np.int64), n) for n in axes]
    kept.append(onnx.numpy_helper.from_array(KERNEL, "kernel"))
    graph = make.make_graph(nodes, "test", given, made, kept)
    opset = [make.make_opsetid("", 18)]
    onnx.save(make.make_model(graph, opset_imports=opset, ir_version=9), path)
    return str(path)


def compute_frames(clip: np.ndarray) -> np.ndarray:
    """What `save_frames` averages: (values,)."""
    frames = np.lib.stride_tricks.sliding_window_view(clip, 400)[::200]
    return (frames @ KERNEL[:, 0].T).mean(axis=0)


def save_model(
    path: Path, shape: Sequence[Any], nodes: Sequence[Any], kind: int = 1, **outputs: Any
) -> str:
    """Save a model with the input x, whose nodes compute the outputs of these shapes."""
    make = onnx.helper
    given = [make.make_tensor_value_info("x", kind, shape)]
    made = [make.make_tensor_value_info(name, kind, size) for name, size in outputs.items()]
    axes = [
        make.make_tensor(f"axis{axis}", onnx.TensorProto.INT64, [1], [axis]) for axis in (-2, -1)
    ]
    bands = make.make_tensor("times", kind, [1, VALUES], np.arange(VALUES, dtype=np.float32))
    graph = make.make_graph([*nodes], "test", given, made, [*axes, bands])
    opset = [make.make_opsetid("", 18)]
    onnx.save(make.make_model(graph, opset_imports=opset, ir_version=9), path)
    return str(path)


def make_node(kind: str, inputs: str, output: str, **settings: Any) -> Any:
    return onnx.helper.make_node(kind, inputs.split(), [output], **settings)


def save_power(path: Path, shape: Sequence[Any], kind: int = 1) -> str:
    """A model of waveforms: "power" is the mean square, times 0 to 4; "peak" the maximum."""
    nodes = [
        make_node("Mul", "x x", "squares"),
        make_node("ReduceMean", "squares axis-1", "mean", keepdims=1),
        make_node("MatMul", "mean times", "power"),
        make_node("ReduceMax", "x axis-1", "peak", keepdims=1),
    ]
    front = list(shape[:-1])
    return save_model(path, shape, nodes, kind, power=[*front, VALUES], peak=[*front, 1])


def save_bands(path: Path, shape: Sequence[Any], axis: int) -> str:
    """A model of mel bands: their mean over the frames."""
    node = make_node("ReduceMean", f"x axis{axis}", "bands", keepdims=0)
    sizes = [size for at, size in enumerate(shape) if at != len(shape) + axis]
    return save_model(path, shape, [node], bands=sizes)


def compute_power(clip: np.ndarray) -> np.ndarray:
    return np.mean(clip**2) * np.arange(VALUES)


@pytest.mark.parametrize("shape", [["n"], ["b", "n"], [1, "n"], ["b", 1, "n"], [3, "n"]])
def test_waveforms_of_any_length(tmp_path: Path, shape: list[Any]) -> None:
    """Windows of 2.5 s; also for a file that states how many inputs it takes."""
    features = OnnxEmbedding(save_power(tmp_path / "a.onnx", shape), window=2.5)
    clip = make_noise(5.0)
    assert features.shape == (VALUES, 1)
    found = compute_features(features, clip, RATE)
    np.testing.assert_allclose(found[:, 0], compute_power(clip), rtol=1e-5)
    clips = [(clip, RATE), (make_noise(3.0, 1), RATE), (make_noise(2.0, 2), RATE)]
    for each, values in zip(clips, features.compute_batch(clips), strict=True):
        np.testing.assert_allclose(values, compute_features(features, *each), rtol=1e-5)


def test_waveforms_of_a_stated_length(tmp_path: Path) -> None:
    path = save_power(tmp_path / "a.onnx", ["b", 4 * RATE])
    features, clip = OnnxEmbedding(path), make_noise(8.0)
    found = compute_features(features, clip, RATE)
    np.testing.assert_allclose(found[:, 0], compute_power(clip), rtol=1e-5)
    short = make_noise(2.0)  # repeated
    found = compute_features(features, short, RATE)
    np.testing.assert_allclose(found[:, 0], compute_power(short), rtol=1e-5)
    with pytest.raises(InputError, match=r"features\.window=2: the model's input has 64000 samp"):
        OnnxEmbedding(path, window=2)(clip, RATE)


def test_the_output_can_be_chosen(tmp_path: Path) -> None:
    path = save_power(tmp_path / "a.onnx", ["b", "n"])
    clip = make_noise(2.0)
    for output in ("peak", 1, "1"):
        assert OnnxEmbedding(path, output=output)(clip, RATE)[:, 0] == clip.max()
    line = r"features\.output=x: the outputs are power, peak; choose one by its name or number, 0 t"
    with pytest.raises(InputError, match=line):
        OnnxEmbedding(path, output="x")(clip, RATE)


def test_half_precision_is_accepted(tmp_path: Path) -> None:
    path = save_power(tmp_path / "a.onnx", ["b", "n"], onnx.TensorProto.FLOAT16)
    clip = make_noise(2.0)
    found = OnnxEmbedding(path, output="peak")(clip, RATE)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found[0], clip.max(), rtol=1e-3)


def test_outputs_over_time_are_averaged(tmp_path: Path) -> None:
    """(batch, time, values), here of the input reshaped to frames of 100 samples."""
    size = onnx.helper.make_tensor("size", onnx.TensorProto.INT64, [3], [0, -1, 100])
    nodes = [
        onnx.helper.make_node("Constant", [], ["size"], value=size),
        make_node("Reshape", "x size", "frames"),
    ]
    path = save_model(tmp_path / "a.onnx", ["b", "n"], nodes, frames=["b", "t", 100])
    clip = make_noise(2.0)
    found = OnnxEmbedding(path)(clip, RATE)
    np.testing.assert_allclose(found[:, 0], clip.reshape(-1, 100).mean(axis=0), atol=1e-6)


@pytest.mark.parametrize("length", ["n", 2 * RATE])
@pytest.mark.parametrize(
    ("front", "order", "drop"),
    [
        ([], [0, 2, 1], False),  # A3: (1, time, values) gave one number
        ([], [0, 2, 1], True),
        ([1], [0, 2, 1], False),
        ([1], [0, 2, 1], True),
        (["b"], [0, 2, 1], False),
        ([3], [0, 2, 1], False),
    ],
)
def test_frames_of_values_are_averaged(
    tmp_path: Path, length: Any, front: list[Any], order: list[int], drop: bool
) -> None:
    path = save_frames(tmp_path / "a.onnx", [*front, length], order, drop)
    clip = make_noise(2.0)
    found = compute_features(OnnxEmbedding(path), clip, RATE)
    np.testing.assert_allclose(found[:, 0], compute_frames(clip), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("front", [[], [1], ["b"]])
def test_the_axis_that_grows_with_the_audio_is_time(tmp_path: Path, front: list[Any]) -> None:
    """B8: of (batch, values, time) the values were averaged."""
    path = save_frames(tmp_path / "a.onnx", [*front, "n"], [0, 1, 2])
    for window in (None, 0.1):
        features, clip = OnnxEmbedding(path, window=window), make_noise(2.0)
        found = compute_features(features, clip, RATE)
        assert found.shape == features.shape == (VALUES, 1)
        if window is None:
            np.testing.assert_allclose(found[:, 0], compute_frames(clip), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(features.compute_batch([(clip, RATE)])[0], found, rtol=1e-5)


def test_a_single_frame_without_an_axis_for_items_is_no_item(tmp_path: Path) -> None:
    path = save_frames(tmp_path / "a.onnx", ["n"], [0, 2, 1], drop=True)
    features, clip = OnnxEmbedding(path), make_noise(0.03)  # too short for a second frame
    features(make_noise(2.0), RATE)
    np.testing.assert_allclose(features(clip, RATE)[:, 0], compute_frames(clip), rtol=1e-4)


def test_outputs_without_an_axis_for_the_batch_are_refused(tmp_path: Path) -> None:
    """B9: len() of unsized object; and an output of which two axes grow."""
    mean = make_node("ReduceMean", "x", "y", keepdims=0)
    path = save_model(tmp_path / "a.onnx", ["b", "n"], [mean], y=[])
    line = r"its output y is \(\) for a batch of 1; the first axis has to be the batch"
    with pytest.raises(InputError, match=line):
        OnnxEmbedding(path)(make_noise(2.0), RATE)
    single = save_model(tmp_path / "b.onnx", ["n"], [mean], y=[])
    assert OnnxEmbedding(single)(make_noise(2.0), RATE).shape == (1, 1)
    nodes = [make_node("Unsqueeze", "x axis-1", "a"), make_node("Unsqueeze", "x axis-2", "c")]
    nodes.append(make_node("Mul", "a c", "y"))
    both = save_model(tmp_path / "c.onnx", ["b", "n"], nodes, y=["b", "n", "n"])
    with pytest.raises(InputError, match=r"its axes 1 and 2 change with the length of the audio"):
        OnnxEmbedding(both, window=0.1)(make_noise(2.0), RATE)


def test_an_input_of_integers_is_refused(tmp_path: Path) -> None:
    kind = onnx.TensorProto.INT16
    path = save_model(tmp_path / "a.onnx", ["n"], [make_node("Identity", "x", "y")], kind, y=["n"])
    with pytest.raises(
        InputError, match=r"input x is tensor\(int16\); one of real numbers is need"
    ):
        OnnxEmbedding(path)(make_noise(2.0), RATE)


def test_a_failing_model_says_so_once(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """C10: onnxruntime wrote a line of its own. The kernel is longer than 0.1 s here."""
    features = OnnxEmbedding(save_frames(tmp_path / "a.onnx", ["n"], [0, 1, 2]), sample_rate=100)
    with pytest.raises(InputError, match=r"a\.onnx: it fails on input of shape \(300,\)") as caught:
        features(np.zeros(300, np.float32), 100)
    assert len(str(caught.value)) < 400
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", ["a.onnx", "a.data"])
def test_a_pointer_of_git_lfs_is_refused(tmp_path: Path, name: str) -> None:
    """C3: also in place of a file of weights."""
    path = save_power(tmp_path / "a.onnx", ["b", "n"])
    model = onnx.load(path)
    (times,) = (each for each in model.graph.initializer if each.name == "times")
    times.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(times), "times"))
    onnx.save_model(model, path, save_as_external_data=True, location="a.data", size_threshold=0)
    assert OnnxEmbedding(path)(make_noise(2.0), RATE).shape == (VALUES, 1)
    (tmp_path / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:a\n")
    with pytest.raises(InputError, match=rf"{name} is a pointer of Git LFS.*: git lfs pull"):
        OnnxEmbedding(path)


@pytest.mark.parametrize(
    ("shape", "axis"),
    [(["b", 187, 96], -2), ([1, 187, 96], -2), (["b", 1, 96, 187], -1), ([64, 187, 96], -2)],
)
def test_patches_of_mel_bands(tmp_path: Path, shape: list[Any], axis: int) -> None:
    """musicnn's input in any order: the same bands and patches as features=musicnn."""
    features = OnnxMelEmbedding(save_bands(tmp_path / "a.onnx", shape, axis))
    clip = make_noise(11.0)
    found = compute_features(features, clip, RATE)
    expected = cut_patches(compute_mel(clip), PATCH).mean(axis=(0, 2))
    np.testing.assert_allclose(found[:, 0], expected, rtol=1e-4)
    assert np.isfinite(compute_features(features, clip[:RATE], RATE)).all()  # shorter than a patch


def test_mel_bands_of_any_length(tmp_path: Path) -> None:
    path = save_bands(tmp_path / "a.onnx", [1, 32, "frames"], -1)
    settings = {"n_mels": 32, "n_fft": 1024, "hop_length": 512}
    features = OnnxMelEmbedding(path, sample_rate=22_050, levels="dB", **settings)
    clip = np.random.default_rng(0).normal(0, 0.1, 5 * 22_050).astype(np.float32)
    expected = Mel(duration=5.0, **settings)(clip, 22_050).mean(axis=1)
    found = compute_features(features, clip, 22_050)
    np.testing.assert_allclose(found[:, 0], expected, rtol=1e-5)
    halves = OnnxMelEmbedding(path, sample_rate=22_050, levels="dB", window=2.5, **settings)
    assert np.abs(compute_features(halves, clip, 22_050) - found).max() > 0


def test_the_file_identifies_it_and_not_its_place(tmp_path: Path) -> None:
    path = save_power(tmp_path / "a.onnx", ["b", "n"])
    copy = str(shutil.copy(path, tmp_path / "b.onnx"))
    here, there = OnnxEmbedding(path), OnnxEmbedding(copy)
    assert here == there
    assert identify_features(here) == identify_features(there)
    assert build_features(describe_features(here)) == here
    others = {"sample_rate": 8000}, {"window": 2.0}, {"output": 1}, {"duration": 5.0}
    for other in others:
        assert identify_features(OnnxEmbedding(path, **other)) != identify_features(here)
    save_power(tmp_path / "b.onnx", ["b", 1, "n"])
    with pytest.raises(InputError, match="it contains another model than before"):
        there(make_noise(2.0), RATE)
    mel = save_bands(tmp_path / "mel.onnx", ["b", 96, "n"], -1)
    assert OnnxMelEmbedding(mel) != OnnxMelEmbedding(mel, hop_length=160)
    (tmp_path / "a.onnx.data").write_bytes(b"of another model")
    assert OnnxEmbedding(path) == here


@pytest.mark.parametrize("name", ["a.onnx.data", "any name", "weights/a.bin"])
def test_weights_in_a_file_of_any_name_identify_it(tmp_path: Path, name: str) -> None:
    path = save_power(tmp_path / "a.onnx", ["b", "n"])
    (tmp_path / name).parent.mkdir(exist_ok=True)
    model = onnx.load(path)
    (times,) = (each for each in model.graph.initializer if each.name == "times")
    values = onnx.numpy_helper.to_array(times)
    times.CopyFrom(onnx.numpy_helper.from_array(values, "times"))
    settings = {"all_tensors_to_one_file": True, "location": name, "size_threshold": 0}
    onnx.save_model(model, path, save_as_external_data=True, **settings)
    here, clip = OnnxEmbedding(path), make_noise(2)
    before = here(clip, RATE)
    weights = (tmp_path / name).read_bytes()
    changed = weights.replace(np.float32(4).tobytes(), np.float32(5).tobytes())
    assert changed != weights
    (tmp_path / name).write_bytes(changed)
    with pytest.raises(InputError, match="it contains another model than before"):
        here.check_available()
    there = OnnxEmbedding(path)
    assert there != here
    assert np.abs(there(clip, RATE) - before).max() > 0
    (tmp_path / name).unlink()
    with pytest.raises(InputError, match=rf"its file of weights {Path(name).name}: No such file"):
        OnnxEmbedding(path)


@pytest.mark.parametrize("place", ["attribute", "branch", "function"])
def test_weights_outside_the_list_of_initial_values_identify_it(tmp_path: Path, place: str) -> None:
    tensor = onnx.numpy_helper.from_array(np.ones(2, np.float32), "w")
    onnx.external_data_helper.set_external_data(tensor, "elsewhere")
    tensor.ClearField("raw_data")
    node = make_node("Constant", "", "w", value=tensor)
    made = [onnx.helper.make_tensor_value_info("w", 1, [2])]
    graph = onnx.helper.make_graph([node], "inner", [], made)
    functions = []
    if place == "branch":
        branches = {"then_branch": graph, "else_branch": graph}
        graph = onnx.helper.make_graph([make_node("If", "c", "w", **branches)], "g", [], made)
    elif place == "function":
        opset = [onnx.helper.make_opsetid("", 18)]
        functions = [onnx.helper.make_function("own", "F", [], ["w"], [node], opset)]
        graph = onnx.helper.make_graph([], "g", [], made)
    path = tmp_path / "a.onnx"
    path.write_bytes(onnx.helper.make_model(graph, functions=functions).SerializeToString())
    (tmp_path / "elsewhere").write_bytes(b"1")
    here = OnnxEmbedding(str(path))
    (tmp_path / "elsewhere").write_bytes(b"2")
    assert OnnxEmbedding(str(path)) != here


def test_without_onnxruntime_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    features = OnnxEmbedding(save_power(tmp_path / "a.onnx", ["b", "n"]))
    monkeypatch.setattr(onnx_features, "find_spec", lambda _: None)
    with pytest.raises(InputError, match=r"pip install 'genreclf\[onnx\]'"):
        features.check_available()


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"model": "nowhere.onnx"}, "features.model=nowhere.onnx: No such file"),
        ({"model": ""}, "the path of an ONNX file is needed"),
        ({"sample_rate": 0}, r"features\.sample_rate=0: set a number above 0"),
        ({"sample_rate": 0.5e4 + 0.5}, r"features\.sample_rate=5000\.5: set a whole number"),
        ({"window": 0}, r"features\.window=0: at least 0\.1 s"),
        ({"n_mels": -1}, r"features\.n_mels=-1: set a number above 0"),
        ({"levels": "db"}, "features.levels=db: choose log10 or dB"),
    ],
)
def test_impossible_settings_are_refused(
    tmp_path: Path, settings: dict[str, Any], line: str
) -> None:
    path = save_bands(tmp_path / "a.onnx", ["b", 96, "n"], -1)
    with pytest.raises(InputError, match=line):
        OnnxMelEmbedding(**{"model": path, **settings})


def test_files_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    clip = make_noise(2.0)
    (tmp_path / "text.onnx").write_text("not a model")
    with pytest.raises(InputError, match=r"text\.onnx: no ONNX file, or damaged"):
        OnnxEmbedding(str(tmp_path / "text.onnx"))(clip, RATE)
    bands = save_bands(tmp_path / "bands.onnx", ["b", 96, 187], -1)
    with pytest.raises(InputError, match=r"'b', 96, 187\]; waveforms are \(samples,\), \(batch, s"):
        OnnxEmbedding(bands)(clip, RATE)
    with pytest.raises(InputError, match=r"'b', 96, 187\]; mel .* 64 bands: set features\.n_mels"):
        OnnxMelEmbedding(bands, n_mels=64)(clip, RATE)
    with pytest.raises(InputError, match=r"features\.window=3: the model's input has 187 frames"):
        OnnxMelEmbedding(bands, window=3)(clip, RATE)
    with pytest.raises(InputError, match=r"\['n'\]; mel bands are \(bands, frames\)"):
        OnnxMelEmbedding(save_power(tmp_path / "power.onnx", ["n"]))(clip, RATE)


@pytest.mark.slow
def test_a_classifier_on_it_predicts(
    train: Callable[..., dict[str, Any]],
    command: Callable[..., str],
    tmp_path: Path,
    music: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The file is found from any folder, and an export says that it needs it."""
    path = save_bands(tmp_path / "a.onnx", ["b", 128, 96], -2)
    monkeypatch.chdir(tmp_path)
    result = train("features=onnx_mel", "features.model=a.onnx", "model=linear", "test=false")
    folder = result["folder"].absolute()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    model = genreclf.load(folder, device="cpu")
    assert model.predict(next(music.rglob("*.mp3"))).genre in model.classes
    assert model.features == OnnxMelEmbedding(path, duration=2.5)
    exported = command("export", f"checkpoint={folder}", f"folder={tmp_path / 'exported'}")
    assert Path(exported, "a.onnx").read_bytes() == Path(path).read_bytes()


def test_the_model_has_to_be_named(
    command: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        command("train", "features=onnx")
    assert "features.model" in capsys.readouterr().err
