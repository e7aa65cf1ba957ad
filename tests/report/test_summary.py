import csv
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from genreclf.errors import InputError
from genreclf.evaluation.intervals import compute_wilson_interval
from genreclf.evaluation.runs import Run, hide_location
from genreclf.files import write_json, write_text
from genreclf.report import groups, records, summary
from genreclf.report.cells import NONE
from genreclf.report.records import RunRecord

RECORD = RunRecord(
    run="a",
    settings="experiment=paper",
    dataset="Npz of 8 genres, 7193",
    shape="128 x 128",
    split="fold",
    split_seed="42",
    fold="0",
    seed=0,
    part="test",
    tracks=100,
    correct=50,
    accuracy=0.5,
    top3_accuracy=0.75,
    f1_macro=0.5,
    mean_average_precision=0.625,
    cross_entropy=1.25,
    parameters=38889,
    epochs=20,
    minutes=30.0,
    commit="abc",
    device="CPU",
)


def write_run(folder: Path, *overrides: str, seed: int = 0, table: str = "t", **config: Any) -> Run:
    """A finished run with these overrides, as far as a summary reads it."""
    lr = next((float(o.partition("=")[2]) for o in overrides if o.startswith("optimizer.lr")), 1e-3)
    test = {"accuracy": 0.5, "n": 10, "f1_macro": 0.5, "loss": 1.5, "top3_accuracy": 0.75}
    test["mean_average_precision"] = 0.625
    result = {
        "overrides": [*overrides, f"seed={seed}"],
        "choices": {"split": "artist", "model": "svm" if "model=svm" in overrides else "cnn_gru"},
        "config": {
            "seed": seed,
            "split": {"seed": 42},
            "data": {"_target_": "genreclf.data.Folder", "root": "/secret"},
            "optimizer": {"lr": lr},
            **config,
        },
        "data": {
            "split": {"train": {"a": 20}, "test": {"a": 10}},
            "classes": ["a"],
            "shape": [8, 16],
            "digest": "d",
            "table": table,
        },
        "test": test,
        "val": test,
        "tested_on": "test",
        "params": 5,
        "history": [],
        "seconds": 60,
        "commit": "abc",
    }
    write_json(folder / "result.json", result)
    write_text(folder / "predictions.csv", "track_id,genre,predicted,a\n")
    return Run(folder, result)


