"""Weights as their authors publish them: modules of other names, in another order."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from genreclf import paper
from genreclf.audio.features import Mel
from genreclf.errors import InputError
from genreclf.models import CNNRNN, ConventionalCNN, EfficientCNN
from genreclf.models.import_weights import load_any_checkpoint, load_state_dict

CLASSES = list(paper.CLASSES)


class Published(nn.Module):
    """The CNN-GRU written as the scripts might, attention registered before the recurrent part."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(1, 32, 3, padding=1), nn.BatchNorm2d(32)
        self.attn = nn.Sequential(nn.Linear(32, 16), nn.Tanh(), nn.Linear(16, 1))
        self.dw2, self.dw_bn2 = nn.Conv2d(32, 32, 3, padding=1, groups=32, bias=False), bn(32)
        self.pw2, self.pw_bn2 = nn.Conv2d(32, 64, 1, bias=False), bn(64)
        self.dw3, self.dw_bn3 = nn.Conv2d(64, 64, 3, padding=1, groups=64, bias=False), bn(64)
        self.pw3, self.pw_bn3 = nn.Conv2d(64, 128, 1, bias=False), bn(128)
        self.fc = nn.Linear(32, 8)
        self.gru = nn.GRU(128, 32, num_layers=2, batch_first=True)
        self.shortcut = nn.Linear(128, 32)

    def forward(self, features: Tensor) -> Tensor:
        x = nn.functional.max_pool2d(self.bn1(self.conv1(features[:, None])).relu(), 2)
        x = self.pw_bn2(self.pw2(self.dw_bn2(self.dw2(x)).relu())).relu()
        x = nn.functional.max_pool2d(x, 2)
        x = self.pw_bn3(self.pw3(self.dw_bn3(self.dw3(x)).relu())).relu()
        x = nn.functional.max_pool2d(x, 2)
        bands = x.mean(dim=3).permute(0, 2, 1)
        sequence = self.gru(bands)[0] + self.shortcut(bands)
        weights = torch.softmax(self.attn(sequence), dim=1)
        return self.fc((weights * sequence).sum(dim=1))


def bn(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels)


@pytest.fixture
def published() -> Published:
    """Random weights and running statistics, none like another."""
    torch.manual_seed(0)
    net = Published()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight.data, module.bias.data, module.running_mean):
                tensor.normal_()
            module.running_var.uniform_(0.5, 2)
    return net.eval()


def test_the_published_network_gives_the_same_logits(published: Published, tmp_path: Path) -> None:
    path = tmp_path / "final.pth"
    torch.save(published.state_dict(), path)
    trained = load_state_dict(path, CLASSES, Mel())
    clips = torch.randn(2, 128, 72)
    assert isinstance(trained.net, CNNRNN)
    torch.testing.assert_close(trained.net(clips), published(clips))
    assert (trained.classes, trained.bins, trained.trained_on) == (CLASSES, 128, None)
    along_time = load_state_dict(path, CLASSES, Mel(), axis="time")
    assert not torch.allclose(along_time.net(clips), published(clips))


@pytest.mark.parametrize(
    "net",
    [
        CNNRNN(8, "lstm", "frequency"),
        CNNRNN(8, "gru", "frequency", unused_gate=True),
        CNNRNN(8, "lstm", "frequency", unused_gate=True),
        EfficientCNN(8),
        ConventionalCNN(8),
    ],
    ids=["lstm", "gru-gate", "lstm-gate", "efficient", "conventional"],
)
def test_every_network_is_known_by_its_shapes(net: nn.Module, tmp_path: Path) -> None:
    renamed = {
        f"module.{k.replace('.', '_', k.count('.') - 1)}": v for k, v in net.state_dict().items()
    }
    assert not set(renamed) & set(net.state_dict())
    best = np.float64(0.6365)
    torch.save({"epoch": 3, "val_acc": best, "model_state_dict": renamed}, tmp_path / "net.pth")
    trained = load_state_dict(tmp_path / "net.pth", CLASSES, Mel())
    assert type(trained.net) is type(net)
    clips = torch.randn(2, 128, 40)
    torch.testing.assert_close(trained.net(clips), net.eval()(clips))


def test_modules_may_come_in_another_order(tmp_path: Path) -> None:
    """The residual's bias has the shape of the first convolution's and of three norms'."""
    net = CNNRNN(8, axis="frequency").eval()
    state = net.state_dict()
    first = [name for name in state if name.startswith("residual")]
    rearranged = {name: state[name] for name in (*first, *state)}
    renamed = {f"x.{name}": value for name, value in rearranged.items()}
    clips = torch.randn(2, 128, 40)
    for number, weights in enumerate((rearranged, renamed)):
        torch.save(weights, tmp_path / f"{number}.pth")
        trained = load_state_dict(tmp_path / f"{number}.pth", CLASSES, Mel())
        torch.testing.assert_close(trained.net(clips), net(clips))


