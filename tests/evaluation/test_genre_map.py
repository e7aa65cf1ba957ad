"""Maps from a model's labels to FMA's genres or the user's own."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import genreclf
from genreclf.errors import InputError
from genreclf.evaluation.genre_map import TO_FMA, read_genre_map
from genreclf.evaluation.vocabulary import Vocabulary
from genreclf.models.checkpoint import TrainedModel
from genreclf.models.encoders.musicnn_tagger import NO_GENRES
from genreclf.models.encoders.musicnn_weights import TAGS

FMA = ["Electronic", "Experimental", "Folk", "Hip-Hop", "Instrumental", "International", "Pop"]
FMA.append("Rock")


def make_model(classes: Sequence[str], multi_label: bool, no_genres: Sequence[str] = ()) -> Any:
    """A model of which only the classes matter."""
    parts: Any = None
    return TrainedModel(
        parts, [*classes], parts, 0, None, multi_label=multi_label, no_genres=no_genres
    )


def test_a_map_names_genres_with_one_label_or_several(tmp_path: Path) -> None:
    path = tmp_path / "genres.yaml"
    path.write_text("# mine\nRock: [ROCK, punk]\nRap: hip-hop\n'80s': [80s]\n", encoding="utf-8")
    expected = {"Rock": ["rock", "punk"], "Rap": ["Hip-Hop"], "80s": ["80s"]}
    assert read_genre_map(path, TAGS) == expected
    assert read_genre_map({"Rock": ("ROCK", "punk"), "Rap": "Hip-Hop", "80s": "80s"}, TAGS) == (
        expected
    )


def test_the_map_to_fma_fits_musicnn() -> None:
    assert read_genre_map("fma", TAGS) == {genre: [*tags] for genre, tags in TO_FMA.items()}
    assert {*FMA} - {*TO_FMA} == {"International"}
    assert not {tag for named in TO_FMA.values() for tag in named} & {*NO_GENRES}
    with pytest.raises(InputError, match="this model's genres are FMA's already"):
        read_genre_map("fma", FMA)
    with pytest.raises(InputError, match="the model has no label electronica"):
        read_genre_map("fma", ["Electronic", "Jazz"])


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "a genre and its labels are needed on each line, such as Rock"),
        ("{}", "a genre and its labels are needed"),
        ("- rock", "a genre and its labels are needed"),
        ("rock", "a genre and its labels are needed"),
        ("Rock: []\nPop: pop", "Rock has no labels; write one or more"),
        ("Rock:\nPop: pop", "Rock has no labels"),
        ("Rock: {rock: 1}\nPop: pop", r"line 1: 1 is not a name; write it in quotes"),
        ("Rock: {a: rock}\nPop: pop", r"Rock: a label or a list of labels is needed, such as Rock"),
        ("Rock: [[rock, punk]]\nPop: pop", r"Rock: \['rock', 'punk'\] is not a name"),
        ("Rock: rock, punk\nPop: pop", r"several labels need brackets: Rock: \[rock, punk\]$"),
        ("Rock: [rok]\nPop: pop", r"Rock: the model has no label rok; did you mean rock\?"),
        ("Polka: polka\nPop: pop", "no label polka; .*"),
        ("Xyzzy: xyzzy\nPop: pop", "no label xyzzy; it has rock, pop, alternative"),
        ("Rock: rock\nRock: punk", r"map=.*: Rock is there twice; write all its labels once"),
        ("A: rock\nB: [Rock]", "rock is in A and in B; leave it in one of them"),
        ("A: [rock, ROCK]\nB: pop", "A: rock is there twice; leave one out"),
        ("Rock: rock\nrock: punk", "'Rock' and 'rock' would be two genres; write all labels once"),
        ("'Rock ': rock\nRock: punk", "'Rock ' and 'Rock' would be two genres"),
        ("R  B: rock\nR B: punk", "'R  B' and 'R B' would be two genres"),
        ("Rock: [rock, punk]", "two genres or more are needed; all music would be Rock"),
        ("80: [80s]\nPop: pop", 'line 1: 80 is not a name; write it in quotes: "80"'),
        ("Pop: pop\nno: rock", 'line 2: YAML reads no as false, not as a name.*quotes: "no"'),
        ("Pop: [pop,\n  yes]\n", 'line 2: YAML reads yes as true, not as a name.*quotes: "yes"'),
        ("A: On\nB: pop", "line 1: YAML reads On as true"),
        ("A: [rock, 80]\nB: pop", "line 1: 80 is not a name; write it in quotes"),
        ("A: [rock, null]\nB: pop", "A: None is not a name; write it in quotes"),
        ("2020-01-01: rock\nB: pop", 'line 1: 2020-01-01 is not a name; .*: "2020-01-01"'),
        ("Unknown: rock\nPop: pop", "Unknown stands for music that is unlike the training data"),
        ("Rock: [rock", r"genres.yaml, line 1: not YAML"),
        ("Rock: [rock\n", r"genres.yaml, line 1: not YAML"),
        ("Pop: pop\nRock: 'rock\n\n", r"genres.yaml, line 2: not YAML"),
        ("Pop: pop\nRock: rock: punk\n", r"genres.yaml, line 2: not YAML"),
        ("%rock\n", r"genres.yaml, line 1: not YAML"),
        ("Pop: pop\n- rock\n", r"genres.yaml, line 2: not YAML"),
        ("Rock: !!python/object:os.system rock", "not YAML"),
        ("? [a]\n: rock", r"\['a'\] is not a name"),
        ("A: &x [*x]", "not YAML"),
        ("Rock: \udcff", "not UTF-8; save it as UTF-8"),
    ],
)
def test_a_wrong_map_is_one_line(tmp_path: Path, text: str, line: str) -> None:
    path = tmp_path / "genres.yaml"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(InputError, match=line) as caught:
        read_genre_map(path, TAGS)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16"])
def test_a_map_in_another_encoding_is_one_line(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "genres.yaml"
    path.write_text("M\u00fcsik: rock\nPop: pop\n", encoding=encoding)
    with pytest.raises(InputError, match="not UTF-8; save it as UTF-8 in your editor"):
        read_genre_map(path, TAGS)


@pytest.mark.parametrize("given", [["rock"], 5, {"rock"}, b"genres.yaml"])
def test_what_is_no_map_is_one_line(given: Any) -> None:
    """C15: a TypeError of the path."""
    with pytest.raises(InputError, match=f"genre_map: a mapping .* not {type(given).__name__}$"):
        genreclf.load("fma8", "cpu", genre_map=given)


def test_a_map_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    for path in (tmp_path / "gone.yaml", tmp_path):
        with pytest.raises(InputError, match=f"map={path}: "):
            read_genre_map(path, TAGS)


def test_the_built_in_map_has_no_case_and_near_names_are_suggested(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`--map FMA` said only that there is no such file."""
    assert read_genre_map("FMA", TAGS) == read_genre_map("fma", TAGS)
    assert Vocabulary.choose(make_model(TAGS, True), "Fma").name.startswith("7 genres of FMA, ")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "Genres.yaml").write_text("Rock: rock\nPop: pop\n", encoding="utf-8")
    (tmp_path / "genres.csv").touch()
    otherwise = "name a YAML file of your genres and the model's labels, or fma"
    for given, hint in (
        ("fma8", "did you mean fma?"),
        ("gneres.yaml", "did you mean Genres.yaml?"),
        (f"{tmp_path}/genre.yml", f"did you mean {tmp_path}/Genres.yaml?"),
        ("mine.yaml", otherwise),
        ("gone/genres.yaml", otherwise),
    ):
        with pytest.raises(InputError) as caught:
            read_genre_map(given, TAGS)
        assert str(caught.value) == f"map={given}: no such file; {hint}"