@pytest.mark.slow
def test_records_stay_when_the_runs_are_deleted(
    command: Callable[..., str], train: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    first = train("model=efficient_cnn", "split=artist")
    file = tmp_path / "kept" / "runs.csv"
    table = command("summary", f"runs={tmp_path / 'train'}", f"file={file}")
    assert Path(table) == file.with_suffix(".md")
    (record,) = records.read_records(file)
    assert (record.run, record.split, record.part) == (first["folder"].name, "artist", "test")
    assert record.settings == (
        "data.duration=2.5 features.hop_length=1024 features.n_fft=1024 features.n_mels=32 "
        "model=efficient_cnn trainer.max_epochs=1"
    )
    assert record.tracks == first["test"]["n"]
    assert record.correct / record.tracks == pytest.approx(first["test"]["accuracy"])
    assert record.accuracy == pytest.approx(first["test"]["accuracy"], abs=1e-4)
    assert record.top3_accuracy == pytest.approx(first["test"]["top3_accuracy"], abs=1e-4)
    assert record.values["features.n_mels"] == "32"
    assert "/" not in file.read_text()  # no path of this machine
    shutil.rmtree(first["folder"])
    train("model=efficient_cnn", "split=artist", "seed=1", "+split_seed=${seed}")
    command("summary", f"runs={tmp_path / 'train'}", f"file={file}")
    assert [record.seed for record in records.read_records(file)] == [0, 1]
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
    assert title == "split=fold, test part: Npz of 8 genres, 7193"
    found = (best.settings, best.accuracy, best.seeds, best.folds)
    assert found == ("experiment=best", "90.00", 1, "1")
    assert paper.accuracy == "77.50"  # the mean of 75 and 80
    assert paper.interval == "0.0 to 100.0"  # two folds, two seeds: nothing is known
    assert paper.by_fold == "65.0 to 81.7"
    assert (paper.seeds, paper.folds) == (2, "2")
    ((_, (_, incomplete)),) = summary.make_tables(folds[:3] + folds[4:])
    assert (incomplete.seeds, incomplete.folds) == (2, "1 to 2 of 2")


def test_folds_are_combined_and_compared_by_fold() -> None:
    """A k-fold has one row: pooled accuracy, its interval, and the range of the folds."""
    folds = [replace(RECORD, fold=str(n), correct=50 + n) for n in range(5)]
    others = [replace(each, settings="model=svm", correct=each.correct - 20) for each in folds]
    ((_, (first, second)),) = summary.make_tables([*folds, *others])
    low, high = compute_wilson_interval(260, 500)
    assert (first.accuracy, first.folds, first.by_fold) == ("52.00", "5", "50.0 to 54.0")
    assert first.interval == f"{100 * low:.1f} to {100 * high:.1f}"
    assert first.gap == NONE
    assert second.gap == "−20.00 (−23.5 to −16.5)", "not certain, although all folds agree"


def test_other_data_or_features_are_rows_of_their_own() -> None:
    others = [
        replace(RECORD, shape="128 x 1", correct=60),
        replace(RECORD, dataset="Folder", correct=70),
    ]
    tables = summary.make_tables([RECORD, *others])
    assert [
        (title.partition(": ")[2], [(r.data, r.gap) for r in rows]) for title, rows in tables
    ] == [
        ("Folder", [("Folder; 128 x 128", NONE)]),
        (
            "Npz of 8 genres, 7193",
            [
                ("Npz of 8 genres, 7193; 128 x 1", NONE),
                ("Npz of 8 genres, 7193; 128 x 128", "−10.00 (−23.2 to +3.7)"),
            ],
        ),
    ]


def test_only_rows_of_the_same_tracks_are_compared() -> None:
    """Another number of folds, another split seed or other tracks: no difference is given."""
    five = [replace(RECORD, fold=str(n), folds="5", correct=60 + n) for n in range(5)]
    changes = [
        {"folds": "10", "settings": "split.folds=10"},
        {"settings": "split.block=100"},
        {"split_seed": "1", "settings": "split_seed=1"},
    ]
    for change in changes:
        others = [replace(each, correct=each.correct - 20, **change) for each in five]
        ((_, (_, second)),) = summary.make_tables([*five, *others])
        assert second.gap == NONE, change
    same = [replace(each, correct=each.correct - 20, settings="batch_size=8") for each in five]
    ((_, (_, second)),) = summary.make_tables([*five, *same])
    assert second.gap.startswith("−20.00")
    table = [replace(each, dataset="Npz of 8 genres, 7193 (12345678)") for each in same]
    assert len(summary.make_tables([*five, *table])) == 2
    also = [replace(each, dataset=f"{each.dataset}, init 27bc16e1") for each in same]
    ((_, (_, second)),) = summary.make_tables([*five, *also])
    assert second.gap.startswith("−20.00"), "the same tracks, with pretrained weights"


def test_a_missing_fold_is_marked_and_does_not_bias_the_mean() -> None:
    """Only folds that every seed has count, for the accuracy and the other metrics."""
    folds = [
        replace(
            RECORD, seed=seed, fold=str(n), folds="3", correct=90 - 30 * n, f1_macro=0.9 - 0.3 * n
        )
        for seed in range(2)
        for n in range(3)
    ]
    ((_, (row,)),) = summary.make_tables(folds[:-1])
    assert (row.accuracy, row.f1_macro, row.folds) == ("75.00", "0.750", "2 to 3 of 3")
    ((_, (row,)),) = summary.make_tables([*folds[:2], *folds[3:5]])
    assert row.folds == "2 of 3"
    ((_, (row,)),) = summary.make_tables(folds)
    assert (row.accuracy, row.folds) == ("60.00", "3")


def test_a_dataset_is_identified_by_its_table(tmp_path: Path) -> None:
    """Two folders of as many genres and tracks are different data."""
    runs = [write_run(tmp_path / name, table=name * 40) for name in "ab"]
    made = [records.make_record(run) for run in runs]
    assert [record.data for record in made] == [
        f"Folder of 1 genres, 30 ({name * 8})" for name in "ab"
    ]
    assert len(summary.make_tables(made)) == 2


def test_a_fixed_split_seed_does_not_divide_a_configuration() -> None:
    """The run whose seed happens to be the split's is no other configuration."""
    config = {"data": {"_target_": "genreclf.data.Folder"}, "split_seed": 0}
    shown = [
        groups.list_settings(
            {"overrides": ["split_seed=0", f"seed={seed}"], "config": {**config, "seed": seed}}
        )
        for seed in range(2)
    ]
    assert shown == [["split_seed=0"], ["split_seed=0"]]
    for text in ("split_seed=${seed}", r"+split_seed=$\{seed\}"):
        assert groups.list_settings({"overrides": [text], "config": {**config, "seed": 0}}) == []


def test_of_an_archive_its_features_only_say_what_the_rows_are() -> None:
    given = ["data=npz", "features=mel_frames", "cache=device", "test=false", "experiment=best"]
    config: dict[str, Any] = {"data": {"_target_": "genreclf.data.Npz"}, "seed": 1, "split_seed": 1}
    given += ["seed=1", r"+split_seed=$\{seed\}"]
    assert groups.list_settings({"overrides": given, "config": config}) == ["experiment=best"]
    config |= {"data": {"_target_": "genreclf.data.Folder"}, "split_seed": 2}
    given = [*given[:5], "cache=float16", "+split_seed=2"]
    assert groups.list_settings({"overrides": given, "config": config}) == [
        *("experiment=best", "+split_seed=2", "cache=float16", "features=mel_frames")
    ]


def test_paths_of_this_machine_are_not_shown() -> None:
    """Data are identified by their table, also where GTZAN's lists are."""
    config = {"data": {"_target_": "genreclf.data.GTZAN"}, "seed": 0, "split_seed": 42}
    given = ["data=gtzan", "data.root=/secret", "data.lists=/secret", "init.checkpoint=/secret"]
    shown = groups.list_settings({"overrides": given, "config": config})
    assert shown == ["init.checkpoint=..."]
    assert hide_location("data.lists=/secret") == "data.lists=..."


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
    values = {"a": "[b,c]", "d": "1"}
    made = [
        replace(RECORD, values={"model": "svm"}),
        replace(RECORD, run="b", settings="a=[b,c] d=1", values=values, top3_accuracy=None),
    ]
    records.write_records(tmp_path / "a.csv", made)
    assert records.read_records(tmp_path / "a.csv") == made
    lines = list(csv.reader((tmp_path / "a.csv").read_text().splitlines()))
    at = lines[0].index("folds")
    with (tmp_path / "old.csv").open("w", newline="") as file:
        csv.writer(file).writerows([*line[:at], *line[at + 1 :]] for line in lines)
    assert records.read_records(tmp_path / "old.csv") == made, "of an earlier version"
    (tmp_path / "b.csv").write_text("x,y\n1,2\n")
    with pytest.raises(InputError, match="not written by this version of genreclf summary"):
        records.read_records(tmp_path / "b.csv")


def test_a_metric_that_older_runs_lack_is_a_dash() -> None:
    old = replace(RECORD, seed=1, top3_accuracy=None)
    ((_, (row,)),) = summary.make_tables([RECORD, old])
    assert (row.top3_accuracy, row.mean_average_precision) == (NONE, "0.625")


def test_the_file_has_a_column_for_each_setting_d17(tmp_path: Path) -> None:
    """D17: pandas reads accuracy and settings in one line, also of runs that keep a default."""
    made = [
        write_run(tmp_path / "a", "optimizer.lr=1e-2", "data.root=/secret"),
        write_run(tmp_path / "b", "model=svm"),
    ]
    file = tmp_path / "results.csv"
    records.write_records(file, records.update_records(file, made))
    second, first = csv.DictReader(file.read_text().splitlines())
    assert (first["optimizer.lr"], first["model"], first["settings"]) == (
        "0.01",
        "cnn_gru",
        "optimizer.lr=1e-2",
    )
    assert (second["optimizer.lr"], second["model"]) == ("0.001", "svm")
    assert (first["accuracy"], first["top3_accuracy"]) == ("0.5", "0.75")
    assert first["mean_average_precision"] == "0.625"
    assert "secret" not in file.read_text()
    more = write_run(tmp_path / "c", "patience=3", patience=3)
    records.write_records(file, records.update_records(file, [more]))
    rows = {row["run"]: row for row in csv.DictReader(file.read_text().splitlines())}
    assert (rows["c"]["patience"], rows["c"]["optimizer.lr"]) == ("3", "0.001")
    assert (rows["a"]["patience"], rows["a"]["optimizer.lr"]) == ("", "0.01"), "a's folder is gone"


def test_pandas_reads_the_file_in_one_line_d17(tmp_path: Path) -> None:
    """D17: accuracies can be grouped by a setting without parsing anything."""
    pandas = pytest.importorskip("pandas")
    rates = ("1e-2", "1e-3")
    made = [write_run(tmp_path / rate, f"optimizer.lr={rate}") for rate in rates]
    file = tmp_path / "results.csv"
    records.write_records(file, records.update_records(file, made))
    assert pandas.read_csv(file).groupby("optimizer.lr").accuracy.mean()[0.01] == 0.5


def test_two_summaries_into_one_file_lose_nothing_f3(
    command: Callable[..., str], tmp_path: Path
) -> None:
    """F3: a summary waits while another one reads and writes the same file."""
    write_run(tmp_path / "runs" / "mine", "model=svm")
    file = tmp_path / "results.csv"
    other = write_run(tmp_path / "theirs" / "other", seed=1)
    locked = threading.Event()

    def add_other() -> None:
        with FileLock(tmp_path / ".results.csv.lock"):
            locked.set()
            found = records.update_records(file, [other])
            time.sleep(0.3)  # the command has begun and read its runs
            records.write_records(file, found)

    thread = threading.Thread(target=add_other)
    thread.start()
    locked.wait()
    command("summary", f"runs={tmp_path / 'runs'}", f"file={file}")
    thread.join()
    assert {record.run for record in records.read_records(file)} == {"mine", "other"}
