import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from encode import make_song

from genreclf.errors import InputError
from genreclf.models.checkpoint import build_model, load_checkpoint

pytestmark = pytest.mark.slow  # each trains and tests a model

Train = Callable[..., dict[str, Any]]


@pytest.fixture
def checkpoint(train: Train) -> Path:
    return train("trainer.max_epochs=2", "split=artist")["folder"] / "best.ckpt"


def evaluate(command: Callable[..., str], checkpoint: Path, *arguments: str) -> dict[str, Any]:
    return json.loads(Path(command("evaluate", f"checkpoint={checkpoint}", *arguments)).read_text())


@pytest.mark.slow
def test_the_checkpoint_and_data_are_enough(
    command: Callable[..., str], checkpoint: Path, music: Path
) -> None:
    evaluation = evaluate(command, checkpoint, "data=folder", f"data.root={music}")
    assert {"accuracy", "interval", "f1_macro", "n", "per_genre", "confusion"} <= set(evaluation)
    assert evaluation["n"] == 48
    assert list(evaluation["per_genre"]) == ["Ambient", "Dance", "Folk", "Rock"]
    assert np.sum(evaluation["confusion"]) == 48
    result = json.loads((checkpoint.parent / "result.json").read_text())
    assert evaluation["trained_on"] == sum(result["data"]["split"]["train"].values())


def test_the_test_part_gives_the_runs_own_figures(
    command: Callable[..., str], checkpoint: Path, music: Path
) -> None:
    result = json.loads((checkpoint.parent / "result.json").read_text())
    evaluation = evaluate(command, checkpoint, "data=folder", f"data.root={music}", "split=artist")
    for name in ("accuracy", "f1_macro", "n", "confusion", "interval", "per_genre"):
        assert evaluation[name] == result["test"][name]
    assert evaluation["trained_on"] == 0
    predictions = (checkpoint.parent / "predictions.csv").read_text()
    (csv,) = checkpoint.parents[2].glob("evaluate/*/predictions.csv")
    assert csv.read_text() == predictions


def test_genres_are_matched_by_name(
    command: Callable[..., str], checkpoint: Path, music: Path, tmp_path: Path
) -> None:
    root = tmp_path / "other"
    shutil.copytree(music / "Rock", root / "rock")
    shutil.copytree(music / "Ambient", root / "AMBIENT")
    evaluation = evaluate(command, checkpoint, "data=folder", f"data.root={root}")
    assert (evaluation["n"], evaluation["noted"]) == (24, [])
    assert [evaluation["per_genre"][g]["support"] for g in ("Ambient", "Dance", "Rock")] == [
        12,
        0,
        12,
    ]


def test_files_that_are_used_in_part_are_listed(
    command: Callable[..., str], checkpoint: Path, music: Path, tmp_path: Path
) -> None:
    root = tmp_path / "other"
    shutil.copytree(music / "Rock", root / "Rock")
    cut = root / "Rock" / "cut.wav"
    soundfile.write(cut, make_song(5, 3), 22050)
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size * 3 // 4])
    evaluation = evaluate(command, checkpoint, "data=folder", f"data.root={root}")
    (noted,) = evaluation["noted"]
    assert (noted["track_id"], noted["path"]) == ("Rock/cut.wav", str(cut))
    assert "truncated" in noted["note"]


def test_unknown_genres_are_refused_by_name(
    command: Callable[..., str],
    checkpoint: Path,
    music: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shutil.copytree(music / "Rock", tmp_path / "other" / "Polka")
    with pytest.raises(SystemExit):
        evaluate(command, checkpoint, "data=folder", f"data.root={tmp_path / 'other'}")
    assert "genres that the checkpoint does not know: Polka" in capsys.readouterr().err


def test_npz_rows_are_taken_for_the_checkpoints_features(
    command: Callable[..., str], checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    rng = np.random.default_rng(0)
    for bins in (32, 31):
        np.savez(
            tmp_path / f"{bins}.npz",
            features=rng.normal(-40, 10, (6, bins, 54)),
            labels=np.array(["Rock", "Folk"] * 3),
            track_ids=np.arange(6),
        )
    assert evaluate(command, checkpoint, "data=npz", f"data.path={tmp_path}/32.npz")["n"] == 6
    with pytest.raises(SystemExit):
        evaluate(command, checkpoint, "data=npz", f"data.path={tmp_path}/31.npz")
    assert "features of 31 bins, the checkpoint was trained on 32" in capsys.readouterr().err


class Hostile:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.touch, (self.path,))


def test_pickled_code_is_never_run(tmp_path: Path) -> None:
    bait = tmp_path / "was-run"
    torch.save({"state_dict": {}, "genreclf": Hostile(bait)}, tmp_path / "hostile.ckpt")
    (tmp_path / "hostile.pkl").write_bytes(pickle.dumps(Hostile(bait)))
    for name in ("hostile.ckpt", "hostile.pkl"):
        with pytest.raises(InputError, match="not a checkpoint of genreclf"):
            load_checkpoint(tmp_path / name)
    assert not bait.exists()


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        load_checkpoint(tmp_path / "none.ckpt")
    (tmp_path / "text.ckpt").write_text("hello")
    torch.save({"weight": torch.zeros(3)}, tmp_path / "plain.pth")
    torch.save(torch.zeros(3), tmp_path / "tensor.pth")
    for name in ("text.ckpt", "plain.pth", "tensor.pth"):
        with pytest.raises(InputError, match="not a checkpoint of genreclf"):
            load_checkpoint(tmp_path / name)


def test_a_truncated_checkpoint_is_refused(checkpoint: Path) -> None:
    content = checkpoint.read_bytes()
    checkpoint.write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match="not a checkpoint of genreclf"):
        load_checkpoint(checkpoint)


def test_a_checkpoint_of_another_version_is_refused(tmp_path: Path, checkpoint: Path) -> None:
    torch.save({"genreclf": {"format": 1}}, tmp_path / "bare.ckpt")
    content = torch.load(checkpoint, weights_only=True)
    content["genreclf"]["model"]["wings"] = 2
    torch.save(content, tmp_path / "newer.ckpt")
    for name, line in (("bare", "does not fit this version"), ("newer", "CNNRNN rejects.*wings")):
        with pytest.raises(InputError, match=line):
            load_checkpoint(tmp_path / f"{name}.ckpt")


@pytest.mark.parametrize(
    "target",
    ["os.system", "genreclf.models.parameter_count", "genreclf.models.nn", "", "torch.nn.Linear"],
)
def test_nothing_but_a_net_is_built(target: str) -> None:
    line = "not part of genreclf|is not known to this version|settings without a _target_"
    with pytest.raises(InputError, match=line):
        build_model({"_target_": target}, 4)


def test_features_come_from_the_checkpoint(
    command: Callable[..., str], checkpoint: Path, music: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        evaluate(command, checkpoint, "data=folder", f"data.root={music}", "features=mel")
    assert "the features come from the checkpoint" in capsys.readouterr().err
