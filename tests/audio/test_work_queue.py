"""A queue of work for one pool of processes."""

import pytest

from genreclf.audio.sound_files import DecodeError
from genreclf.audio.work_queue import WorkQueue


def work(item: int) -> int:
    if item < 0:
        raise DecodeError("negative")
    if item > 100:
        raise ValueError("too much")
    return 2 * item


def test_items_may_be_added_at_any_time() -> None:
    queue = WorkQueue(work, 2)
    queue.add(range(5))
    assert [queue.get(item) for item in (0, 1)] == [0, 2]
    queue.add((20, 21), urgent=True)
    assert [queue.get(item) for item in (21, 20, 4, 3, 2)] == [42, 40, 8, 6, 4]
    queue.add([7])  # after a time in which there was nothing to do
    assert queue.get(7) == 14
    queue.close()


def test_what_is_urgent_overtakes_the_rest() -> None:
    queue = WorkQueue(work, 1)
    queue.add(range(20))
    assert queue.get(0) == 0
    queue.add((30, 31), urgent=True)
    assert queue.get(31) == 62
    assert queue._begun[:2] == [0, 30] or queue._begun[:3] == [0, 1, 30]
    queue.close()


def test_an_item_without_a_result_costs_only_itself() -> None:
    queue = WorkQueue(work, 2)
    queue.add([-1, 1, 101, 2])
    assert isinstance(queue.get(-1), DecodeError)
    assert queue.get(1) == 2
    with pytest.raises(ValueError, match="too much"):
        queue.get(101)
    assert queue.get(2) == 4
    queue.close()
