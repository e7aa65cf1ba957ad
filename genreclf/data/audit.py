"""Finds leaks between the parts of a split: the same recording, artist or album in two of them."""

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from genreclf.data.artists import identify_albums, identify_artists
from genreclf.data.near_duplicates import NearDuplicate
from genreclf.data.splits import Split
from genreclf.data.store import Store
from genreclf.errors import InputError

SHOWN = 5  # groups, and tracks of a group, in a message
Group = dict[str, list[str]]  # ids of tracks with identical rows, by part


def audit_split(
    store: Store,
    split: Split,
    allow_identical: Sequence[str] | str | int = (),
    near_duplicates: Sequence[NearDuplicate] = (),
) -> dict[str, Any]:
    """Find what parts share: identical rows, near-duplicates, artists, albums.

    Args:
        store: the store that is split.
        split: its parts.
        allow_identical: track ids (or one) whose rows may occur in two parts, or "all".
        near_duplicates: rows of the store that are probably the same recording; they are reported,
            but are no error.

    Returns:
        A dict of `unknown_artist` (number of tracks), `duplicates` and `near_duplicates` (groups of
        track ids with identical rows, and pairs with similar ones, within a part) and, for each
        pair of parts such as "train-test", a dict of `identical` and `near_duplicates` (the same,
        of both parts), `artists` and `albums`
        (how many are shared) and `tracks_of_shared_artists` (how many tracks of the second part
        have an artist who is in the first).

    Raises:
        InputError: two parts have identical rows that are not allowed.
    """
    groups = _group_identical_rows(store, split)
    artists = identify_artists(store)
    albums = identify_albums(store, artists)
    report: dict[str, Any] = {
        "unknown_artist": artists.count(""),
        "duplicates": [ids for group in groups for ids in group.values() if len(ids) > 1],
    }
    pairs = _sort_pairs(store, split, near_duplicates)
    report["near_duplicates"] = [ids for part in split for ids in pairs.get((part, part), [])]
    for first, second in combinations(split, 2):
        shared = _find_common(artists, split[first], split[second])
        report[f"{first}-{second}"] = {
            "identical": [
                group[first] + group[second]
                for group in groups
                if first in group and second in group
            ],
            "near_duplicates": pairs.get((first, second), []),
            "artists": len(shared),
            "albums": len(_find_common(albums, split[first], split[second])),
            "tracks_of_shared_artists": sum(artists[row] in shared for row in split[second]),
        }
    if allow_identical != "all":
        one = isinstance(allow_identical, str | int)
        _check_identical(store, groups, {str(allow_identical)} if one else allow_identical)
    return report


def format_groups(groups: Sequence[Sequence[str]]) -> str:
    """Format the first few groups of identical tracks, such as "2 = 5, 7 = 9 = 11, ..."."""
    shown = [" = ".join(group[:SHOWN]) + " = ..." * (len(group) > SHOWN) for group in groups]
    return ", ".join(shown[:SHOWN]) + ", ..." * (len(groups) > SHOWN)


def list_near_duplicates(
    report: Mapping[str, Any], allow_identical: Sequence[str] | str | int = ()
) -> list[str]:
    """List in a few lines the near-duplicates of a report that are not allowed in two parts."""
    given = [allow_identical] if isinstance(allow_identical, str | int) else allow_identical
    allowed = set(map(str, given))
    lines = []
    if pairs := report["near_duplicates"]:
        lines.append(
            f"{len(pairs)} pairs of tracks within one part are probably the same recording "
            f"({format_groups(pairs)})"
        )
    for parts, found in report.items():
        if "-" in parts and "all" not in allowed:
            pairs = [ids for ids in found["near_duplicates"] if not allowed & {*ids}]
            if pairs:
                lines.append(
                    f"{len(pairs)} pairs of tracks, one in {parts.replace('-', ' and one in ')}, "
                    f"are probably the same recording ({format_groups(pairs)}): keep one track of "
                    "each, or allow them: allow_identical=[track id, ...] or =all"
                )
    return lines


def count_tracks(store: Store, split: Split) -> dict[str, dict[str, int]]:
    """Count the tracks of each genre in each part."""
    return {
        part: dict(Counter(store.classes[label] for label in store.labels[rows]))
        for part, rows in split.items()
    }


def _group_identical_rows(store: Store, split: Split) -> list[Group]:
    """Group the rows that occur more than once; pairs would be too many."""
    groups: dict[str, Group] = {}
    for part, rows in split.items():
        for row in rows:
            group = groups.setdefault(store.row_sha1[row], {})
            group.setdefault(part, []).append(store.track_ids[row])
    return [group for group in groups.values() if sum(map(len, group.values())) > 1]


def _sort_pairs(
    store: Store, split: Split, near_duplicates: Sequence[NearDuplicate]
) -> dict[tuple[str, str], list[list[str]]]:
    """Sort pairs of track ids by the parts they lie in, in the order of the split."""
    places = {int(row): part for part, rows in split.items() for row in rows}
    order = list(split)
    pairs: dict[tuple[str, str], list[list[str]]] = {}
    for first, second, _ in near_duplicates:
        if first in places and second in places:
            ordered = sorted((first, second), key=lambda row: order.index(places[row]))
            parts = (places[ordered[0]], places[ordered[1]])
            pairs.setdefault(parts, []).append([store.track_ids[row] for row in ordered])
    return pairs


def _check_identical(store: Store, groups: Sequence[Group], allow_identical: Any) -> None:
    allowed = set(map(str, allow_identical))
    if unknown := allowed - set(store.track_ids):
        raise InputError(f"allow_identical: no track {', '.join(sorted(unknown))}")
    leaks = []
    for group in groups:
        left = [[track for track in ids if track not in allowed] for ids in group.values()]
        if sum(map(bool, left)) > 1:
            leaks.append([track for ids in left for track in ids])
    if leaks:
        raise InputError(
            f"{len(leaks)} recordings lie in different parts of the split "
            f"({format_groups(leaks)}); keep one track of each, or allow them: "
            "allow_identical=[track id, ...] or =all"
        )


def _find_common(names: list[str], first: np.ndarray, second: np.ndarray) -> set[str]:
    known = {names[row] for row in first} & {names[row] for row in second}
    return {name for name in known if name}
