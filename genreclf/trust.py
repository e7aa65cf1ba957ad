"""Builds parts that a file names, and imports only code that the user has named.

A checkpoint names the classes of its model and its features. It may come from a stranger, and
importing a module runs it. So only classes that genreclf exports are built without asking; any
other class must belong to a package that the user named: `trust=[package]`.

Such files hold plain values. A text that Hydra would interpret, `${...}`, is refused wherever it
occurs, because settings from a file can become part of a config.
"""

import inspect
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from importlib import import_module
from typing import Any

from genreclf.errors import InputError
from genreclf.source_code import LIBRARIES

OURS = ("genreclf.models", "genreclf.audio")  # whose exported classes are safe to build
REMOTE_CODE = "transformers_modules"  # where transformers puts code that comes with a model
TARGET, ARGUMENTS, PARTIAL = "_target_", "_args_", "_partial_"  # as in Hydra's configs
IGNORED = ("_convert_", "_recursive_")  # likewise; values are always plain and built first


def build_part(settings: Mapping[str, Any], trust: Sequence[str] = (), **arguments: Any) -> Any:
    """Build a part from its settings, as Hydra's `instantiate` does.

    Args:
        settings: plain values; `_target_` is the full name of a class. Values with a `_target_` of
            their own are built first.
        trust: packages, modules or classes whose code may run, such as "mypackage". A function is
            only called if it is listed by its full name.
        arguments: further keyword arguments.

    Raises:
        InputError: the target is not trusted, cannot be imported, or rejects the settings; one of
            them is an interpolation; or a class of genreclf has settings without names.
    """
    refuse_interpolations(settings)
    require_trust(settings, trust)
    target = str(settings.get(TARGET, ""))
    kind = _locate(target, trust)
    # `require_trust` knows settings that run code by their names, which positional ones lack.
    if _is_ours(target) and (unnamed := {ARGUMENTS, PARTIAL} & settings.keys()):
        raise InputError(
            f"{target}: {min(unnamed)} among the settings in this file; name each setting"
        )
    given = {
        key: _build_nested(value, trust)
        for key, value in settings.items()
        if key not in (TARGET, ARGUMENTS, PARTIAL, *IGNORED)
    }
    positional = [_build_nested(value, trust) for value in settings.get(ARGUMENTS, ())]
    if settings.get(PARTIAL):
        return partial(kind, *positional, **given, **arguments)
    try:
        return kind(*positional, **given, **arguments)
    except InputError:
        raise
    except Exception as error:
        raise InputError(
            f"{target} rejects its settings: {type(error).__name__}: {error}"
        ) from None


def _build_nested(value: Any, trust: Sequence[str]) -> Any:
    if isinstance(value, Mapping):
        if TARGET in value:
            return build_part(value, trust)
        return {key: _build_nested(item, trust) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_build_nested(item, trust) for item in value]
    return value


def refuse_interpolations(settings: Any) -> None:
    """Refuse settings from a file, at any depth, in which Hydra would replace `${...}`.

    A resolver such as `oc.create` can make a `_target_` of it, which is then imported.

    Raises:
        InputError: a text or a key contains `${`.
    """
    if isinstance(settings, str) and "${" in settings:
        raise InputError(
            f"{settings!r} among the settings in this file: text with ${{ is not accepted there"
        )
    if isinstance(settings, Mapping):
        settings = [*settings.keys(), *settings.values()]
    for each in settings if isinstance(settings, list | tuple) else ():
        refuse_interpolations(each)


def list_own_targets(config: Any) -> list[str]:
    """List the targets in a config that belong to neither genreclf nor the libraries below it."""
    named = sorted(set(list_targets(config)))
    return [name for name in named if name.partition(".")[0] not in LIBRARIES]


def list_targets(settings: Any) -> list[str]:
    """List the targets of these settings and of the values in them."""
    return [target for _, target in find_targets(settings)]


def list_code(settings: Any) -> list[str]:
    """List the targets in these settings, and transformers' code that comes with a model."""
    return [*list_targets(settings), *([REMOTE_CODE] if _runs_remote_code(settings) else [])]


