"""Builds parts whose class a file names, if the user trusts its package."""

import importlib
from collections.abc import Sequence
from typing import Any

from genreclf.errors import InputError


def build_part(settings: dict[str, Any], trust: Sequence[str] = (), **arguments: Any) -> Any:
    """Build the object that settings with a `_target_` describe.

    Args:
        settings: arguments, and `_target_`, such as "package.Class".
        trust: packages whose code may be imported.
        arguments: more arguments.

    Raises:
        InputError: the target's package is not trusted, or there is no such class.
    """
    given = dict(settings)
    target = str(given.pop("_target_", ""))
    module, _, name = target.rpartition(".")
    package = module.partition(".")[0]
    if package not in trust:
        raise InputError(
            f"{target or '(without a name)'} is code from outside genreclf, which is not imported "
            f"unless you trust it: trust=[{package}]"
        )
    try:
        return getattr(importlib.import_module(module), name)(**given, **arguments)
    except (ImportError, AttributeError, TypeError) as error:
        raise InputError(f"{target}: {error}") from None
