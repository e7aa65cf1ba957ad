"""What a checkpoint says about the tracks that it was trained on (A13)."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from genreclf.data.seen_tracks import SeenTracks


@pytest.mark.parametrize(
    ("trained_on", "tested", "count"),
    [
        # Rows from an archive are the same numbers wherever they are read.
        ({"uint8": "ab", "some_audio": ""}, ("uint8", "ac", ""), 1),
        ({"uint8": "ab", "some_audio": ""}, ("uint8", "c", ""), 0),
        ({"uint8": "ab", "some_audio": ""}, ("float32", "c", ""), None),  # the same, scaled?
        ({"uint8": "ab", "float32": "d", "some_audio": ""}, ("float32", "dc", ""), 1),
        ({"uint8": "ab", "float32": "d", "some_audio": ""}, ("float32", "c", ""), None),
        # Rows from audio: waveforms or another CPU's rounding, but the same files.
        ({"float32": "ab", "audio": "xy"}, ("float32", "cd", "xz"), 1),
        ({"float32": "ab", "audio": "xy"}, ("float32", "cd", "zv"), 0),
        ({"float32": "ab", "uint8": "e", "audio": "xy"}, ("float32", "c", "z"), 0),
        ({"float32": "ab", "audio": "xy"}, ("float32", "cd", ["z", "unreadable"]), None),
        ({"float32": "ab", "audio": "xy"}, ("float32", "cd", ""), None),
        ({"float32": "ab", "some_audio": "y"}, ("float32", "c", "z"), None),
        ({"uint8": "ab", "some_audio": ""}, ("float32", "c", "z"), None),
        # Checkpoints that record no audio, such as the pretrained model.
        ({"uint8": "ab"}, ("uint8", "c", ""), 0),
        ({"uint8": "ab"}, ("uint8", "bc", ""), 1),
        ({"uint8": "ab"}, ("float32", "c", "z"), None),
        ({"float32": "ab"}, ("float32", "c", "z"), None),
        ({"float32": "ab"}, ("float32", "c", ""), None),
        ({}, ("uint8", "a", ""), None),
        ({"audio": ""}, ("uint8", "a", "x"), 0),
    ],
)
def test_unknown_is_never_reported_as_none_a13(
    trained_on: dict[str, str], tested: tuple[str, str, Any], count: int | None
) -> None:
    """A13: a model counts as new to tracks only if they can be compared with all it has seen."""
    store = make_rows(*tested)
    assert SeenTracks.read(trained_on).count(store, range(len(store.row_sha1))) == count


@pytest.mark.parametrize(
    ("before", "own", "after"),
    [
        (None, ("float32", "ab", "xy"), {"float32": "ab", "audio": "xy"}),
        (None, ("uint8", "ab", ""), {"uint8": "ab", "some_audio": ""}),
        (
            {"float32": "c", "audio": "xz"},
            ("float32", "ab", "xy"),
            {"float32": "abc", "audio": "xyz"},
        ),
        (
            {"uint8": "c"},
            ("float32", "ab", "xy"),
            {"uint8": "c", "float32": "ab", "some_audio": "xy"},
        ),
        (
            {"float32": "c", "audio": "z"},
            ("float32", "ab", ["x", "unreadable"]),
            {"float32": "abc", "some_audio": "xz"},
        ),
    ],
)
def test_what_a_checkpoint_records_a13(
    before: dict[str, str] | None, own: tuple[str, str, Any], after: dict[str, str]
) -> None:
    """A13: the pretrained model's rows are included, and gaps in what is known are kept."""
    store = make_rows(*own)
    seen = SeenTracks() if before is None else SeenTracks.read(before)
    found = seen.add(store, range(len(store.row_sha1))).list_digests()
    assert found == {key: [*hashes] for key, hashes in after.items()}


def make_rows(dtype: str, rows: str, contents: Any) -> Any:
    """What counts of a store: a letter for each row, and one for the audio it was made from."""
    audio = [*contents] or [""] * len(rows)
    return SimpleNamespace(dtype=np.dtype(dtype), row_sha1=[*rows], contents=audio)
