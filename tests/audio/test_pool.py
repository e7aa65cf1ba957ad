"""The pool of worker processes, with functions that do what files do to decoders."""

import contextlib
import ctypes
import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import psutil
import pytest

from genreclf.audio import serving, watch
from genreclf.audio.pool import Event, map_in_order, run_in_workers
from genreclf.audio.serving import lift_limits
from genreclf.audio.sound_files import DecodeError
from genreclf.errors import InputError

_FEATURES: list[Any] = []  # what a worker keeps


def misbehave(item: str) -> str:
    """Do what the item says; other items are answered."""
    kind, _, place = item.partition(":")
    if kind == "crash":
        ctypes.string_at(0)
    if kind == "exit":
        os._exit(3)
    if kind == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if kind == "killed once" and not Path(place).exists():
        Path(place).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    if kind == "stall":
        time.sleep(600)
    if kind == "grow":
        return (len(np.ones(40_000_000)) and time.sleep(600)) or ""
    if kind.startswith("features"):
        with lift_limits("features=own"):
            _FEATURES.append(np.ones(60_000_000) if "heavy" in kind else kind)
            time.sleep(3 if "slow" in kind else 0)
            if "crash" in kind:
                ctypes.string_at(0)
        time.sleep(600 if "then stall" in kind else 0)
    if kind == "bad":
        raise DecodeError("no audio")
    if kind == "input":
        raise InputError("features of your own")
    if kind == "bug":
        error = KeyError("x")
        error.add_note("while decoding")
        raise error
    return item.upper()


def count_up(item: int) -> Iterator[int | None]:
    """Yield `item` numbers, and None in between; return a note."""
    for number in range(item):
        yield number
        yield None
    return ["counted"]  # pyright: ignore


