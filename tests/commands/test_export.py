import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from genreclf.commands import export
from genreclf.commands.export import NOTES
from genreclf.data.store import Store
from genreclf.errors import InputError
from genreclf.evaluation.metrics import fit_temperature
from genreclf.evaluation.runs import Predictions
from genreclf.models import AttentiveCNN
from genreclf.models.checkpoint import load_checkpoint
from genreclf.models.model_files import PRETRAINED, read_seen_tracks
from genreclf.training.finetune import copy_weights

pytestmark = pytest.mark.slow  # each trains and tests a model

Train = Callable[..., dict[str, Any]]
Command = Callable[..., str]
SMALL = ["model=attentive_cnn", "model.channels=[4,4,4,4]", "model.mixed=8"]


@pytest.fixture
def run(train: Train) -> Path:
    """A run that left its test part alone."""
    return train(*SMALL, "normalise=per_bin", "split=artist", "test=false")["folder"]


def test_the_folder_gives_the_net_its_logits_divided_by_the_temperature(
    command: Command, run: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "gift"
    checkpoint = f"checkpoint={run / 'best.ckpt'}"
    assert command("export", checkpoint, f"folder={folder}") == str(folder)
    before, after = load_checkpoint(run / "best.ckpt"), load_checkpoint(folder)
    assert (after.classes, after.features, after.trained_on, after.model) == (
        before.classes,
        before.features,
        before.trained_on,
        before.model,
    )
    clips = torch.randn(5, 32, 54) * 10 - 40
    torch.testing.assert_close(after.normalise(clips), before.normalise(clips))
    predictions = Predictions.read(run / "predictions.csv")
    cooling = fit_temperature(predictions.labels, predictions.scores)
    torch.testing.assert_close(after.net(clips), before.net(clips) / cooling)
    card = (folder / "README.md").read_text()
    assert f"temperature of {cooling:.3f}" in card
    assert "data.root=..." in card
    assert "| Ambient |" in card
    with (folder / "README.md").open("a") as file:
        file.write("\n## Unknown\n\nMeasured by hand.\n")
    for _ in range(2):  # is kept, each time
        command("export", checkpoint, f"folder={folder}", "title=Again")
    again = (folder / "README.md").read_text()
    assert again.startswith("# Again\n")
    assert again.endswith(f"{NOTES}\n\n## Unknown\n\nMeasured by hand.\n")
    assert again.count("by hand") == 1
    assert NOTES in (PRETRAINED / "README.md").read_text()


def test_a_card_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    """The notes on it would be lost; it was a traceback."""
    card = tmp_path / "README.md"
    assert export._keep_notes(card) == f"\n\n{NOTES}\n"
    card.write_bytes(f"{NOTES} caf".encode() + b"\xe9")
    with pytest.raises(InputError, match=r"README.md: not UTF-8 \(.*\): save it as UTF-8"):
        export._keep_notes(card)
    card.unlink()
    card.mkdir()
    with pytest.raises(InputError, match=r"README.md: Is a directory"):
        export._keep_notes(card)


def test_evaluation_and_prediction_take_the_folder(
    command: Command, run: Path, tmp_path: Path, music: Path
) -> None:
    folder = command("export", f"checkpoint={run}", f"folder={tmp_path / 'gift'}")
    data = ["data=folder", f"data.root={music}", "split=artist"]
    whole = json.loads(Path(command("evaluate", f"checkpoint={folder}", *data)).read_text())
    own = json.loads(Path(command("evaluate", f"checkpoint={run}/best.ckpt", *data)).read_text())
    assert whole["confusion"] == own["confusion"]
    assert whole["trained_on"] == own["trained_on"] == 0


def test_a_run_that_was_tested_is_not_calibrated_on_its_test_part(
    command: Command, train: Train, capsys: pytest.CaptureFixture[str]
) -> None:
    run = train(*SMALL)["folder"]
    with pytest.raises(SystemExit):
        command("export", f"checkpoint={run / 'best.ckpt'}")
    assert "train it with test=false" in capsys.readouterr().err


def test_the_command_on_the_card_names_a_folder_of_options_b7() -> None:
    """B7: with an option of --config-dir, the command did not work without that folder."""
    ours = {
        "model": "cnn_gru",
        "metric": "standard",
        "augmentation@oversampling.augmentation": "none",
    }
    assert not export._needs_folder(ours)
    assert export._needs_folder({**ours, "metric": "['standard', 'kappa']"})
    assert export._needs_folder({**ours, "model": "mine"})


def test_what_computes_the_features_is_listed() -> None:
    """What is neither in the exported folder nor part of genreclf; mel bands need no weights."""
    parts = [
        {"_target_": "genreclf.models.MusicnnFrames"},
        {"_target_": "genreclf.models.ModelEmbedding", "checkpoint": "pretrained"},
        {"_target_": "genreclf.models.ModelEmbedding", "checkpoint": "/runs/a"},
        {"_target_": "genreclf.models.OnnxEmbedding", "model": "/a.onnx"},
    ]
    concat = {"_target_": "genreclf.audio.ConcatenatedFeatures", "parts": parts}
    musicnn = "musicnn (genreclf download model=musicnn)"
    assert export._list_encoders(concat) == [musicnn, "/runs/a", "/a.onnx"]
    for mel in ({"_target_": "genreclf.models.MusicnnMel"}, {"name": "mel_frames"}):
        assert not export._list_encoders(mel)


def test_damaged_folders_are_named(command: Command, run: Path, tmp_path: Path) -> None:
    folder = Path(command("export", f"checkpoint={run / 'best.ckpt'}", f"folder={tmp_path / 'g'}"))
    weights = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(weights[:1000])
    with pytest.raises(InputError, match="damaged"):
        load_checkpoint(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"no model\.safetensors in this folder"):
        load_checkpoint(folder)
    with pytest.raises(InputError, match=r"no model\.json in this folder"):
        load_checkpoint(tmp_path)


@pytest.mark.slow
def test_training_begins_with_the_weights(
    command: Command, train: Train, run: Path, music: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    begin = ["init=pretrained", f"init.checkpoint={run / 'best.ckpt'}", *SMALL]
    mel = ["features=mel", "features.n_mels=32", "features.n_fft=1024", "features.hop_length=1024"]
    still = ["optimizer.lr=1e-12", "augmentation=none", "optimizer.weight_decay=0"]
    result = train(*begin, *mel, *still, "split=artist", "test=false", "ema=null")
    before, after = (
        load_checkpoint(run / "best.ckpt"),
        load_checkpoint(result["folder"] / "best.ckpt"),
    )
    for name, value in before.net.named_parameters():
        torch.testing.assert_close(after.net.get_parameter(name), value)
    clips = torch.randn(5, 32, 54)
    torch.testing.assert_close(after.normalise(clips), before.normalise(clips))
    for other, line in (
        ([*begin, *mel, "features.n_fft=2048"], "has other features: n_fft=1024"),
        ([*begin, *mel, "model.mixed=16"], "has other model: mixed=8"),
        ([*begin, *mel, "normalise=none"], "leave out normalise=..., and"),
        (["normalise=init"], "goes with init=pretrained"),
    ):
        capsys.readouterr()
        with pytest.raises(SystemExit):
            train(*other)
        assert line in capsys.readouterr().err


def test_training_begins_with_weights_of_the_papers_nets_too(train: Train) -> None:
    begun = train("model=cnn_gru", "split=artist", "test=false")["folder"] / "best.ckpt"
    begin = ["init=pretrained", f"init.checkpoint={begun}", "model=cnn_gru", "features=mel"]
    begin += ["features.n_mels=32", "features.n_fft=1024", "features.hop_length=1024"]
    result = train(*begin, "split=stratified")
    assert result["params"] == 38757
    seen = result["data"]["seen_before"]["test"]  # in the other split
    assert f"was trained on {seen} of the" in (result["folder"] / "train.log").read_text()
    assert seen > 0


def test_rows_that_were_stored_otherwise_are_not_called_new(command: Command, music: Path) -> None:
    before = load_checkpoint("pretrained").trained_on
    assert before is not None
    assert list(before.digests) == ["uint8"]
    data = ["data=folder", f"data.root={music}"]
    result = Path(command("train", *data, "init=pretrained", "trainer.max_epochs=1", "test=false"))
    printed = (result.parent / "train.log").read_text()
    for part in ("val", "test"):
        assert f"pretrained model was trained on the {part} tracks: its rows" in printed
    assert json.loads(result.read_text())["data"]["seen_before"] == {"val": None, "test": None}
    page = (result.parent / "report.html").read_text()
    assert "It is not known whether the pretrained weights" in page
    after = load_checkpoint(result.parent / "best.ckpt")
    assert after.trained_on is not None
    assert set(after.trained_on.digests) == {"uint8", "float32", "some_audio"}
    digests = after.trained_on.digests
    assert digests["uint8"] == before.digests["uint8"]
    assert len(digests["some_audio"]) == len(digests["float32"]) > 0
    card = Path(command("export", f"checkpoint={result.parent / 'best.ckpt'}"), "README.md")
    assert "It is not known whether the pretrained weights" in card.read_text()


def test_stored_features_are_compared_with_waveforms_a13(train: Train) -> None:
    """A13: a model that was trained on waveforms has seen the mel features of the same files."""
    stored = train()
    waveforms = train("features.on_device=true", "split=artist")
    trained_on = read_seen_tracks(waveforms["folder"] / "best.ckpt")
    store = Store(stored["folder"] / stored["data"]["store"])
    seen = sum(waveforms["data"]["split"]["train"].values())
    assert trained_on.count(store, range(len(store))) == seen


def test_a_net_of_another_version_is_refused(command: Command, run: Path, tmp_path: Path) -> None:
    folder = Path(command("export", f"checkpoint={run / 'best.ckpt'}", f"folder={tmp_path / 'g'}"))
    described = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps(described | {"format": 2}))
    with pytest.raises(InputError, match=r"g: exported by another version of genreclf$"):
        load_checkpoint(folder)


@pytest.mark.parametrize("name", ["pretrained", "fma8", "tags"])
def test_the_name_of_the_packages_net_is_no_folder(
    name: str, command: Command, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        command("export", f"checkpoint={run / 'best.ckpt'}", f"folder={name}")
    assert "stands for a model of genreclf itself" in capsys.readouterr().err


def test_a_setting_that_a_net_is_older_than_has_its_default(
    command: Command, train: Train, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(command("export", f"checkpoint={run / 'best.ckpt'}", f"folder={tmp_path / 'g'}"))
    described = json.loads((folder / "model.json").read_text())
    for name in ("squeeze", "kernels"):
        del described["model"][name]
    (folder / "model.json").write_text(json.dumps(described))
    begin = ["init=pretrained", f"init.checkpoint={folder}", *SMALL]
    begin += ["features=mel", "features.n_mels=32", "features.n_fft=1024"]
    begin += ["features.hop_length=1024"]
    assert train(*begin)["params"]
    with pytest.raises(SystemExit):
        train(*begin, "model.squeeze=2")
    assert "has other model: squeeze=0" in capsys.readouterr().err


def test_other_genres_get_a_last_layer_of_their_own(run: Path) -> None:
    begun = load_checkpoint(run / "best.ckpt")
    torch.manual_seed(1)
    net = AttentiveCNN(3, [4, 4, 4, 4], mixed=8)
    last = net.classifier[1].weight.clone()
    copy_weights(net, begun, ["x", "y", "z"], torch.zeros(1, 32, 54))
    torch.testing.assert_close(net.classifier[1].weight, last)
    for name, value in begun.net.state_dict().items():
        if not name.startswith("classifier"):
            torch.testing.assert_close(net.state_dict()[name], value)
    four = AttentiveCNN(4, [4, 4, 4, 4], mixed=8)
    copy_weights(four, begun, begun.classes, torch.zeros(1, 32, 54))
    torch.testing.assert_close(four.classifier[1].weight, begun.net.classifier[1].weight)  # pyright: ignore


@pytest.mark.parametrize("step", [1, 2, 3])
@pytest.mark.parametrize("killed", [True, False], ids=["killed", "full disk"])
def test_an_interrupted_export_never_mixes_two_models_f2(
    command: Command,
    train: Train,
    run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    step: int,
    killed: bool,
) -> None:
    """F2: over an existing folder, the old model, the new one, or a line; and never a mix.

    The disk is full when the `step`-th file is written; the process is killed just before that
    file is replaced.
    """
    folder = tmp_path / "gift"
    command("export", f"checkpoint={run}", f"folder={folder}", "title=Old")
    old = {file.name: file.read_bytes() for file in folder.iterdir()}
    other = train(*SMALL, "normalise=per_bin", "split=artist", "test=false", "seed=1")["folder"]
    steps = []

    def fail(self: Path, *arguments: Any, **settings: Any) -> Any:
        if self.name.startswith(".") and self.parent == folder:
            steps.append(self.name)
            if len(steps) == step:
                raise OSError(28, "No space left on device")
        return method(self, *arguments, **settings)

    name = "replace" if killed else "open"
    method = getattr(Path, name)
    with monkeypatch.context() as patch:
        patch.setattr(Path, name, fail)
        with pytest.raises(SystemExit):
            command("export", f"checkpoint={other}", f"folder={folder}", "title=New")
    found = {file.name: file.read_bytes() for file in folder.iterdir()}
    if step == 1 or not killed:
        assert found == old
        assert load_checkpoint(folder)
    else:
        with pytest.raises(InputError, match="an interrupted export"):
            load_checkpoint(folder)
    command("export", f"checkpoint={other}", f"folder={folder}", "title=New")
    assert load_checkpoint(folder)
    assert "New" in (folder / "README.md").read_text()


def test_a_first_export_that_was_interrupted_can_be_repeated_f2(
    command: Command, run: Path, tmp_path: Path
) -> None:
    """F2: what it left behind is not taken for another model's card."""
    folder = tmp_path / "gift"
    command("export", f"checkpoint={run}", f"folder={folder}")
    (folder / "model.json").unlink()
    with pytest.raises(InputError, match=r"no model\.json in this folder"):
        load_checkpoint(folder)
    command("export", f"checkpoint={run}", f"folder={folder}")
    assert load_checkpoint(folder)
