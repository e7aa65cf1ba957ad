import ctypes
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from genreclf import models
from genreclf.audio.features import Mel
from genreclf.commands import network as network_command
from genreclf.errors import InputError
from genreclf.figures import network, spectrogram, style
from genreclf.figures.network import Step, trace_network

OPTIONS = (Path(__file__).parents[2] / "conf/model").glob("*.yaml")
MODELS = sorted(file.stem for file in OPTIONS if file.stem != "svm")  # which is no network
SMALL = ["bins=32", "frames=64"]
MAGIC = {".svg": b"<?xml", ".png": b"\x89PNG", ".pdf": b"%PDF"}


def text_of(path: str | Path) -> str:
    return "\n".join(re.findall(r"<text[^>]*>([^<]*)<", Path(path).read_text()))


def one_line(run: Callable[[], Any], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit):
        run()
    error = capsys.readouterr().err
    assert error.startswith("genreclf: ")
    assert error.count("\n") == 1
    return error


def by_name(steps: list[Step]) -> dict[str, Step]:
    return {step.name or step.layers[0]: step for step in steps}


@pytest.mark.parametrize("model", MODELS)
def test_every_model_is_drawn(command: Callable[..., str], tmp_path: Path, model: str) -> None:
    path = command("network", f"model={model}", *SMALL)
    assert path == str(tmp_path / f"figures/network-{model}.svg")
    text = text_of(path)
    if model in ("linear", "mlp"):
        assert "Statistics" in text
    else:
        first = r"Conv2d \d+x\d, 1 to \d+ \+ (BatchNorm \+ ReLU|relu \+ BatchNorm)"
        assert re.search(first, text)
        assert "dropout" in text
    assert "scores of 8 classes" in text
    assert re.search(r"[\d,]+ parameters", text)


def test_the_table_is_logged(command: Callable[..., str], caplog: pytest.LogCaptureFixture) -> None:
    network_command.log.addHandler(caplog.handler)  # Hydra replaces those of the root logger
    command("network", *SMALL, "classes=5")
    network_command.log.removeHandler(caplog.handler)
    lines = caplog.text.splitlines()
    assert any(re.match(r"rnn +GRU, 2 layers, 128 to 32 +8 x 32 +21,888$", line) for line in lines)
    assert lines[-1] == "38,790 parameters"


@pytest.mark.parametrize(
    "net",
    [
        models.CNNRNN(8),
        models.CNNRNN(8, cell="lstm", axis="frequency", unused_gate=True),
        models.EfficientCNN(8),
        models.ConventionalCNN(8),
    ],
    ids=lambda net: type(net).__name__,
)
def test_parameters_add_up(net: nn.Module) -> None:
    steps = trace_network(net, 32, 64)
    assert sum(step.parameters for step in steps) == models.count_parameters(net)


def test_the_papers_network_at_the_papers_size() -> None:
    steps = trace_network(models.CNNRNN(8), 128, 1292)
    named = by_name(steps)
    assert named["trunk.block1.0-2"].layers == ["Conv2d 3x3, 1 to 32 + BatchNorm + ReLU"]
    assert named["trunk.drop3"].shape == (128, 16, 161)
    assert named["mean over frequency"].shape == (128, 161)
    assert named["rnn"].shape == named["residual"].shape == (161, 32)
    assert named["attention"].kind == "attention"
    assert steps[-1].shape == (8,)
    pooled = steps.index(named["mean over frequency"])
    for name in ("rnn", "residual"):
        assert named[name].reads == {pooled: (161, 128)}, "the residual is a branch"
    assert set(named["+"].reads) == {steps.index(named["rnn"]), steps.index(named["residual"])}


def test_unused_modules_are_counted(command: Callable[..., str]) -> None:
    named = by_name(trace_network(models.CNNRNN(8, unused_gate=True), 32, 64))
    assert (named["gate"].shape, named["gate"].parameters) == (None, 161)
    text = text_of(command("network", *SMALL, "model.unused_gate=true"))
    assert "39,050 parameters, 161 of them unused" in text


