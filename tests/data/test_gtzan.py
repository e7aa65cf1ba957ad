import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import TINY

from genreclf.commands import hydra_app
from genreclf.data import split_officially
from genreclf.data.datasets import GTZAN
from genreclf.data.store import Store
from genreclf.errors import InputError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Four clips of the converted layout, one of them the damaged one."""
    rng = np.random.default_rng(0)
    for clip in ("blues.00000", "blues.00001", "jazz.00053"):
        path = tmp_path / "genres_original" / clip.partition(".")[0] / f"{clip}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, rng.uniform(-0.5, 0.5, 22050 * 3), 22050)
    damaged = tmp_path / "genres_original" / "jazz" / "jazz.00054.wav"
    damaged.write_bytes(b"damaged")
    damaged.with_name("._jazz.00054.wav").write_bytes(b"a hidden file of macOS")
    return tmp_path


def test_both_layouts_have_the_same_tracks(root: Path) -> None:
    converted = GTZAN(root).tracks()
    assert [(t.id, t.genre) for t in converted] == [
        ("blues.00000", "blues"),
        ("blues.00001", "blues"),
        ("jazz.00053", "jazz"),
        ("jazz.00054", "jazz"),
    ]
    for path in (root / "genres_original").rglob("[a-z]*.wav"):
        published = root / "published" / "genres" / path.parent.name / f"{path.stem}.au"
        published.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, published)
    assert [t.id for t in GTZAN(root / "published").tracks()] == [t.id for t in converted]
    assert [t.id for t in GTZAN(root / "genres_original").tracks()] == [t.id for t in converted]
    assert GTZAN(root, genres=["jazz"]).genres() == ["jazz"]


def test_au_files_decode_and_the_damaged_clip_is_known(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sound, rate = soundfile.read(root / "genres_original" / "blues" / "blues.00000.wav")
    (root / "genres_original" / "blues" / "blues.00000.wav").unlink()
    soundfile.write(root / "genres_original" / "blues" / "blues.00000.au", sound, rate)
    data = ["data=gtzan", f"data.root={root}", "data.duration=2.5"]
    hydra_app.run("prepare", "prepare", [*data, *TINY, f"outputs={root}/outputs"])
    printed = capsys.readouterr().out
    assert "1 tracks rejected, all known to be bad" in " ".join(printed.split())
    assert "GTZAN has 1000 clips" in printed
    store = Store(printed.splitlines()[-1])
    assert store.track_ids == ["blues.00000", "blues.00001", "jazz.00053"]


def write_lists(root: Path, **lists: str) -> None:
    for name, text in lists.items():
        (root / f"{name}_filtered.txt").write_text(text)


def test_fault_filtered_lists_are_official_parts(
    root: Path, tmp_path: Path, make_store: Callable
) -> None:
    write_lists(
        root,
        train="blues/blues.00000.wav\njazz/jazz.00053.wav\n\n",
        valid="blues/blues.00001.wav\n",
        test="jazz/jazz.00054.wav",
    )
    tracks = GTZAN(root, lists=root).tracks()
    assert [track.split for track in tracks] == ["train", "val", "train", "test"]
    assert [track.split for track in GTZAN(root).tracks()] == [""] * 4
    store = make_store(tracks, np.random.default_rng(0).normal(size=(4, 2, 2)))
    assert split_officially(store)["train"].tolist() == [0, 2]


def test_lists_may_name_the_damaged_clip_after_its_removal(root: Path) -> None:
    """The published training list has jazz.00054, which many copies of GTZAN lack."""
    (root / "genres_original" / "jazz" / "jazz.00054.wav").unlink()
    write_lists(root, train="jazz/jazz.00054.wav\nblues/blues.00000.wav", valid="", test="")
    tracks = GTZAN(root, lists=root, known_bad={"jazz.00054": "does not decode"}).tracks()
    assert [track.split for track in tracks] == ["train", "", ""]
    with pytest.raises(InputError, match=r"line 1: jazz/jazz\.00054\.wav is not in"):
        GTZAN(root, lists=root).tracks()


def test_mistakes_are_told(root: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        GTZAN(root / "none").tracks()
    with pytest.raises(InputError, match="no clips of GTZAN"):
        GTZAN(root / "genres_original" / "jazz").tracks()
    with pytest.raises(InputError, match=r"train_filtered\.txt: No such file"):
        GTZAN(root, lists=root).tracks()
    write_lists(root, train="blues/blues.00000.wav\nblues/blues.00099.wav", valid="", test="")
    with pytest.raises(InputError, match=r"train_filtered\.txt, line 2: blues/blues\.00099"):
        GTZAN(root, lists=root).tracks()
    write_lists(root, train="blues/blues.00000.wav", valid="blues.00000.wav")
    with pytest.raises(InputError, match=r"valid_filtered\.txt, line 1: .* is in train, too"):
        GTZAN(root, lists=root).tracks()
    blues = root / "genres_original" / "blues"
    shutil.copy(blues / "blues.00000.wav", blues / "blues.00000.au")
    with pytest.raises(InputError, match=r"the same clip as blues\.00000\.au"):
        GTZAN(root).tracks()
    (blues / "blues.00000.au").rename(root / "genres_original" / "jazz" / "blues.00007.wav")
    with pytest.raises(InputError, match="a clip of blues in another folder"):
        GTZAN(root).tracks()
    (root / "genres").mkdir()
    with pytest.raises(InputError, match="both genres and genres_original"):
        GTZAN(root).tracks()
