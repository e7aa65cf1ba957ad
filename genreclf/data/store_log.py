"""Logs what a store holds, and which tracks it lacks."""

import logging
from collections.abc import Collection

from genreclf.audio.own_features import is_padded
from genreclf.data.store import Store
from genreclf.paths import format_path
from genreclf.protocols import Features

log = logging.getLogger(__name__)


def log_store(
    store: Store, features: Features, known_bad: Collection[str], list_rejected: bool
) -> None:
    """Log size and shape of a store, and the tracks that were rejected or have a note.

    Args:
        store: the store.
        features: what it was made for.
        known_bad: ids of tracks that were expected to be rejected.
        list_rejected: whether each of those tracks is listed, or only how many there are.
    """
    genres = f" of {len(store.classes)} genres" if store.classes != [""] else ""
    place = format_path(store.path)
    log.info("%s: %d tracks%s, features %d x %d", place, len(store), genres, *store.shape)
    if callable(features):
        short = int((store.durations < features.duration - 0.5).sum())
        if short:
            filled = " and end in silence" if is_padded(features) else ""
            log.info("%d are shorter than %g s%s", short, features.duration, filled)
    noted = store.noted
    if list_rejected:
        for track in [*noted, *store.rejected]:
            why = track.get("note") or track["reason"]
            log.warning("%s: %s", format_path(track["path"] or track["track_id"]), why)
        return
    if noted:
        log.warning(
            "%d of %d files are used with a note; the first: %s: %s",
            len(noted),
            len(store),
            format_path(noted[0]["path"] or noted[0]["track_id"]),
            noted[0]["note"],
        )
    if store.rejected:
        log.warning("%s", _format_rejections(store.rejected, known_bad))
        if lost := {track["genre"] for track in store.rejected} - set(store.classes):
            log.warning("no usable track is left of %s", format_path(", ".join(sorted(lost))))


def _format_rejections(rejected: list[dict[str, str]], known_bad: Collection[str]) -> str:
    """Say how many tracks were rejected, and name the first unexpected one."""
    news = [track for track in rejected if track["track_id"] not in known_bad]
    if not news:
        return f"{len(rejected)} tracks rejected, all known to be bad; listed in the report"
    first = news[0]
    unexpected = f", {len(news)} of them not known to be bad" if known_bad else ""
    return (
        f"{len(rejected)} tracks rejected{unexpected}, listed in the report; the first: "
        f"{format_path(first['path'] or first['track_id'])}: {format_path(first['reason'])}"
    )
