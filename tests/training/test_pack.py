"""A pack of jobs that are no training runs: turns, states, memory, interruptions."""

import os
import random
import signal
import threading
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from filelock import FileLock

from genreclf.training import memory, pack, turns
from genreclf.training.memory import Usage
from genreclf.training.pack import SETTLED, Pack


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs that use no memory leave no garbage; to look for it takes long."""
    monkeypatch.setattr(memory, "release_memory", lambda: None)


def get_member() -> turns.Member:
    member = turns.get_member()
    assert member is not None
    return member


def take_steps(count: int, note: Callable[[], Any] = int) -> Callable[[], list[Any]]:
    """Make a job that notes something at each of its steps."""

    def job() -> list[Any]:
        noted = []
        for _ in range(count):
            noted.append(note())
            get_member().steps += 1
            get_member().pass_turn()
        return noted

    return job


def plenty() -> Mapping[str, Usage]:
    return {"memory": Usage(0, 1)}


def test_members_take_turns_and_their_results_are_in_order() -> None:
    order: list[int] = []
    jobs = [take_steps(n, lambda: order.append(get_member().number)) for n in (12, 7, 9)]
    members = Pack(jobs, measure=plenty).run()
    assert [len(member.result) for member in members] == [12, 7, 9]
    assert order[:SETTLED] == [0] * SETTLED, "the next is admitted once its memory is known"
    assert order[SETTLED : SETTLED + 8] == [0, 1, 0, 1, 2, 0, 1, 2]
    assert [member.sharing for member in members] == [3, 3, 3]
    assert turns.get_member() is None
    assert threading.active_count() == 1 or not any(
        thread.name.startswith("run ") for thread in threading.enumerate()
    )


def draw() -> tuple[Any, ...]:
    return (
        torch.rand(1).item(),
        np.random.rand(),
        random.random(),
        torch.is_anomaly_enabled(),
        torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(),
        torch.is_autocast_enabled("cpu"),
        len(warnings.filters),
    )


def make_job(number: int) -> Callable[[], list[Any]]:
    def job() -> list[Any]:
        torch.manual_seed(number)
        np.random.seed(number)
        random.seed(number)
        with (
            torch.autograd.set_detect_anomaly(number == 1),
            torch.inference_mode(number == 2),
            torch.autocast("cpu", enabled=number == 0),
            warnings.catch_warnings(),
        ):
            for count in range(number):
                warnings.filterwarnings("ignore", f"nothing of this kind {count}")
            return take_steps(3 * SETTLED + number, draw)()

    return job


def test_each_member_has_its_own_state_of_the_process() -> None:
    """Random numbers, anomaly mode, gradients, autocast and filters are those of a run alone."""
    torch.manual_seed(7)
    before, filters = draw(), list(warnings.filters)
    torch.manual_seed(7)
    alone = [Pack([make_job(number)], measure=plenty).run()[0].result for number in range(3)]
    together = [each.result for each in Pack([*map(make_job, range(3))], measure=plenty).run()]
    assert together == alone
    assert draw()[0] == before[0], "the caller's own states are as they were"
    assert warnings.filters == filters


def test_further_states_are_exchanged() -> None:
    value = ["outside"]
    kept = [(lambda: value[0], lambda new: value.__setitem__(0, new))]

    def job() -> list[str]:
        value[0] = f"of {get_member().number}"
        return take_steps(3 * SETTLED, lambda: value[0])()

    members = Pack([job] * 3, kept=kept, measure=plenty).run()
    assert [set(member.result) for member in members] == [{"of 0"}, {"of 1"}, {"of 2"}]
    assert value == ["outside"]


@pytest.mark.parametrize(("room", "most"), [(10, 2), (14, 3), (100, 4)])
def test_members_are_admitted_while_there_is_memory_for_one_more(room: int, most: int) -> None:
    """Each needs 4 units: another one is admitted while half as much again is free."""
    used, running, seen = [0], [0], [0]

    def job() -> None:
        used[0] += 4
        running[0] += 1
        seen[0] = max(seen[0], running[0])
        take_steps(4 * SETTLED)()
        running[0] -= 1  # the memory is not returned to the system

    def measure() -> Mapping[str, Usage]:  # nothing is known of a GPU before it is used
        return {"memory": Usage(used[0], room - used[0])} if used[0] else {}

    members = Pack([job] * 6, 4, measure=measure).run()
    assert seen[0] == most
    assert len(members) == 6
    assert max(member.sharing for member in members) == most


def test_one_that_runs_out_of_memory_leaves_the_others_alone() -> None:
    def fail() -> str:
        take_steps(2)()
        get_member().exhausted = True
        return "failed"

    jobs = [take_steps(30), fail, *[take_steps(20)] * 4]
    members = Pack(jobs, measure=plenty).run()
    assert [member.exhausted for member in members] == [False, True, False, False, False, False]
    assert len(members[0].result) == 30
    assert members[5].sharing == 3, "fewer fit than was thought"


def test_what_a_member_raises_is_raised_when_all_have_ended() -> None:
    ended = []

    def fail() -> None:
        raise SystemExit(3)

    def job() -> None:
        take_steps(20)()
        ended.append(get_member().number)

    with pytest.raises(SystemExit):
        Pack([job, fail, job], measure=plenty).run()
    assert ended == [0, 2]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_all_members_at_their_next_turn(number: signal.Signals) -> None:
    closed: list[int] = []

    def job() -> None:
        try:
            while True:
                take_steps(SETTLED)()
                if turns.get_member() is not None and get_member().number == 1:
                    os.kill(os.getpid(), number)
        except Exception:  # as in a training loop: it must not hide the interruption
            closed.append(-1)
        finally:
            closed.append(get_member().number)

    handler = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt):
        Pack([job] * 4, max_runs=2, measure=plenty).run()
    assert sorted(closed) == [0, 1], "the others never began"
    assert signal.getsignal(number) is handler


def test_a_locked_file_does_not_keep_the_others_from_running(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same run twice in a sweep: the second waits for the first, which goes on."""
    monkeypatch.setattr(pack, "PAUSE", 0.001)
    order: list[str] = []

    def job() -> None:
        with turns.hold(FileLock(tmp_path / "lock")):
            order.append(f"{get_member().number} begins")
            take_steps(2 * SETTLED)()
            order.append(f"{get_member().number} ends")

    Pack([job, job, take_steps(3)], measure=plenty).run()
    assert order == ["0 begins", "0 ends", "1 begins", "1 ends"]
    with turns.hold(FileLock(tmp_path / "lock")):  # outside a pack: as usual
        assert FileLock(tmp_path / "lock").is_locked is False


def test_the_clock_of_a_member_stands_still_while_others_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The seconds of all members add up to those of the pack."""
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])

    def job(seconds: float) -> Callable[[], float]:
        def work() -> float:
            started = turns.read_clock()
            take_steps(3 * SETTLED, lambda: now.__setitem__(0, now[0] + seconds))()
            return turns.read_clock() - started

        return work

    first, second = Pack([job(1.0), job(10.0)], measure=plenty).run()
    assert (first.result, second.result) == (3 * SETTLED, 30 * SETTLED)
    assert turns.read_clock() == now[0] == first.result + second.result


def test_values_are_shared_within_a_pack() -> None:
    made: list[int] = []

    def job() -> int:
        take_steps(SETTLED)()
        return turns.share("value", lambda: made.append(get_member().number) or len(made))

    assert [member.result for member in Pack([job] * 3, measure=plenty).run()] == [1, 1, 1]
    assert turns.share("value", lambda: 5) == 5


def test_main_memory_is_measured() -> None:
    usage = memory.measure_memory()["main memory"]
    assert 1e7 < usage.used < 1e12
    assert 1e6 < usage.free < 1e13
