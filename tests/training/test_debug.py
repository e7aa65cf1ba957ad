"""debug=fast, overfit and profile: short runs that leave nothing finished behind."""

from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import TINY

from genreclf.training.debug import describe_debugging

DATA = ["data=folder", "data.duration=2.5", "model=efficient_cnn", *TINY]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("option", "settings", "said"),
    [
        ("fast", [], "everything ran: training, validation and test"),
        ("overfit", ["trainer.max_epochs=3"], "the training loss "),
        ("profile", ["debug.batches=2"], "run_training_batch"),
    ],
)
def test_debugging_leaves_no_finished_run(
    command: Callable[..., str],
    music: Path,
    tmp_path: Path,
    option: str,
    settings: list[str],
    said: str,
) -> None:
    """It says what it found and where its files are; studies and reports see no run."""
    for _ in range(2):  # it starts afresh each time
        line = command("train", f"data.root={music}", *DATA, f"debug={option}", *settings)
        folder = Path(line)
        assert folder.parent == tmp_path / "debug"
        assert folder.name.startswith(f"{option}-folder-efficient_cnn-")
        assert (folder / "best.ckpt").exists()
    assert said in (folder / "train.log").read_text()
    assert not [*tmp_path.rglob("result.json")]
    assert not (tmp_path / "train").exists()


@pytest.mark.slow
def test_debugging_takes_one_batch_of_each_part(command: Callable[..., str], music: Path) -> None:
    folder = command("train", f"data.root={music}", *DATA, "debug=fast", "batch_size=4")
    log = Path(folder, "train.log").read_text()
    assert "tracks: 4 train, 4 val, 4 test" in log


def test_the_loss_is_compared(tmp_path: Path) -> None:
    """A loss that falls to less than a half is learnt; anything else comes with advice."""
    falls = [{"train/loss": 1.4}, {"train/loss": 0.2}]
    text = "the training loss fell from 1.400 to 0.200 in 2 epochs: the model learns these tracks"
    assert describe_debugging("overfit", falls, tmp_path) == text
    stays = [{"train/loss": 1.4}, {"train/loss": float("nan")}]
    assert "check the labels" in describe_debugging("overfit", stays, tmp_path)


@pytest.mark.parametrize("name", ["study", "prepare"])
def test_only_train_can_be_debugged(
    command: Callable[..., str], capsys: pytest.CaptureFixture[str], name: str
) -> None:
    with pytest.raises(SystemExit):
        command(name, "debug=fast")
    assert capsys.readouterr().err == "genreclf: debug=... is for genreclf train\n"
