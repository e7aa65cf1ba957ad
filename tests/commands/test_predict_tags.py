"""`genreclf predict` with musicnn's tags, its default, and with maps."""

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from genreclf.commands import predict
from genreclf.errors import InputError
from genreclf.evaluation.prediction import Prediction, TimelineEntry
from genreclf.models.checkpoint import load_checkpoint
from genreclf.models.model_files import PRETRAINED, digest_checkpoint, locate_checkpoint

WINDOW = [TimelineEntry(0.0, 30.0, "rock", 0.4)]


def test_the_table_shows_genres_first_and_likely_tags_after(
    capfd: pytest.CaptureFixture[str],
) -> None:
    scores = {"rock": 0.4, "pop": 0.2, "jazz": 0.1, "folk": 0.05}
    tags = {"sad": 0.3, "90s": 0.25, "guitar": 0.2, "60s": 0.15, "happy": 0.05}
    write = predict.WRITERS["table"](["a", "b"], None)
    write(Prediction("a", scores, WINDOW, tags=tags, vocabulary="tags of mine"))
    write(Prediction("b", scores, WINDOW, tags={"sad": 0.09}, vocabulary="tags of mine"))
    write(Prediction("b", scores, WINDOW, novelty=0.99, tags=tags, vocabulary="tags of mine"))
    predict.WRITERS["table"](["a"], 1)(Prediction("a", scores, WINDOW, tags=tags))
    assert capfd.readouterr().out.splitlines() == [
        "vocabulary: tags of mine",
        "a  rock  40 %  pop   20 %  jazz  10 %  + sad, 90s, guitar",
        "b  rock  40 %  pop   20 %  jazz  10 %",
        "b  unknown (nearest: rock 40 %, pop 20 %, jazz 10 %)",
        "a  rock  40 %  + sad",
    ]


def test_tags_are_the_default_and_the_output_names_them(
    musicnn_weights: Path, fma_clip: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    clip = str(fma_clip)
    assert predict.main([clip]) == 0
    first, line = capfd.readouterr().out.splitlines()
    assert first == "vocabulary: musicnn's 50 tags: genres, moods, voices, instruments, decades"
    assert line.removeprefix(clip).split()[:3] == ["Hip-Hop", "83", "%"]
    assert predict.main([clip, "--format", "json"]) == 0
    found = json.loads(capfd.readouterr().out)
    assert found["vocabulary"].startswith("musicnn's 50 tags")
    assert found["genre"] == next(iter(found["scores"])) == "Hip-Hop"
    assert (len(found["scores"]), len(found["tags"])) == (31, 19)
    assert found["unknown"] is False
    assert predict.main([clip, "--format", "csv", "--top", "2"]) == 0
    rows = list(csv.DictReader(io.StringIO(capfd.readouterr().out)))
    assert [row["kind"] for row in rows] == ["genre", "genre", "tag", "tag"]
    assert [row["genre"] for row in rows] == [*found["scores"]][:2] + [*found["tags"]][:2]
    assert {row["vocabulary"] for row in rows} == {found["vocabulary"]}
    assert predict.main([clip, "--checkpoint", "fma8", "--format", "json"]) == 0
    other = json.loads(capfd.readouterr().out)
    assert (other["vocabulary"], other["tags"]) == ("FMA's 8 genres", {})


def test_the_threshold_has_an_effect_on_tags(
    musicnn_weights: Path, fma_clip: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert predict.main([str(fma_clip), "--threshold", "0.1"]) == 0
    assert "unknown (nearest: Hip-Hop 83 %, " in capfd.readouterr().out


def test_a_map_gives_the_users_genres(
    musicnn_weights: Path, fma_clip: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "genres.yaml"
    path.write_text("Rap: [hip-hop]\nLoud: [rock, punk, metal]\n", encoding="utf-8")
    assert predict.main([str(fma_clip), "--map", str(path)]) == 0
    out, err = capfd.readouterr()
    vocabulary, line = out.splitlines()
    assert vocabulary == f"vocabulary: 2 genres of {path}, from musicnn's 50 tags"
    assert line.removeprefix(str(fma_clip)).split() == ["Rap", "100", "%", "Loud", "0", "%"]
    assert err == (
        f"genreclf: --map {path} leaves out pop, alternative, indie, electronic, dance, "
        "alternative rock, jazz, chillout, 19 more; such music gets the nearest of your genres\n"
    )
    assert predict.main([str(fma_clip), "--map", "fma", "--format", "json"]) == 0
    found = json.loads(capfd.readouterr().out)
    assert found["genre"] == "Hip-Hop"
    assert sum(found["scores"].values()) == pytest.approx(1)
    path.write_text("Rap: [hiphop]\nLoud: rock\n")
    assert predict.main([str(fma_clip), "--map", str(path)]) == 1
    assert capfd.readouterr().err == (
        f"genreclf: --map {path}: Rap: the model has no label hiphop; did you mean Hip-Hop or "
        "pop?\n"
    )


def test_missing_weights_are_one_line_and_nothing_replaces_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GENRECLF_CACHE", str(tmp_path))
    assert predict.main(["a.mp3"]) == 1
    out, err = capfd.readouterr()
    assert not out
    assert err == (
        "genreclf: --checkpoint tags needs the weights of musicnn: type genreclf download "
        "model=musicnn, or choose --checkpoint fma8, the model that comes with genreclf\n"
    )


def test_fma8_is_the_bundled_model_wherever_a_checkpoint_is_named() -> None:
    assert locate_checkpoint("fma8") == locate_checkpoint("pretrained") == PRETRAINED
    assert digest_checkpoint("fma8") == digest_checkpoint("pretrained")
    assert load_checkpoint("fma8").vocabulary == load_checkpoint(PRETRAINED).vocabulary


def test_tags_are_no_checkpoint_of_other_commands(
    command: Callable[..., str], music: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(
        InputError, match="checkpoint=tags: musicnn's tags are for genreclf predict"
    ):
        load_checkpoint("tags")
    with pytest.raises(SystemExit):
        command("evaluate", "checkpoint=tags", "data=folder", f"data.root={music}")
    line = capsys.readouterr().err
    assert "choose fma8 or a checkpoint, or train on musicnn: features=musicnn model=linear" in line
