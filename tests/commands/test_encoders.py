"""Runs on encoders: archives that record theirs, and stores and checkpoints without theirs."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import genreclf
from genreclf.audio.descriptions import describe_features
from genreclf.commands import stores
from genreclf.errors import InputError
from genreclf.models import OnnxEmbedding
from genreclf.models.encoders.places import list_encoder_files, name_encoders

onnx: Any = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

Command = Callable[..., str]
Refuse = Callable[..., str]
LINEAR = ["model=linear", "report=false", "test=false"]


def save_encoder(path: Path, values: int = 5, factor: float = 1.0) -> Path:
    """A model of waveforms whose values are multiples of the mean square."""
    make = onnx.helper
    times = np.arange(1, values + 1, dtype=np.float32) * factor
    graph = make.make_graph(
        [
            make.make_node("Mul", ["x", "x"], ["squares"]),
            make.make_node("ReduceMean", ["squares", "axis"], ["mean"], keepdims=1),
            make.make_node("MatMul", ["mean", "times"], ["y"]),
        ],
        "test",
        [make.make_tensor_value_info("x", 1, ["b", "n"])],
        [make.make_tensor_value_info("y", 1, ["b", values])],
        [
            make.make_tensor("axis", onnx.TensorProto.INT64, [1], [-1]),
            make.make_tensor("times", 1, [1, values], times),
        ],
    )
    opset = [make.make_opsetid("", 18)]
    onnx.save(make.make_model(graph, opset_imports=opset, ir_version=9), path)
    return path


@pytest.fixture
def refuse(command: Command, capsys: pytest.CaptureFixture[str]) -> Refuse:
    """Runs a command that has to fail; returns its one line of error."""

    def run(*arguments: str) -> str:
        with pytest.raises(SystemExit):
            command(*arguments)
        return capsys.readouterr().err.splitlines()[-1]

    return run


@pytest.fixture
def encoder(tmp_path: Path) -> Path:
    return save_encoder(tmp_path / "enc.onnx")


@pytest.fixture
def data(music: Path) -> list[str]:
    return ["data=folder", f"data.root={music}", "data.duration=2.5"]


@pytest.fixture
def archive(command: Command, data: list[str], encoder: Path, tmp_path: Path) -> Path:
    """What `genreclf embed` writes of the small folder of music."""
    path = tmp_path / "embedded.npz"
    command("embed", *data, "features=onnx", f"features.model={encoder}", f"file={path}")
    return path


def read_features(result: str) -> dict[str, Any]:
    return json.loads(Path(result).read_text())["config"]["features"]


def test_what_is_trained_on_an_archive_takes_audio_a2(
    command: Command, archive: Path, music: Path, encoder: Path
) -> None:
    """The features that it records are adopted, unless features=precomputed is typed."""
    npz = ["data=npz", f"data.path={archive}", *LINEAR]
    result = command("train", *npz)
    assert read_features(result)["model"] == str(encoder)
    model = genreclf.load(Path(result).parent)
    assert model.predict(next(music.rglob("*.mp3"))).genre in model.classes
    evaluated = command("evaluate", f"checkpoint={Path(result).parent}", *npz[:2])
    assert Path(evaluated).is_file()
    other = command("train", *npz, "features=precomputed")
    assert read_features(other)["_target_"] == "genreclf.audio.Precomputed"


def test_other_features_than_an_archive_records_are_refused_a2(
    command: Command, refuse: Refuse, archive: Path, data: list[str], tmp_path: Path
) -> None:
    npz = ["data=npz", f"data.path={archive}"]
    other = save_encoder(tmp_path / "other.onnx", factor=2)
    assert re.search(
        r"its rows are .*enc\.onnx.*, not .*other\.onnx.*; leave out",
        refuse("train", *npz, *LINEAR, "features=onnx", f"features.model={other}"),
    )
    assert re.search(
        "its rows are features=onnx .*, not features=mel",
        refuse("train", *npz, *LINEAR, "features=mel"),
    )
    trained = command("train", *data, *LINEAR, "features=onnx", f"features.model={other}")
    assert re.search(
        r"its rows are .*enc\.onnx.*, not .*other\.onnx.*; embed",
        refuse("evaluate", f"checkpoint={Path(trained).parent}", *npz),
    )


def test_archives_of_different_features_are_refused_a2(
    command: Command, refuse: Refuse, archive: Path, data: list[str], tmp_path: Path
) -> None:
    other = save_encoder(tmp_path / "other.onnx", factor=2)
    path = tmp_path / "embedded2.npz"
    command("embed", *data, "features=onnx", f"features.model={other}", f"file={path}")
    assert re.search(
        "hold different features",
        refuse("train", "data=npz", f"data.path={tmp_path}/embedded*.npz", *LINEAR),
    )


def test_an_archive_whose_features_are_unknown_stays_precomputed_a2(
    command: Command, archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[Any] = []
    monkeypatch.setattr(stores.log, "warning", lambda *line: said.append(line))
    arrays = dict(np.load(archive))
    described = json.loads(str(arrays.pop("genreclf")))
    described["features"] = {"_target_": "mine.Features"}
    np.savez(tmp_path / "own.npz", **arrays, genreclf=np.array(json.dumps(described)))
    result = command("train", "data=npz", f"data.path={tmp_path / 'own.npz'}", *LINEAR)
    assert read_features(result)["_target_"] == "genreclf.audio.Precomputed"
    assert "cannot predict from audio" in str(said)
    np.savez(tmp_path / "old.npz", **arrays)  # of a version that recorded nothing
    said.clear()
    result = command("train", "data=npz", f"data.path={tmp_path / 'old.npz'}", *LINEAR)
    assert read_features(result)["_target_"] == "genreclf.audio.Precomputed"
    assert not said


def test_a_finished_store_trains_without_its_encoder_b1(
    command: Command, refuse: Refuse, data: list[str], encoder: Path, tmp_path: Path
) -> None:
    """Its features are known from the store; only what decodes other audio needs the encoder."""
    chosen = ["features=onnx", f"features.model={encoder}"]
    store = command("prepare", *data, *chosen)
    encoder.unlink()
    result = command("train", f"store={store}", *LINEAR, f"outputs={tmp_path / 'elsewhere'}")
    command("train", f"store={store}", "model=mlp", "trainer.max_epochs=1", "report=false")
    evaluated = command("evaluate", f"checkpoint={Path(result).parent}", f"store={store}")
    assert Path(evaluated).is_file()
    assert Path(command("evaluate", f"checkpoint={Path(result).parent}", *data)).is_file()
    with pytest.raises(InputError, match=r"enc\.onnx"):
        genreclf.load(Path(result).parent).predict("a.mp3")
    assert re.search(r"enc\.onnx", refuse("train", *data, *LINEAR, *chosen))


@pytest.mark.parametrize("option", ["musicnn", "concat"])
def test_the_weights_of_musicnn_are_not_needed_for_a_finished_store_b1(
    command: Command,
    refuse: Refuse,
    data: list[str],
    option: str,
    musicnn_weights: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    chosen = [f"features={option}"]
    command("prepare", *data, *chosen)
    monkeypatch.setenv("GENRECLF_CACHE", str(tmp_path / "empty"))
    result = command("train", *data, *chosen, *LINEAR)
    with pytest.raises(InputError, match="genreclf download model=musicnn"):
        genreclf.load(Path(result).parent).predict("a.mp3")
    assert re.search(
        "genreclf download model=musicnn",
        refuse("train", *data, *chosen, *LINEAR, "data.duration=2"),
    )


def test_a_moved_encoder_is_found_in_the_folder_of_the_run_b2(
    command: Command, data: list[str], encoder: Path, music: Path, refuse: Refuse, tmp_path: Path
) -> None:
    """Another file at the recorded path is not taken for it; the digest decides."""
    result = command("train", *data, *LINEAR, "features=onnx", f"features.model={encoder}")
    run, song = Path(result).parent, next(music.rglob("*.mp3"))
    scores = genreclf.load(run).predict(song).scores
    encoder.rename(tmp_path / "away.onnx")
    with pytest.raises(InputError, match=f"neither at {encoder} nor in {run}: put it into that"):
        genreclf.load(run).predict(song)
    elsewhere = f"outputs={tmp_path / 'elsewhere'}"  # where there is no store
    assert "put it into that" in refuse("evaluate", f"checkpoint={run}", *data, elsewhere)
    shutil.copy(tmp_path / "away.onnx", run / "enc.onnx")
    np.testing.assert_allclose(
        [*genreclf.load(run).predict(song).scores.values()], [*scores.values()]
    )
    save_encoder(encoder, factor=2)
    np.testing.assert_allclose(
        [*genreclf.load(run).predict(song).scores.values()], [*scores.values()]
    )
    (run / "enc.onnx").unlink()
    with pytest.raises(InputError, match="another model than before"):
        genreclf.load(run).predict(song)


def test_an_exported_model_holds_its_onnx_file_and_no_folder_of_its_author_b2(
    command: Command, data: list[str], encoder: Path, music: Path, tmp_path: Path
) -> None:
    result = command("train", *data, *LINEAR, "features=onnx", f"features.model={encoder}")
    folder = Path(command("export", f"checkpoint={Path(result).parent}", f"folder={tmp_path}/ex"))
    for name in ("model.json", "README.md"):
        text = (folder / name).read_text()
        assert "enc.onnx" in text
        assert str(tmp_path) not in text.replace(str(folder), "")
    assert (folder / "enc.onnx").read_bytes() == encoder.read_bytes()
    encoder.unlink()
    moved = folder.rename(tmp_path / "moved")
    assert genreclf.load(moved).predict(next(music.rglob("*.mp3"))).genre
    (moved / "enc.onnx").unlink()
    with pytest.raises(InputError, match=f"enc.onnx is not in {moved}: put it into that folder"):
        genreclf.load(moved).predict("song.mp3")


def test_encoders_are_named_and_copied_safely_b2(encoder: Path, tmp_path: Path) -> None:
    described = describe_features(OnnxEmbedding(str(encoder)))
    hub = {"_target_": "genreclf.models.HuggingFaceEmbedding", "model": "MIT/ast", "digest": "1"}
    local = {**hub, "model": "/home/me/ast"}
    bundled = {"_target_": "genreclf.models.ModelEmbedding", "checkpoint": "pretrained"}
    concat = {"_target_": "genreclf.audio.ConcatenatedFeatures", "parts": [hub, local, bundled]}
    models = [each.get("model") for each in name_encoders(concat)["parts"]]
    assert models == ["MIT/ast", "ast", None]
    assert name_encoders({"name": "mel"}) == {"name": "mel"}
    assert list_encoder_files(described) == {"enc.onnx": encoder}
    (tmp_path / "b").mkdir()
    other = describe_features(OnnxEmbedding(str(save_encoder(tmp_path / "b/enc.onnx", factor=3))))
    with pytest.raises(InputError, match=r"named enc\.onnx; rename it"):
        list_encoder_files({**concat, "parts": [described, other]})
    save_encoder(encoder, factor=2)  # no longer the recorded one
    assert not list_encoder_files(described)


def test_what_the_tracks_alone_show_is_refused_before_extraction_b4(
    refuse: Refuse, music: Path, tmp_path: Path, data: list[str], encoder: Path
) -> None:
    """A genre of one track, too: it is decoded, to know whether it is a genre at all."""
    onnx_features = ["features=onnx", f"features.model={encoder}", *LINEAR]
    assert "choose split=artist or split=stratified" in refuse(
        "train", *data, *onnx_features, "split=all"
    )
    assert "tracks_per_genre=0" in refuse("train", *data, *onnx_features, "tracks_per_genre=0")
    shutil.copytree(music, tmp_path / "few")
    (tmp_path / "few/Lone").mkdir()
    shutil.copy(next((music / "Rock").rglob("*.mp3")), tmp_path / "few/Lone/a.mp3")
    few = ["data=folder", f"data.root={tmp_path / 'few'}", "data.duration=2.5", *onnx_features]
    said = refuse("train", *few, "split=kfold", "split.folds=2")
    assert "Lone has 1 track, fewer than 2 folds" in said
    assert "fewer folds:" not in said
    assert not list(tmp_path.glob("stores/*.h5*"))


def test_evaluation_is_refused_before_extraction_b4(
    command: Command, refuse: Refuse, data: list[str], encoder: Path, music: Path, tmp_path: Path
) -> None:
    result = command("train", *data, *LINEAR, "features=onnx", f"features.model={encoder}")
    elsewhere = [f"checkpoint={Path(result).parent}", f"outputs={tmp_path / 'elsewhere'}"]
    assert "split=official" in refuse("evaluate", *data, *elsewhere, "split=official")
    shutil.copytree(music / "Rock", tmp_path / "other/Polka")
    other = [*elsewhere, "data=folder", f"data.root={tmp_path / 'other'}"]
    assert "does not know: Polka" in refuse("evaluate", *other)
    assert not list((tmp_path / "elsewhere").glob("stores/*.h5*"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["init.frozen=[norm]"], "this key goes with init=musicnn or init=pretrained"),
        (["+init.frozen=[norm]"], "or init=musicnn or init=pretrained first"),
        (["features.model=a.onnx"], "goes with features=huggingface or features=onnx"),
        (["init=pretrained", "features=chroma"], "type init=pretrained without features=..."),
    ],
)
def test_a_key_of_another_option_names_that_option_c7_c8(
    refuse: Refuse, data: list[str], arguments: list[str], message: str
) -> None:
    assert message in refuse("train", *data, *arguments)


def test_a_sweep_over_features_with_different_keys_says_so_c11(
    refuse: Refuse, data: list[str]
) -> None:
    arguments = ["-m", "features=musicnn,onnx", "features.model=a.onnx"]
    assert "features=musicnn has no such key: run a command for each" in refuse(
        "train", *data, *arguments
    )


def test_a_run_without_a_checkpoint_says_so_c9(tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text("{}")
    with pytest.raises(InputError, match=r"left no best\.ckpt, .*model=svm does not"):
        genreclf.load(tmp_path)


def test_a_study_checks_the_features_of_all_phases_first_b3(
    refuse: Refuse, music: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GENRECLF_CACHE", str(tmp_path / "empty"))
    said = refuse(
        "study", "study=encoders", "data=folder", f"data.root={music}", "data.duration=2.5"
    )
    assert "phase musicnn_folds: features=musicnn needs the weights" in said
    assert not list(tmp_path.glob("train/*"))