def test_a_checkpoint_of_genreclf_is_told(tmp_path: Path) -> None:
    torch.save({"genreclf": {"format": 1}, "state_dict": {}}, tmp_path / "best.ckpt")
    with pytest.raises(InputError, match=r"leave out classes=\.\.\.,"):
        load_any_checkpoint(tmp_path / "best.ckpt", "paper", "frequency", Mel())


def test_bad_settings_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="axis='depth'"):
        load_state_dict(tmp_path / "net.pth", CLASSES, Mel(), axis="depth")
    with pytest.raises(InputError, match="a genre is named twice in 1, 2, 1"):
        load_any_checkpoint(tmp_path / "net.pth", [1, 2, 1], "time", Mel())


class Malicious:
    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.file),)


def test_pickled_code_is_not_run(tmp_path: Path) -> None:
    torch.save({"weights": Malicious(tmp_path / "made")}, tmp_path / "evil.pth")
    torch.save(EfficientCNN(8), tmp_path / "whole.pth")
    for name in ("evil.pth", "whole.pth"):
        with pytest.raises(InputError, match="pickled code, which is not run"):
            load_state_dict(tmp_path / name, CLASSES, Mel())
    assert not (tmp_path / "made").exists()


def test_other_files_are_refused(tmp_path: Path) -> None:
    torch.save(nn.Linear(3, 8).state_dict(), tmp_path / "linear.pth")
    torch.save(EfficientCNN(4).state_dict(), tmp_path / "four.pth")
    torch.save({"epoch": 3}, tmp_path / "none.pth")
    (tmp_path / "text.pth").write_text("hello")
    reasons = {
        "linear": "its 2 tensors match none of",
        "four": r"with 8 classes; name every genre",
        "none": "contains no state dict",
        "text": "damaged",
        "absent": "no such file",
    }
    for name, reason in reasons.items():
        with pytest.raises(InputError, match=reason):
            load_state_dict(tmp_path / f"{name}.pth", CLASSES, Mel())


def test_evaluate_reads_a_state_dict(
    command: Callable[..., str], published: Published, tmp_path: Path, music: Path
) -> None:
    path = tmp_path / "final.pth"
    torch.save(published.state_dict(), path)
    genres = "[Ambient,Dance,Folk,Rock,a,b,c,d]"
    data = ("data=folder", f"data.root={music}", "features=mel", "features.hop_length=2048")
    line = command("evaluate", f"checkpoint={path}", f"classes={genres}", *data)
    assert '"trained_on": null' in Path(line).read_text()
    with np.load(write_row(tmp_path)) as rows:
        logits = published(torch.from_numpy(rows["features"]))
    csv = command("evaluate", f"checkpoint={path}", "classes=paper", "data=npz", npz(tmp_path))
    predicted = (Path(csv).parent / "predictions.csv").read_text().splitlines()[1].split(",")
    assert predicted[2] == CLASSES[int(logits.argmax())]


def test_rows_that_do_not_fit_are_refused(
    command: Callable[..., str],
    published: Published,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    torch.save(published.state_dict(), tmp_path / "final.pth")
    for shape, reason in {
        (16, 64): "features of 16 bins, the checkpoint was trained on 128; if this plain",
        (128, 4): "4 frames, this model needs 8",
    }.items():
        row = np.zeros((1, *shape), np.float32)
        row[..., 0] = 1
        np.savez(tmp_path / "row.npz", features=row, labels=np.array(["Pop"]), track_ids=[1])
        with pytest.raises(SystemExit):
            command(
                *("evaluate", f"checkpoint={tmp_path}/final.pth", "classes=paper"),
                *("data=npz", npz(tmp_path)),
            )
        assert reason in capsys.readouterr().err


def test_scores_that_are_no_numbers_are_no_result(
    command: Callable[..., str],
    published: Published,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    published.conv1.weight.data[0] = torch.nan
    torch.save(published.state_dict(), tmp_path / "nan.pth")
    write_row(tmp_path)
    for classes, reason in {
        "paper": "scores of 1 of 1 tracks are not finite numbers",
        "papr": "classes=papr: a list of genres by number is needed, or paper",
    }.items():
        with pytest.raises(SystemExit):
            command(
                *("evaluate", f"checkpoint={tmp_path}/nan.pth", f"classes={classes}"),
                *("data=npz", npz(tmp_path)),
            )
        assert reason in capsys.readouterr().err


def npz(folder: Path) -> str:
    return f"data.path={folder / 'row.npz'}"


def write_row(folder: Path) -> Path:
    row = np.random.default_rng(0).normal(size=(1, 128, 64)).astype(np.float32)
    np.savez(folder / "row.npz", features=row, labels=np.array(["Pop"]), track_ids=[1])
    return folder / "row.npz"
