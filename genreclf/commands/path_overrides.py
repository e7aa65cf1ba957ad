"""Takes the values of keys that hold paths as they are typed.

Hydra's grammar refuses most paths that people have: `Rock & Roll`, `#1 hits`, `Jürgen`; and makes
other values of `a,b`, `[live]`, `null` and `1e3`. So in a key that holds a path, a path that exists
comes first, then a pattern of files where several are allowed, then Hydra's grammar. What that
cannot read, or would not read as one path, is taken as it is typed. A sweep over several paths is
written as `choice(a,b)`. The value is then quoted for Hydra.

`config_types.KINDS` says which keys hold paths; of parts outside genreclf, their annotations do.
"""

import glob
import inspect
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import HydraException

from genreclf.commands.compose import is_own_option, list_groups
from genreclf.commands.config_types import PATH, PATHS, find_kinds
from genreclf.errors import InputError
from genreclf.paths import expand_home, find_path, format_path


def quote_paths(arguments: Sequence[str], config_name: str) -> list[str]:
    """Quote the values of overrides that hold paths, and expand `~` in all others.

    Args:
        arguments: those of a command: Hydra's options, and overrides as they were typed.
        config_name: the primary config of the command.

    Raises:
        InputError: a path cannot be used, or several paths need `choice(...)`.
    """
    return [
        _quote_argument(text, config_name, arguments)
        if re.match(r"\+{0,2}[\w./@-]+=", text) and not text.startswith("-")
        else text
        for text in arguments
    ]


def _quote_argument(argument: str, config_name: str, arguments: Sequence[str]) -> str:
    key, _, value = argument.partition("=")
    plain = key.lstrip("+")
    kinds = {PATH, PATHS} & {*find_kinds(plain, None)}
    if plain == "data.rename" and value.startswith("{") and not _is_read(value):
        return f"{key}={_quote(value)}"  # names that Hydra cannot read; the dataset can
    if not kinds and "." in plain and not _is_plain(value):
        kinds = _find_own_kinds(plain, config_name, arguments)
    quoted = quote_path(plain, value, kinds) if kinds else value
    return f"{key}={_expand_home(value) if quoted == value else quoted}"


def quote_path(key: str, value: str, kinds: set[str]) -> str:
    """Quote the value of a key for Hydra's grammar, if that would make something else of it.

    Args:
        key: the key, for messages.
        value: what was typed after "=".
        kinds: PATH if the key holds a path, PATHS if it holds a list of them.

    Raises:
        InputError: the path cannot be used, or several paths need `choice(...)`.
    """
    several = PATHS in kinds
    if path := _find(key, value, several):
        if PATH not in kinds:
            return f"[{_quote(path)}]"
        return _quote_unless_plain(path)
    opening = next((each for each in ("choice(", "[")[: 1 + several] if value.startswith(each)), "")
    elements = ""
    if opening and value[-1] in ")]":
        elements = _quote_elements(key, value[len(opening) : -1], several)
    if elements:
        return opening + elements + value[-1]
    try:
        override = OverridesParser.create().parse_override(f"key={value}")
    except HydraException:
        if opening:
            raise InputError(f"{key}={value}: some of these paths do not exist") from None
        return _quote_unless_plain(str(expand_home(value)))
    if override.is_sweep_override():
        pieces = value.split(",")
        if not getattr(override.value(), "simple_form", False) or value[:1] in ("'", '"', "["):
            return value  # choice(...), or quoted paths
        if all(find_path(expand_home(piece)) for piece in pieces):
            raise InputError(f"{key}={value}: for a sweep over paths, type '{key}=choice({value})'")
        return _quote_unless_plain(str(expand_home(value)))
    parsed = override.value()
    if parsed is None or "${" in value:
        return value
    if isinstance(parsed, str) and (
        parsed == value or find_path(expand_home(parsed)) or _find_pattern(parsed)
    ):
        return value
    return (
        value
        if several and isinstance(parsed, list)
        else _quote_unless_plain(str(expand_home(value)))
    )


