"""A place that cannot be written to is a line before anything slow happens (all commands)."""

from collections.abc import Callable
from pathlib import Path

import pytest

COMMANDS = {  # each names something else that is missing, which comes later
    "embed": ["file=/proc/new/a.npz", "data.root=none"],
    "prepare": ["store=/proc/new/a.h5", "data=files", "data.root=none"],
    "report": ["page=/proc/new/a.html", "runs=none"],
    "summary": ["file=/proc/new/a.csv", "runs=none"],
    "spectrogram": ["file=/proc/new/a.svg", "clip=none.mp3"],
    "network": ["file=/proc/new/a.svg"],
    "download": ["data.root=/proc/new"],
}


def fail(command: Callable[..., str], capsys: pytest.CaptureFixture[str], *given: str) -> str:
    with pytest.raises(SystemExit):
        command(*given)
    return capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize("name", COMMANDS)
def test_a_path_is_tried_first(
    name: str, command: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    """/proc refuses new files even if its permissions do not say so, as of root."""
    line = fail(command, capsys, name, *COMMANDS[name])
    assert "/proc/new: No such file or directory" in line
    key, _, path = COMMANDS[name][0].partition("=")
    assert name == "download" or line.startswith(f"genreclf: {key}={path} cannot be written (")


@pytest.mark.parametrize("name", ["prepare", "embed"])
def test_outputs_are_tried_first(
    name: str,
    command: Callable[..., str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Where the folder exists, as where it cannot be made."""
    data = ["data=folder", "data.root=none", *[f"file={tmp_path}/a.npz"] * (name == "embed")]
    line = fail(command, capsys, name, *data, "outputs=/proc/new")
    assert line == (
        "genreclf: /proc/new: No such file or directory; correct that, or choose another place: "
        "outputs=..."
    )
    (tmp_path / "stores").touch()
    line = fail(command, capsys, name, *data, f"outputs={tmp_path}")
    assert line.startswith(f"genreclf: outputs={tmp_path}/stores/digests.json cannot be written (")
