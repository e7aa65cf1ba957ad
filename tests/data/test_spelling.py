"""Genres as people spell them (B25)."""

import shlex
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile
from conftest import TINY
from hydra.core.override_parser.overrides_parser import OverridesParser

from genreclf.commands.evaluate import _match_classes
from genreclf.commands.path_overrides import quote_paths
from genreclf.data.datasets import GTZAN, Folder, Npz, Table
from genreclf.data.spelling import format_renaming, simplify_genre, suggest_genre, suggest_renaming
from genreclf.data.store import Store
from genreclf.errors import InputError

FMA = ["Electronic", "Experimental", "Folk", "Hip-Hop", "Instrumental", "International", "Pop"]


def make_folders(root: Path, *names: str) -> Path:
    for number, name in enumerate(names):
        (root / name).mkdir(parents=True)
        soundfile.write(root / name / f"{number}.wav", [0.0] * 10, 22050)
    return root


@pytest.mark.parametrize(
    "name", ["hiphop", "Hip Hop", "hip-hop", "HIP_HOP", "Hip\u2010Hop", "Hiphp"]
)
def test_the_genre_that_is_meant_is_suggested_b25(name: str) -> None:
    """B25: a genre in another spelling was only unknown."""
    assert suggest_genre(name, FMA) == "Hip-Hop"
    assert suggest_renaming([name, "Polka"], FMA).startswith("did you mean Hip-Hop? 'data.rename={")
    assert suggest_renaming(["Polka"], FMA) == ""
    assert simplify_genre("R&B") != simplify_genre("RB")


def test_folders_are_renamed_b25(tmp_path: Path) -> None:
    """B25: a table of names makes one genre of several folders, without moving a file."""
    root = make_folders(tmp_path, "hiphop", "Rap", "rock")
    dataset = Folder(root, rename={"hiphop": "Hip-Hop", "Rap": "Hip-Hop"})
    assert [(genre, path.name) for genre, path in dataset.files()] == [
        *(("Hip-Hop", "1.wav"), ("Hip-Hop", "0.wav"), ("rock", "2.wav")),
    ]
    assert Folder(root, genres=["Hip-Hop"], rename={"hiphop": "Hip-Hop"}).genres() == ["Hip-Hop"]
    with pytest.raises(
        InputError, match=r"data\.rename: there is no genre Hiphop; did you mean hip"
    ):
        Folder(root, rename={"Hiphop": "Hip-Hop"}).files()
    with pytest.raises(InputError, match=r"data.rename: rock needs a new name"):
        Folder(root, rename={"rock": ""})
    with pytest.raises(InputError, match="has no folder hip hop; did you mean hiphop"):
        Folder(root, genres=["hip hop"]).files()


def test_labels_and_clips_are_renamed_b25(tmp_path: Path) -> None:
    """B25: the same table works for tables and for GTZAN."""
    root = make_folders(tmp_path / "genres", "hiphop", "rock")
    (tmp_path / "a.csv").write_text(
        "path,genre\ngenres/hiphop/0.wav,hiphop\ngenres/rock/1.wav,Rock\n"
    )
    table = Table(tmp_path / "a.csv", rename={"hiphop": "Hip-Hop"})
    assert table.genres() == ["Hip-Hop", "Rock"]
    with pytest.raises(InputError, match=r"data\.genres: .* has no Hip Hop; did you mean hiphop"):
        Table(tmp_path / "a.csv", genres=["Hip Hop"]).tracks()
    for name, number in (("hiphop", 0), ("rock", 1)):
        (root / name / f"{number}.wav").rename(root / name / f"{name}.00001.wav")
    assert GTZAN(tmp_path, rename={"hiphop": "Hip-Hop"}).genres() == ["Hip-Hop", "rock"]
    np.savez(
        tmp_path / "a.npz",
        features=np.zeros((3, 2, 4), np.float32),
        labels=["hiphop", "Rock", "Rap"],
        track_ids=[1, 2, 3],
    )
    rows = Npz(tmp_path / "a.npz", rename={"hiphop": "Hip-Hop", "Rap": "Hip-Hop"})
    assert rows.genres() == ["Hip-Hop", "Rock"]
    assert [track.genre for track in rows.tracks()] == ["Hip-Hop", "Rock", "Hip-Hop"]
    with pytest.raises(InputError, match=r"data\.rename: there is no genre Hiphop; did you mean"):
        Npz(tmp_path / "a.npz", rename={"Hiphop": "Hip-Hop"}).tracks()


