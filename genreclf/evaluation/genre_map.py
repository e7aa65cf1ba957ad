"""Maps from a model's labels to other genres: FMA's, or the user's own.

A map names each genre with the labels that it stands for. As YAML:

    Rock: [rock, punk, metal]
    Club: [House, dance, electronic]
    Rap: Hip-Hop
"""

import difflib
import os
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from genreclf.errors import InputError
from genreclf.paths import describe_path, explain_irregular, locate_path

FMA = "fma"
UNKNOWN = "unknown"  # what a prediction says instead of a genre
TO_FMA = {  # musicnn's tags for the genres of FMA Small; it has none for International
    # "indie" may be pop or rock; make bench-tags says where it is right more often.
    "Electronic": ("electronic", "electronica", "electro", "House", "dance", "chillout"),
    "Experimental": ("experimental",),
    "Folk": ("folk",),
    "Hip-Hop": ("Hip-Hop",),
    "Instrumental": ("instrumental",),
    "Pop": ("pop", "indie pop", "indie"),
    "Rock": (
        *("rock", "alternative", "alternative rock", "classic rock", "hard rock", "indie rock"),
        *("Progressive rock", "punk", "metal", "heavy metal"),
    ),
}
SHOWN = 60  # labels in a message

GenreMap = Mapping[str, str | Sequence[str]] | str | os.PathLike[str]


def read_genre_map(given: GenreMap, labels: Sequence[str]) -> dict[str, list[str]]:
    """Read a map, and check it against the labels of a model.

    Args:
        given: a mapping of each genre to a label or several; the path of a YAML file of one; or
            "fma", in any case, for musicnn's tags that correspond to genres of FMA.
        labels: the labels of the model. Upper and lower case need not match.

    Returns:
        The labels of each genre, spelled as the model spells them.

    Raises:
        InputError: it is none of these, there is no such file, it is not such a map, has a single
            genre or one twice, a label is not one of the model's, or it belongs to two genres.
    """
    if isinstance(given, Mapping):
        return _check_map(given, labels, "genre_map")
    if not isinstance(given, str | os.PathLike):
        raise InputError(
            "genre_map: a mapping of genres to labels, the path of a YAML file or fma is needed, "
            f"not {type(given).__name__}"
        )
    if is_built_in(given):
        if "Electronic" in labels and "Hip-Hop" in labels and "International" in labels:
            raise InputError("map=fma: this model's genres are FMA's already; leave it out")
        return _check_map(TO_FMA, labels, "map=fma")
    return _check_map(_read_yaml(given), labels, f"map={given}")


def is_built_in(given: GenreMap) -> bool:
    """Whether a map is the built-in one, "fma", rather than a mapping or a file."""
    return isinstance(given, str) and given.casefold() == FMA


def _read_yaml(path: str | os.PathLike[str]) -> Any:
    import yaml  # takes longer to import than the rest

    class Loader(yaml.SafeLoader):
        """Refuses a key that occurs twice, of which YAML would take the last."""

    def build_mapping(loader: yaml.SafeLoader, node: yaml.MappingNode) -> dict[Any, Any]:
        found: dict[Any, Any] = {}
        for key_node, value_node in node.value:
            key = loader.construct_object(key_node, deep=True)  # pyright: ignore
            if not isinstance(key, str):
                place = f"map={path}, line {key_node.start_mark.line + 1}"
                raise InputError(f"{place}: {_explain_no_name(key, key_node)}")
            if key in found:
                raise InputError(f"map={path}: {key} is there twice; write all its labels once")
            _check_labels(loader, value_node, path)
            found[key] = loader.construct_object(value_node, deep=True)  # pyright: ignore
        return found

    Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, build_mapping)
    text = ""
    try:
        place = locate_path(path)
        if describe_path(place)[0] == "special":
            raise InputError(f"map={path}: {explain_irregular(place)}")
        text = place.read_text(encoding="utf-8-sig")
        return yaml.load(text, Loader)
    except InputError:
        raise
    except UnicodeDecodeError:
        raise InputError(f"map={path}: not UTF-8; save it as UTF-8 in your editor") from None
    except FileNotFoundError:
        raise InputError(f"map={path}: no such file; {_suggest_file(Path(path))}") from None
    except OSError as error:
        raise InputError(f"map={path}: {error.strerror or error}") from None
    except (yaml.YAMLError, RecursionError) as error:
        # What is opened and never closed is noticed later, maybe below the last line.
        opened = re.search("flow|quoted", getattr(error, "context", None) or "")
        mark = getattr(error, "context_mark" if opened else "problem_mark", None)
        last = len(text.rstrip().splitlines())
        place = f", line {min(mark.line + 1, last)}" if mark else ""
        reason = getattr(error, "problem", None) or error
        raise InputError(f"map={path}{place}: not YAML ({' '.join(str(reason).split())})") from None