class Skipping(nn.Module):
    """A skip round a block, functions and parameters of its own, unlike the paper's networks."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 4, 3, padding=1)
        self.block = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.ReLU(inplace=True))
        self.token = nn.Parameter(torch.zeros(1, 1, 4))
        self.mixer = nn.MultiheadAttention(4, 2, batch_first=True)
        self.last = nn.Linear(8, 3)

    def forward(self, features: Tensor) -> Tensor:
        image = self.first(features[:, None]).relu()
        sequence = (image + self.block(image)).mean(2).transpose(1, 2)
        sequence = torch.cat([self.token, sequence], dim=1)
        mixed, _ = self.mixer(sequence, sequence, sequence)
        return self.last(torch.cat([mixed.mean(1), mixed.amax(1)], dim=1))


def test_any_net_is_traced() -> None:
    net = Skipping()
    steps = trace_network(net, 8, 16)
    assert sum(step.parameters for step in steps) == models.count_parameters(net)
    first, block, added = steps[1:4]
    assert (first.name, first.layers) == ("first", ["Conv2d 3x3, 1 to 4 + relu"])
    assert (block.name, block.reads) == ("block", {1: (4, 8, 16)})
    assert (added.layers, set(added.reads)) == (["+"], {1, 2})
    named = by_name(steps)
    assert named["mixer"].kind == "attention"
    assert named["amax over axis 1"].reads.keys() == named["mean over axis 1"].reads.keys()
    assert (named["token"].layers, named["token"].parameters) == (["parameters"], 4)
    assert not net.training


class Repeated(nn.Module):
    """A layer that is called twice, what comes before an activation read again, and a size."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(16, 16)

    def forward(self, features: Tensor) -> Tensor:
        before = self.layer(features.view(features.size(0), -1, 16))
        return self.layer(before + before.relu()).mean(1)


def test_a_step_that_is_read_twice_stays_apart() -> None:
    steps = trace_network(Repeated(), 8, 16)
    assert [step.layers[0] for step in steps[1:5]] == [
        "Linear 16 to 16",
        "relu",
        "+",
        "Linear 16 to 16",
    ]
    assert steps[3].reads.keys() == {1, 2}
    assert [step.parameters for step in steps] == [0, 272, 0, 0, 0, 0, 0]


class Branching(nn.Module):
    def forward(self, features: Tensor) -> Tensor:
        return features.sum(2) if features.sum() > 0 else features.mean(2)


def test_a_net_that_cannot_be_traced_is_refused() -> None:
    with pytest.raises(InputError, match=r"Branching: torch.fx cannot trace it: .* control flow"):
        trace_network(Branching(), 8, 16)