def test_probabilities_add_up_unless_labels_can_all_apply() -> None:
    scores, given = np.array([[0.5, 0.3, 0.2], [0.1, 0.2, 0.7]]), {"A": ["x", "y"], "B": "z"}
    single = Vocabulary.choose(make_model("xyz", multi_label=False), given)
    np.testing.assert_allclose(single.combine(scores), [[0.8, 0.2], [0.3, 0.7]])
    several = Vocabulary.choose(make_model("xyz", multi_label=True), given)
    np.testing.assert_allclose(several.combine(scores), [[25 / 29, 4 / 29], [4 / 53, 49 / 53]])


def test_scores_of_a_map_are_shares_and_what_it_leaves_out_is_listed() -> None:
    model = make_model(["a", "b", "c", "sad"], True, no_genres=["sad"])
    plain = Vocabulary.choose(model)
    assert (plain.genres, plain.tags, plain.left_out) == (["a", "b", "c"], ["sad"], ())
    assert plain.name == "3 genres: a, b, c"
    scores = np.array([[0.2, 0.6, 0.9, 0.3]])
    np.testing.assert_array_equal(plain.combine(scores), scores)
    mapped = Vocabulary.choose(model, {"One": "a", "Two": "B"})
    assert (mapped.tags, mapped.left_out) == (["sad"], ["c"])
    assert mapped.name == "2 genres of your map, from 3 genres"
    np.testing.assert_allclose(mapped.combine(scores), [[0.1, 0.9, 0.3]])
    moods = Vocabulary.choose(model, {"One": ["a", "b", "c"], "Sad": "sad"})
    assert (moods.tags, moods.left_out) == ([], [])
    np.testing.assert_allclose(mapped.combine(np.zeros((1, 4))), [[0.5, 0.5, 0]])


def test_the_bundled_model_takes_a_map(music: Path) -> None:
    clip = next(music.rglob("*.mp3"))
    plain = genreclf.load("fma8", "cpu").predict(clip, threshold=1)
    given = {"Loud": ["Rock", "Hip-Hop", "Electronic", "Pop"]}
    given["Calm"] = ["folk", "instrumental", "international", "experimental"]
    model = genreclf.load("fma8", "cpu", genre_map=given)
    found = model.predict(clip, threshold=1)
    assert model.classes == ["Loud", "Calm"]
    assert found.scores["Loud"] == pytest.approx(sum(plain.scores[g] for g in given["Loud"]))
    assert sum(found.scores.values()) == pytest.approx(1)
    assert found.timeline[0].genre == found.genre
    assert found.vocabulary == "2 genres of your map, from FMA's 8 genres"
    assert np.array_equal(model.embed(clip), genreclf.load("fma8", "cpu").embed(clip))