def _find(key: str, value: str, several: bool) -> str:
    """Find the path that was typed; empty if there is none."""
    if not value:
        return ""
    literal = value.startswith("~") and os.path.lexists(value)
    found = find_path(expand_home(value))
    if found is None and literal:
        found = Path(value)
    if found is None:
        return _find_pattern(value) if several else ""
    if "${" in value:
        raise InputError(
            f"{key}={format_path(value)}: the ${{ in this path has a meaning in configs; rename "
            "it, or make a link to it"
        )
    exact = os.path.lexists(value) and not literal
    path = value if exact else str(found)
    return os.path.abspath(path) if literal or path == "???" else path  # noqa: PTH100


def _find_pattern(value: str) -> str:
    """Return a pattern if it matches anything; brackets alone are a list."""
    pattern = str(expand_home(value))
    return pattern if re.search("[*?]", pattern) and glob.glob(pattern) else ""  # noqa: PTH207


def _quote_elements(key: str, inner: str, several: bool) -> str:
    """Quote the elements of a list or of `choice(...)`; empty if some of them is no path.

    A path may contain commas: each element is the shortest text up to a comma that exists.
    """
    elements: list[str] = []
    rest = inner.split(",")
    while rest:
        for count in range(1, len(rest) + 1):
            text = ",".join(rest[:count]).strip()
            if _is_quoted(text):
                elements.append(_expand_home(text))
                break
            if path := _find(key, text, several):
                elements.append(_quote(path))
                break
        else:
            return ""
        del rest[:count]
    return ",".join(elements)


def _is_plain(value: str) -> bool:
    """Whether Hydra reads a value as this very text."""
    if re.fullmatch(r"[A-Za-z_./-][\w./-]*", value, re.ASCII):
        return value.lower() not in ("null", "true", "false", "nan", "inf")
    try:
        override = OverridesParser.create().parse_override(f"key={value}")
    except HydraException:
        return False
    parsed = None if override.is_sweep_override() else override.value()
    return type(parsed) is str and parsed == value


def _is_read(value: str) -> bool:
    try:
        OverridesParser.create().parse_override(f"key={value}")
    except HydraException:
        return False
    return True


def _is_quoted(text: str) -> bool:
    try:
        return isinstance(
            OverridesParser.create().parse_override(f"key={text}")._value, QuotedString
        )
    except HydraException:
        return False


def _quote_unless_plain(path: str) -> str:
    return path if _is_plain(path) else _quote(path)


def _quote(path: str) -> str:
    if "${" in path:  # of something that Hydra cannot read
        raise InputError(f"{format_path(path)}: a path with ${{ cannot be used")
    return QuotedString(path, Quote.single).with_quotes()


def _expand_home(value: str) -> str:
    """Expand `~/` in a value in Hydra's grammar, where Hydra does not allow it."""
    home = Path.home().as_posix()
    return re.sub(r"""(^|[,\[('"])~(?=/|$)""", rf"\g<1>{home}", value)


def _find_own_kinds(key: str, config_name: str, arguments: Sequence[str]) -> set[str]:
    """Find whether an argument of a class outside genreclf holds a path, by its annotation."""
    group, _, name = key.rpartition(".")
    chosen = [text.partition("=")[2] for text in arguments if text.startswith(f"{group}=")]
    if not chosen or group not in list_groups(config_name) or is_own_option(group, chosen[-1]):
        return set()
    from genreclf.commands.user_errors import find_chosen_target

    target = find_chosen_target(group, config_name, arguments)
    try:
        parameters = inspect.signature(target).parameters
    except (TypeError, ValueError):
        return set()
    return find_annotated_kinds(parameters[name].annotation) if name in parameters else set()


def find_annotated_kinds(annotation: Any) -> set[str]:
    """Find which kinds of paths an annotation allows, such as `str | Path`."""
    text = getattr(annotation, "__name__", "") if isinstance(annotation, type) else str(annotation)
    if not re.search(r"\bPath(Like)?\b", text):
        return set()
    listed = re.search(r"\b(list|Sequence|Iterable|tuple)\[", text)
    return {PATHS} if listed else {PATH}
