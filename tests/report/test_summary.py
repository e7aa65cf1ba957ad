import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from genreclf.errors import InputError
from genreclf.report import summary
from genreclf.report.summary import RunRecord

RECORD = RunRecord(
    run="a",
    settings="experiment=paper",
    data="Npz of 8 genres, 7193",
    features="128 x 128",
    split="fold",
    fold="0",
    seed=0,
    part="test",
    tracks=100,
    correct=50,
    f1_macro=0.5,
    loss=1.25,
    parameters=38889,
    epochs=20,
    minutes=30.0,
    commit="abc",
    device="CPU",
)


@pytest.mark.slow
def test_records_stay_when_the_runs_are_deleted(
    command: Callable[..., str], train: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    first = train("model=efficient_cnn", "split=artist")
    file = tmp_path / "kept" / "runs.csv"
    table = command("summary", f"runs={tmp_path / 'train'}", f"file={file}")
    assert Path(table) == file.with_suffix(".md")
    (record,) = summary.read_records(file)
    assert (record.run, record.split, record.part) == (first["folder"].name, "artist", "test")
    assert record.settings == (
        "data.duration=2.5 features.hop_length=1024 features.n_fft=1024 features.n_mels=32 "
        "model=efficient_cnn trainer.max_epochs=1"
    )
    assert record.tracks == first["test"]["n"]
    assert record.correct / record.tracks == pytest.approx(first["test"]["accuracy"])
    assert "/" not in file.read_text()  # no path of this machine
    shutil.rmtree(first["folder"])
    train("model=efficient_cnn", "split=artist", "seed=1", "+split_seed=1")
    command("summary", f"runs={tmp_path / 'train'}", f"file={file}")
    assert [record.seed for record in summary.read_records(file)] == [0, 1]
    text = Path(table).read_text()
    assert "## split=artist, test part" in text
    assert "| 2 | 1 | 16,324 |" in text


def test_a_seed_is_the_mean_of_its_folds() -> None:
    folds = [
        RECORD,
        replace(RECORD, fold="1", tracks=300, correct=250),
        replace(RECORD, seed=1, correct=80),
        replace(RECORD, seed=1, fold="1", tracks=300, correct=240),
        replace(RECORD, settings="experiment=best", correct=90),
    ]
    ((title, (best, paper)),) = summary.make_tables(folds)
    assert title == "split=fold, test part"
    found = (best.settings, best.accuracy, best.seeds, best.folds)
    assert found == ("experiment=best", "90.00", 1, "1")
    assert paper.accuracy == "77.50"  # the mean of 75 and 80
    assert paper.interval == "45.7 to 100.0"  # 77.5 ± 12.706 * 2.5
    assert (paper.seeds, paper.folds) == (2, "2")
    ((_, (_, incomplete)),) = summary.make_tables(folds[:3] + folds[4:])
    assert (incomplete.seeds, incomplete.folds) == (2, "1 to 2")


def test_other_data_or_features_are_rows_of_their_own() -> None:
    others = [
        replace(RECORD, features="128 x 1", correct=60),
        replace(RECORD, data="Folder", correct=70),
    ]
    ((_, rows),) = summary.make_tables([RECORD, *others])
    assert [row.data for row in rows] == [
        "Folder; 128 x 128",
        "Npz of 8 genres, 7193; 128 x 1",
        "Npz of 8 genres, 7193; 128 x 128",
    ]


def test_of_an_archive_its_features_only_say_what_the_rows_are() -> None:
    given = ["data=npz", "features=mel_frames", "cache=device", "test=false", "experiment=best"]
    config = {"data": {"_target_": "genreclf.data.Npz"}, "seed": 1, "split_seed": 1}
    given += ["seed=1", r"+split_seed=$\{seed\}"]
    assert summary._describe_overrides(given, config) == "experiment=best"
    config |= {"data": {"_target_": "genreclf.data.Folder"}, "split_seed": 2}
    of_files = "experiment=best +split_seed=2 cache=float16 features=mel_frames"
    assert (
        summary._describe_overrides([*given[:5], "cache=float16", "+split_seed=2"], config)
        == of_files
    )


def test_runs_of_other_settings_are_not_taken_together() -> None:
    records = [RECORD, replace(RECORD, run="b", parameters=5, correct=80)]
    ((_, rows),) = summary.make_tables(records)
    assert [(row.accuracy, row.seeds) for row in rows] == [("80.00", 1), ("50.00", 1)]
    with pytest.raises(InputError, match="runs a and b have the same settings, seed and fold"):
        summary.make_tables([RECORD, replace(RECORD, run="b")])


def test_seeds_that_agree_have_the_interval_of_their_tracks() -> None:
    ((_, (row,)),) = summary.make_tables([RECORD, replace(RECORD, seed=1)])
    assert row.interval == "40.4 to 59.6"


def test_the_table_is_not_written_over_the_records(
    command: Callable[..., str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        command("summary", f"runs={tmp_path}", f"file={tmp_path / 'a.md'}")
    assert "its name must end in .csv" in capsys.readouterr().err


def test_what_is_written_is_read(tmp_path: Path) -> None:
    records = [RECORD, replace(RECORD, run="b", settings="a=[b,c] d=1")]
    summary.write_records(tmp_path / "a.csv", records)
    assert summary.read_records(tmp_path / "a.csv") == records
    (tmp_path / "b.csv").write_text("x,y\n1,2\n")
    with pytest.raises(InputError, match="not written by genreclf summary"):
        summary.read_records(tmp_path / "b.csv")