def _check_labels(loader: Any, node: Any, path: str | os.PathLike[str]) -> None:
    """Refuse labels that YAML does not read as text, with their line."""
    for each in node.value if node.id == "sequence" else [node]:
        value = loader.construct_object(each, deep=True)
        if each.id == "scalar" and not isinstance(value, str | None):
            place = f"map={path}, line {each.start_mark.line + 1}"
            raise InputError(f"{place}: {_explain_no_name(value, each)}")


def _explain_no_name(value: Any, node: Any = None) -> str:
    """Say why a value is no name, and how to write it in YAML."""
    written = node.value if getattr(node, "id", "") == "scalar" else None
    if written is None:
        return f"{value!r} is not a name; write it in quotes"
    if isinstance(value, bool):
        meant = str(value).lower()
        return f'YAML reads {written} as {meant}, not as a name; write it in quotes: "{written}"'
    return f'{written} is not a name; write it in quotes: "{written}"'


def _suggest_file(path: Path) -> str:
    """Suggest a YAML file of the same folder, or the built-in map, with a similar name."""
    known = {FMA: FMA}
    with suppress(OSError):
        files = (each for each in path.parent.iterdir() if each.suffix in (".yaml", ".yml"))
        known |= {each.stem.casefold(): str(each) for each in sorted(files)}
    if near := difflib.get_close_matches(path.stem.casefold(), known, 1):
        return f"did you mean {known[near[0]]}?"
    return f"name a YAML file of your genres and the model's labels, or {FMA}"


def _check_map(given: Any, labels: Sequence[str], where: str) -> dict[str, list[str]]:
    if not isinstance(given, Mapping) or not given:
        raise InputError(
            f"{where}: a genre and its labels are needed on each line, such as Rock: [rock, punk]"
        )
    known = {label.casefold(): label for label in labels}
    found: dict[str, list[str]] = {}
    owners: dict[str, str] = {}
    spelled: dict[str, str] = {}
    for genre, named in given.items():
        if not isinstance(genre, str) or not genre.strip():
            raise InputError(f"{where}: {_explain_no_name(genre)}")
        plain = " ".join(genre.split()).casefold()
        if former := spelled.get(plain):
            raise InputError(
                f"{where}: {former!r} and {genre!r} would be two genres; write all labels once"
            )
        spelled[plain] = genre
        if genre.strip().casefold() == UNKNOWN:
            raise InputError(
                f"{where}: {genre} stands for music that is unlike the training data; choose "
                "another name"
            )
        several = [named] if isinstance(named, str) else named
        if not several and not isinstance(several, int | float):
            raise InputError(
                f"{where}: {genre} has no labels; write one or more, such as {genre}: [{labels[0]}]"
            )
        if not isinstance(several, list | tuple):
            raise InputError(
                f"{where}: {genre}: a label or a list of labels is needed, such as "
                f"{genre}: [{labels[0]}], not {several!r}"
            )
        for label in several:
            if not isinstance(label, str):
                raise InputError(f"{where}: {genre}: {_explain_no_name(label)}")
            own = known.get(label.strip().casefold())
            if own is None and isinstance(named, str) and "," in named:
                raise InputError(
                    f"{where}: {genre}: several labels need brackets: {genre}: [{named.strip()}]"
                )
            if own is None:
                raise InputError(f"{where}: {genre}: {_explain_unknown(label, labels)}")
            if owners.get(own) == genre:
                raise InputError(f"{where}: {genre}: {own} is there twice; leave one out")
            if owner := owners.get(own):
                raise InputError(
                    f"{where}: {own} is in {owner} and in {genre}; leave it in one of them"
                )
            owners[own] = genre
            found.setdefault(genre, []).append(own)
    if len(found) == 1:
        raise InputError(
            f"{where}: two genres or more are needed; all music would be {next(iter(found))}"
        )
    return found


def _explain_unknown(label: str, labels: Sequence[str]) -> str:
    lower = {each.casefold(): each for each in labels}
    near = difflib.get_close_matches(label.casefold(), lower, 3)
    if near:
        return (
            f"the model has no label {label}; did you mean {' or '.join(lower[n] for n in near)}?"
        )
    return f"the model has no label {label}; it has {', '.join(labels[:SHOWN])}"
