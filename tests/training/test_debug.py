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


def test_a_profile_shows_what_takes_time_e24(tmp_path: Path) -> None:
    """E24: Lightning's table has dozens of rows of a microsecond, 250 columns wide."""
    rows = [
        "FIT Profiler Report",
        "|  Action \t|  Mean duration (s)\t|  Num calls \t|  Total time (s) \t|  Percentage %  |",
        "|  Total  \t|  -  \t|  9  \t|  2.5  \t|  100 %  |",
        "|  run_training_epoch \t|  2.0  \t|  1  \t|  2.0  \t|  80.0  |",
        "|  [Callback]Patience{'monitor': 'a'}.setup \t|  7e-7 \t|  1  \t|  7e-7 \t|  0.0001  |",
    ]
    (tmp_path / "fit-profile.txt").write_text("\n".join(rows))
    said = describe_debugging("profile", [], tmp_path).splitlines()
    assert said[1:] == [
        "  80.0     2.000        1  run_training_epoch",
        f"everything: {tmp_path / 'fit-profile.txt'}",
    ]


@pytest.mark.parametrize("name", ["study", "prepare"])
def test_only_train_can_be_debugged(
    command: Callable[..., str], capsys: pytest.CaptureFixture[str], name: str
) -> None:
    with pytest.raises(SystemExit):
        command(name, "debug=fast")
    assert capsys.readouterr().err == "genreclf: debug=... is for genreclf train\n"