def _runs_remote_code(settings: Any) -> bool:
    if isinstance(settings, Mapping):
        if settings.get("trust_remote_code"):
            return True
        settings = [*settings.values()]
    return isinstance(settings, list | tuple) and any(map(_runs_remote_code, settings))


def find_targets(settings: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Find each target of these settings, and of the values in them, with its key."""
    if isinstance(settings, Mapping):
        if TARGET in settings:
            yield f"{prefix}{TARGET}", str(settings[TARGET])
        items = settings.items()
    else:
        items = enumerate(settings) if isinstance(settings, list | tuple) else ()
    for name, value in items:
        yield from find_targets(value, f"{prefix}{name}.")


def _locate(target: str, trust: Sequence[str]) -> Any:
    """Import what a target names, if it may be imported."""
    package, _, name = target.rpartition(".")
    if _is_ours(target):
        module = import_module(package)
        kind = getattr(module, name) if name in dir(module) else None
        if inspect.isclass(kind):
            return kind
        raise InputError(f"{target} is not known to this version of genreclf")
    if not target:
        raise InputError("settings without a _target_ do not say which class they are for")
    require_trust({TARGET: target}, trust)
    found = import_target(target)
    # A trusted package also holds what it has imported, such as `os`: that is not its own code.
    own = f"{getattr(found, '__module__', '')}.{getattr(found, '__qualname__', '')}"
    named_in_full = target in ([trust] if isinstance(trust, str) else trust)
    if inspect.isclass(found) and (named_in_full or _covers(trust, own)):
        return found
    if callable(found) and named_in_full:
        return found
    raise InputError(
        f"{target} is not a class of a trusted package; to call it nevertheless, name it in full: "
        f"trust=[{target}]"
    )


def require_trust(settings: Any, trust: Sequence[str]) -> None:
    """Check that the user has named the targets of these settings that genreclf does not export.

    Raises:
        InputError: some are not named; all of them are listed, by their full names, because a
            package such as torch has more classes than a model needs.
    """
    if unknown := list_untrusted(settings, trust):
        one = len(unknown) == 1
        raise InputError(
            f"{' and '.join(unknown)} {'is' if one else 'are'} not part of genreclf, so "
            f"{'it is' if one else 'they are'} not imported; if you trust the code, add "
            f"trust=[{','.join(unknown)}]"
        )


def list_untrusted(settings: Any, trust: Sequence[str] = ()) -> list[str]:
    """List the code that genreclf does not export and that `trust` does not cover."""
    named = sorted({target for target in list_code(settings) if target})
    return [name for name in named if not _is_ours(name) and not _covers(trust, name)]


def _is_ours(target: str) -> bool:
    return target.rpartition(".")[0] in OURS


def _covers(trust: Sequence[str], name: str) -> bool:
    entries = [trust] if isinstance(trust, str) else trust
    return any(name == entry or name.startswith(f"{entry}.") for entry in entries)


def import_target(target: str) -> Any:
    """Import the longest part of a dotted name that is a module; return the rest's attribute.

    Raises:
        InputError: there is no such module or attribute, or the module's own code fails.
    """
    names = target.split(".")
    try:
        found, rest = import_module(names[0]), names[1:]
    except ImportError as error:
        raise InputError(
            f"{target} cannot be imported ({error}); install its package, or add the folder of its "
            "module to PYTHONPATH"
        ) from None
    except Exception as error:
        raise InputError(_explain_import(target, error)) from error
    for position, name in enumerate(rest, start=1):
        if not hasattr(found, name) and inspect.ismodule(found):
            try:
                import_module(".".join(names[: position + 1]))
            except Exception as error:
                raise InputError(_explain_import(target, error)) from error
        if not hasattr(found, name):
            raise InputError(f"{target} cannot be imported: there is no {name} in {names[0]}")
        found = getattr(found, name)
    return found


def _explain_import(target: str, error: Exception) -> str:
    return f"{target} cannot be imported: {type(error).__name__}: {error}"


def is_own(kind: type) -> bool:
    """Whether a class is not part of genreclf."""
    return kind.__module__.partition(".")[0] != "genreclf"