@pytest.mark.parametrize("suffix", [".svg", ".png", ".pdf"])
def test_the_suffix_chooses_the_format(
    command: Callable[..., str], tmp_path: Path, suffix: str
) -> None:
    files = [tmp_path / f"{name}/net{suffix}" for name in "ab"]
    for file in files:
        assert command("network", "model=efficient_cnn", *SMALL, f"file={file}") == str(file)
    content = files[0].read_bytes()
    assert content.startswith(MAGIC[suffix])
    assert content == files[1].read_bytes(), "the same net gives the same file"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["file=net.jpg"], "file=net.jpg: its name must end in .svg, .png, .pdf"),
        (["bins=7"], "bins=7 frames=1292: this model needs 8 x 8"),
        (["classes=0"], "classes=0: at least 1 is needed"),
    ],
)
def test_a_drawing_that_cannot_be_is_one_line(
    command: Callable[..., str],
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    assert message in one_line(lambda: command("network", *arguments), capsys)


@pytest.fixture
def clip(music: Path) -> Path:
    return min((music / "Rock").rglob("*.mp3"))


@pytest.mark.parametrize(
    ("features", "shown"),
    [
        ("mel", ["frequency, Hz", "1,000", "dB"]),
        ("mel_frames", ["frequency, Hz", "8,000", "dB"]),
        ("mfcc", ["coefficient", "12"]),
        ("chroma", ["pitch class", "F#"]),
        ("waveform", ["amplitude"]),
    ],
)
def test_every_feature_is_drawn(
    command: Callable[..., str], tmp_path: Path, clip: Path, features: str, shown: list[str]
) -> None:
    path = command("spectrogram", f"clip={clip}", f"features={features}", "data.duration=2.5")
    assert path == str(tmp_path / f"figures/{clip.stem}-{features}.svg")
    text = text_of(path).splitlines()
    assert {"time, s", spectrogram.read_title(clip), *shown} <= set(text)
    assert Path(path).stat().st_size < 500_000


def test_a_short_clip_is_not_followed_by_silence(clip: Path) -> None:
    drawn = spectrogram.draw_clip(spectrogram.read_clip(clip, Mel(n_mels=16)))
    assert drawn.axes[0].get_xlim() == pytest.approx((0, 2.5), abs=0.1)


def test_the_clip_of_the_paper(command: Callable[..., str], fma_clip: Path) -> None:
    drawing = command("spectrogram", f"clip={fma_clip}")
    assert {"Food by AWOL", "8,000", "30"} <= set(text_of(drawing).splitlines())
    assert Path(drawing).stat().st_size < 500_000


def test_the_title_comes_from_the_tags_or_the_name(
    monkeypatch: pytest.MonkeyPatch, music: Path, tmp_path: Path
) -> None:
    class Tagged:
        tags = {"title": ["A$AP\x00 & $ong <1>"], "TPE1": ["x" * 90]}  # noqa: RUF012

    (tmp_path / "plain.mp3").write_bytes(b"no tags")
    assert spectrogram.read_title(tmp_path / "plain.mp3") == "plain.mp3"
    monkeypatch.setattr("mutagen.File", lambda *_, **__: Tagged)
    assert spectrogram.read_title(tmp_path / "plain.mp3") == "A$AP & $ong <1> by ..."


def test_odd_titles_can_be_drawn(
    command: Callable[..., str], monkeypatch: pytest.MonkeyPatch, clip: Path, tmp_path: Path
) -> None:
    monkeypatch.setattr(spectrogram, "read_title", lambda _: r"$\x{ 日本 & <b>")
    for suffix in MAGIC:
        command("spectrogram", f"clip={clip}", "data.duration=2.5", f"file={tmp_path}/a{suffix}")
    assert "日本 &amp; &lt;b&gt;" in (tmp_path / "a.svg").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("axis", ["time", "frequency"])
def test_a_checkpoint_adds_genres_and_attention(
    train: Callable[..., dict[str, Any]], command: Callable[..., str], clip: Path, axis: str
) -> None:
    best = train(f"model.axis={axis}", "normalise=per_bin")["folder"] / "best.ckpt"
    text = text_of(command("spectrogram", f"clip={clip}", f"checkpoint={best}")).splitlines()
    assert {"Ambient", "Dance", "Folk", "Rock", "probability, %", "time, s"} <= set(text)
    assert [line for line in text if line.startswith("attention,")]
    percent = [float(line[:-2]) for line in text if re.fullmatch(r"[\d.]+ %", line)]
    assert sum(percent) == pytest.approx(100, abs=0.3)
    assert percent == sorted(percent, reverse=True)


def test_a_net_without_attention_adds_its_genres(
    train: Callable[..., dict[str, Any]],
    command: Callable[..., str],
    clip: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    best = train("model=efficient_cnn")["folder"] / "best.ckpt"
    text = text_of(command("spectrogram", f"clip={clip}", f"checkpoint={best}"))
    assert "probability, %" in text
    assert "attention" not in text
    arguments = (f"clip={clip}", f"checkpoint={best}", "features=mfcc")
    error = one_line(lambda: command("spectrogram", *arguments), capsys)
    assert "the features come from the checkpoint: leave features=mfcc out" in error


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "clip=... is needed"),
        (["clip=/nowhere.mp3"], "clip=/nowhere.mp3: no such file"),
        (["clip={noise}"], "noise.mp3: not audio: text"),
        (["clip={noise}", "file=a.gif"], "file=a.gif: its name must end in .svg, .png, .pdf"),
        (["clip={noise}", "features=precomputed"], "choose another features="),
        (["clip={noise}", "checkpoint=/nowhere.ckpt"], "checkpoint=/nowhere.ckpt: no such file"),
    ],
)
def test_a_clip_that_cannot_be_drawn_is_one_line(
    command: Callable[..., str],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    arguments: list[str],
    message: str,
) -> None:
    noise = tmp_path / "noise.mp3"
    noise.write_bytes(b"no music at all" * 100)
    given = [argument.format(noise=noise) for argument in arguments]
    assert message in one_line(lambda: command("spectrogram", *given), capsys)


def crash(path: str, features: Any) -> str:
    """Do what a hostile file does to a decoder."""
    return str(ctypes.string_at(0))


def test_a_clip_that_crashes_the_decoder_is_one_line(
    clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spectrogram, "extract_with_rate", crash)
    with pytest.raises(InputError, match=r"^clip=.*: the decoder crashed \(signal 11\)$"):
        spectrogram.read_clip(clip, Mel(n_mels=16))


def test_a_net_is_described_without_a_config() -> None:
    assert "classifier.4" in network.format_table(trace_network(models.EfficientCNN(3), 8, 8))


class Tempogram:
    """Features from elsewhere, which say themselves how they are drawn."""

    name = "tempogram"
    duration = 4.0
    bin_label, value_label = "tempo, BPM", "strength"
    bin_ticks = {0.0: "60", 2.0: "180"}  # noqa: RUF012
    value_range = (0.0, 1.0)


def test_features_of_your_own_are_drawn() -> None:
    values = np.linspace(0, 1, 24, dtype=np.float32).reshape(3, 8)
    plain = type("Plain", (), {"name": "plain", "duration": 4.0})()
    for features, shown in [
        (Tempogram(), {"tempo, BPM", "strength", "60", "180"}),
        (plain, {"bin", "value", "0", "2"}),
    ]:
        clip = spectrogram.make_clip("a clip", features, values, None, 4.0)
        text = re.findall(r"<text[^>]*>([^<]*)<", style.render_svg(spectrogram.draw_clip(clip)))
        assert {"a clip", "time, s", *shown} <= set(text)