def yield_rows(item: int) -> Iterator[np.ndarray]:
    """Yield many arrays as large as the features of a window, or stall after the first."""
    for number in range(item or 1):
        yield np.full((128, 128), number, np.float32)
    if not item:
        time.sleep(600)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A limit that a test can wait for."""
    monkeypatch.setattr(watch, "STALL", 1.5)


def collect(function: Any, items: list[Any], workers: int = 2, **settings: Any) -> list[Event]:
    batches = run_in_workers(function, items, workers, **settings)
    return [event for batch in batches for event in batch]


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        ("crash", "the decoder crashed (signal 11)"),
        ("exit", "the decoder ended its process (exit status 3)"),
        ("killed", "the decoder was killed (signal 9): out of memory?"),
        ("stall", "no audio for 1.5 s: given up"),
        ("bad", "no audio"),
    ],
)
@pytest.mark.usefixtures("impatient")
def test_a_file_that_breaks_a_worker_costs_only_itself(item: str, reason: str) -> None:
    """C4: whatever a file does to a decoder, it has a line that says why; others have a result."""
    found = list(map_in_order(misbehave, ["a", item, "b", "c", item, "d"], 2))
    assert [str(each) for each in found] == ["A", reason, "B", "C", reason, "D"]
    assert [isinstance(each, DecodeError) for each in found[:3]] == [False, True, False]


def test_a_file_that_needs_too_much_memory_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """C4: absurd headers make decoders ask for more memory than the machine has."""
    monkeypatch.setattr(watch, "MEMORY", 3e8)
    found = list(map_in_order(misbehave, ["a", "grow", "b"], 2))
    assert [str(each) for each in found] == ["A", "needs more than 0.3 GB of memory: given up", "B"]


@pytest.mark.usefixtures("impatient")
def test_the_limits_are_for_decoding_not_for_features(monkeypatch: pytest.MonkeyPatch) -> None:
    """An encoder takes more memory than a decoder may, and its first window longer."""
    monkeypatch.setattr(watch, "MEMORY", 4e8)
    items = ["features heavy and slow", "a", "features", "features then stall", "b"]
    found = [str(each) for each in map_in_order(misbehave, items, 1)]
    assert found == [*map(str.upper, items[:3]), "no audio for 1.5 s: given up", "B"]
    (found,) = map_in_order(misbehave, ["features crash"], 1)
    assert str(found) == "computing features=own crashed (signal 11)"


def test_a_file_whose_worker_was_killed_is_tried_again(tmp_path: Path) -> None:
    """C4: if memory is short, the kernel kills a worker whose file need not be the cause."""
    found = list(map_in_order(misbehave, ["a", f"killed once:{tmp_path}/x", "b"], 2))
    assert [str(each)[:11] for each in found] == ["A", "KILLED ONCE", "B"]


def test_other_exceptions_are_raised_in_turn() -> None:
    """C4: an error in the code of features names its file, after the results before it."""
    found = map_in_order(misbehave, ["a", "input", "b"], 2)
    assert next(found) == "A"
    with pytest.raises(InputError, match="features of your own"):
        next(found)
    with pytest.raises(KeyError) as caught:
        list(map_in_order(misbehave, ["bug"], 1))
    assert caught.value.__notes__ == ["while decoding"]
    assert "in misbehave" in str(caught.value.__cause__)


def test_values_arrive_one_by_one() -> None:
    """B22: windows of a file are used while later ones are decoded."""
    events = collect(count_up, [3, 0, 2], 1)
    assert events == [
        *(Event(0, number) for number in range(3)),
        Event(0, ["counted"], True),
        Event(1, ["counted"], True),
        *(Event(2, number) for number in range(2)),
        Event(2, ["counted"], True),
    ]
    assert all(len(batch) < 4 for batch in run_in_workers(count_up, [9, 9], 2, most=3, linger=1))


def test_a_long_file_waits_for_its_reader() -> None:
    """B22: ten hours of windows need the memory of a few: the worker stops when nobody reads."""
    events = (each for batch in run_in_workers(yield_rows, [1200], 1) for each in batch)
    with contextlib.closing(events):
        next(events)
        before = psutil.Process().memory_info().rss
        for number, event in enumerate(events, 1):
            assert event.ended or event.value[0, 0] == number
        assert psutil.Process().memory_info().rss - before < 2e7


@pytest.mark.usefixtures("impatient")
def test_a_file_may_stall_after_some_windows() -> None:
    """C4: what has been decoded before a file stalls is no result, and the next file has one."""
    events = collect(yield_rows, [0, 2], 1)
    assert [(event.number, str(event.error or "")) for event in events if event.ended] == [
        (0, "no audio for 1.5 s: given up"),
        (1, ""),
    ]


@pytest.mark.usefixtures("impatient")
def test_a_slow_reader_is_no_reason_to_give_up() -> None:
    """C4: the time in which this process is busy does not count as silence of a worker."""
    events = []
    for batch in run_in_workers(yield_rows, [40], 1):
        time.sleep(0.5 if len(events) < 4 else 0)
        events += batch
    assert len(events) == 41


@pytest.mark.parametrize("item", ["stall", "grow"])
@pytest.mark.usefixtures("impatient")
def test_limits_hold_while_the_caller_is_busy(item: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """C4: while a network computed for a minute, a stalled file lived on, many limits long."""
    monkeypatch.setattr(watch, "MEMORY", 3e8)
    before = set(psutil.Process().children(recursive=True))
    with contextlib.closing(run_in_workers(misbehave, ["a", item, "b"], 1)) as batches:
        (event,) = next(batches)
        assert event.value == "A"
        started = set(psutil.Process().children(recursive=True)) - before
        workers = [each for each in started if not each.children()]
        gone, _ = psutil.wait_procs(workers, timeout=60)  # nobody asks for events meanwhile
        assert gone
        events = [event for batch in batches for event in batch]
    assert [str(event.error or event.value).split(":")[0] for event in events] == [
        "no audio for 1.5 s" if item == "stall" else "needs more than 0.3 GB of memory",
        "B",
    ]


class Busy:
    """A process that always wants to compute, and gets a tenth of a processor."""

    def __init__(self) -> None:
        self.times = SimpleNamespace(user=7.0, system=0.0)

    def cpu_times(self) -> SimpleNamespace:
        self.times.user += 0.02
        return self.times

    def status(self) -> str:
        return psutil.STATUS_RUNNING


def test_waiting_for_a_busy_processor_counts_in_part() -> None:
    """C4: a busy machine is no reason to give up a file soon, nor to wait for it for ever."""
    worker: Any = SimpleNamespace(used=7.0)
    process: Any = Busy()
    assert watch._measure_time(worker, process, 0.2) == pytest.approx(0.2 / 3)
    process.times.user += 0.15
    assert watch._measure_time(worker, process, 0.2) == pytest.approx(0.17)
    process.status = lambda: psutil.STATUS_SLEEPING
    assert watch._measure_time(worker, process, 0.2) == 0.2


def test_large_items_are_handed_out_when_they_are_needed() -> None:
    """C4: waveforms fill a worker's pipe; handing them out early would block both sides."""
    items = [np.ones(1_000_000) for _ in range(5)]
    assert list(map_in_order(np.sum, items, 2)) == [1_000_000] * 5


def test_items_are_taken_a_few_ahead() -> None:
    """B22: a slow file at the front does not let results pile up behind it."""
    taken = []

    def give() -> Iterator[str]:
        for number in range(100):
            taken.append(number)
            yield str(number)

    results = map_in_order(misbehave, give(), 1)
    assert next(results) == "0"
    assert len(taken) <= 6
    results.close()


def test_processes_that_cannot_start_are_one_line(tmp_path: Path) -> None:
    """C4: without a worker there is no result, and no endless attempt either."""

    def local(item: str) -> str:
        return item

    with pytest.raises((InputError, AttributeError)):
        list(map_in_order(local, ["a"], 1))


def test_limits_hold_again_after_features_that_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    received, sent = multiprocessing.Pipe(False)
    stages = serving._Stages()
    monkeypatch.setattr(serving, "_stages", stages)
    stages.begin(7, sent, state := [0.0] * 3)
    with pytest.raises(ValueError, match="a mistake"), lift_limits("features=own"):
        raise ValueError("a mistake")
    assert [received.recv() for _ in range(3)] == [
        ("stage", 7, name) for name in ("", "features=own", "")
    ]
    assert state[0] > 0
    assert state[1] == 7
