"""Tells names that differ only in spelling, and renames genres."""

import contextlib
import difflib
import json
import re
import shlex
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache, partial

import yaml

from genreclf.errors import InputError

SIMILAR = 0.75  # genres that are at least as similar as this are suggested


@lru_cache(maxsize=10_000)
def simplify_genre(name: str) -> str:
    """Reduce the name of a genre to what its spellings have in common.

    Case, spaces, hyphens, underscores and the form of Unicode do not count: "Hip-Hop", "hip hop"
    and "hiphop" are the same; "R&B" and "RB" are not.
    """
    text = unicodedata.normalize("NFKC", name).casefold()
    return re.sub(r"[\s_\-\u2010-\u2015]+", "", text) or text


def suggest_genre(name: str, known: Iterable[str]) -> str:
    """Suggest the known genre that a name may be meant for; empty if none is like it."""
    by_spelling = {simplify_genre(each): each for each in known}
    near = difflib.get_close_matches(simplify_genre(name), by_spelling, n=1, cutoff=SIMILAR)
    return by_spelling[near[0]] if near else ""


def suggest_renaming(names: Sequence[str], known: Sequence[str]) -> str:
    """Suggest what to type where genres are spelled otherwise than the known ones.

    Returns:
        A text such as `did you mean Hip-Hop? 'data.rename={hiphop: Hip-Hop}'`; empty if none of
        the names is like a known one.
    """
    near = {name: suggest_genre(name, known) for name in names}
    if not any(near.values()):
        return ""
    meant = ", ".join(dict.fromkeys(filter(None, near.values())))
    return f"did you mean {meant}? {format_renaming(near)}"


def format_renaming(names: Mapping[str, str]) -> str:
    """Format a value of data.rename as it is typed in a shell."""
    pairs = (f"{_quote(old)}: {_quote(new)}" for old, new in names.items() if new)
    return shlex.quote(f"data.rename={{{', '.join(pairs)}}}")


def _quote(name: str) -> str:
    """Quote a name for YAML, unless it is a plain word."""
    if re.fullmatch(r"[A-Za-z][\w-]*", name, re.ASCII) and not isinstance(
        yaml.safe_load(name), bool | None
    ):
        return name
    return json.dumps(name, ensure_ascii=False)


def check_renaming(rename: Mapping[str, str] | str | None) -> dict[str, str]:
    """Check the value of `data.rename`: a mapping, or its text in YAML.

    Raises:
        InputError: it is not a mapping of names to names.
    """
    if rename is None:
        return {}
    if isinstance(rename, str):
        with contextlib.suppress(yaml.YAMLError):
            rename = yaml.safe_load(rename)
    if not isinstance(rename, Mapping):
        raise InputError(f"data.rename={rename}: a mapping is needed: {{hiphop: Hip-Hop}}")
    if empty := [name for name, new in rename.items() if new is None or not str(new).strip()]:
        raise InputError(f"data.rename: {empty[0]} needs a new name")
    normalise = partial(unicodedata.normalize, "NFC")
    return {normalise(str(name)): normalise(str(new)) for name, new in rename.items()}


def rename_genre(genre: str, rename: Mapping[str, str]) -> str:
    """Return the new name of a genre, or its own."""
    return rename.get(unicodedata.normalize("NFC", genre), genre)


def check_renamed(rename: Mapping[str, str], found: Iterable[str]) -> None:
    """Check that the genres to be renamed occur.

    Raises:
        InputError: one does not; the message suggests one that is spelled almost like it.
    """
    known = sorted({unicodedata.normalize("NFC", name) for name in found})
    if unknown := [name for name in rename if name not in known]:
        near = suggest_genre(unknown[0], known)
        hint = f"; did you mean {near}?" if near else f"; there are {', '.join(known)}"
        raise InputError(f"data.rename: there is no genre {unknown[0]}{hint}")


def check_spellings(genres: Iterable[str], source: str) -> None:
    """Refuse genres that differ only in case, spaces, hyphens or the form of Unicode.

    Args:
        genres: the names of the genres.
        source: what they come from, for the message.

    Raises:
        InputError: there are such genres; it says what to type.
    """
    spellings: defaultdict[str, list[str]] = defaultdict(list)
    for genre in sorted({unicodedata.normalize("NFC", genre) for genre in genres}):
        spellings[simplify_genre(genre)].append(genre)
    same = [names for names in spellings.values() if len(names) > 1]
    if not same:
        return
    named = "; ".join(" and ".join(names) for names in same)
    rename = {name: names[0] for names in same for name in names[1:]}
    raise InputError(
        f"{source}: genres that differ only in spelling: {named}; to make one of them: "
        f"{format_renaming(rename)}"
    )