@pytest.mark.parametrize("other", ["hiphop", "Hip Hop", "hip-hop"])
def test_two_spellings_of_one_genre_are_one_line_b25(tmp_path: Path, other: str) -> None:
    """B25: they became two genres, between which no model can tell."""
    root = make_folders(tmp_path, "Hip-Hop", other, "rock")
    with pytest.raises(InputError) as error:
        Folder(root).files()
    typed = f'"{other}"' if " " in other else other
    assert str(error.value) in (
        f"data.root: genres that differ only in spelling: {first} and {second}; to make one of "
        f"them: 'data.rename={{{{{old}: {new}}}}}'".replace("{{", "{").replace("}}", "}")
        for first, second, old, new in (
            ("Hip-Hop", other, typed, "Hip-Hop"),
            (other, "Hip-Hop", "Hip-Hop", typed),
        )
    )
    assert Folder(root, genres=["Hip-Hop", "rock"]).genres() == ["Hip-Hop", "rock"]
    table = tmp_path / "a.csv"
    table.write_text(f"path,genre\nHip-Hop/0.wav,Hip-Hop\n{other}/1.wav,{other}\n")
    with pytest.raises(InputError, match=r"a\.csv: genres that differ only in spelling"):
        Table(table).tracks()
    assert Table(table, rename={other: "Hip-Hop"}).genres() == ["Hip-Hop"]


def test_a_model_that_spells_a_genre_otherwise_suggests_it_b25() -> None:
    """B25: evaluate says which genre of the model is meant, and what to type."""

    trained: Any = SimpleNamespace(classes=FMA)
    told = {}
    for can_rename in (True, False):  # a finished store, or a dataset without data.rename
        with pytest.raises(InputError) as error:
            _match_classes(["hiphop", "folk"], trained, can_rename)
        told[can_rename] = str(error.value)
    assert told[True].endswith("did you mean Hip-Hop? 'data.rename={hiphop: Hip-Hop}'")
    assert told[False].endswith("leave them out, e.g. data.genres=[...]")


def test_genres_are_renamed_on_the_command_line_b25(
    tmp_path: Path, command: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    """B25: what a message tells to type works as it is."""
    for number, name in enumerate(("hip hop", "Hip-Hop", "rock")):
        (tmp_path / "music" / name).mkdir(parents=True)
        wave = np.random.default_rng(number).normal(0, 0.1, 3 * 22050)
        soundfile.write(tmp_path / "music" / name / f"{number}.wav", wave, 22050)
    data = ["data=folder", f"data.root={tmp_path / 'music'}", "data.duration=2.5", *TINY]
    with pytest.raises(SystemExit):
        command("prepare", *data)
    told = capsys.readouterr().err.splitlines()[-1].partition("to make one of them: ")[2]
    assert Store(command("prepare", *data, *shlex.split(told))).classes in (
        *(["Hip-Hop", "rock"], ["hip hop", "rock"]),
    )


def test_any_name_can_be_renamed_b25(tmp_path: Path) -> None:
    """B25: names that Hydra's grammar lacks are read as YAML."""
    names = ["Rock & Roll", "Müsik", "it's", 'a "b"', "yes"]
    root = make_folders(tmp_path, *names)
    typed = shlex.split(format_renaming(dict.fromkeys(names, "x y")))
    (quoted,) = quote_paths(typed, "config")
    value = OverridesParser.create().parse_override(quoted).value()
    assert Folder(root, rename=str(value)).genres() == ["x y"]
    with pytest.raises(InputError, match=r"data\.rename=a: a mapping is needed"):
        Folder(root, rename="a")
