"""The user's code that a checkpoint was trained with: recorded, and compared when it is loaded.

It is looked at only after the model has been built, so nothing is imported that is not trusted.
"""

from collections.abc import Mapping
from typing import Any

from genreclf.errors import InputError
from genreclf.source_code import identify_code
from genreclf.trust import import_target, list_own_targets


def identify_own_code(model: Mapping[str, Any], features: Mapping[str, Any]) -> dict[str, str]:
    """Identify the user's code that model and features name in their settings, by `_target_`.

    Code whose source is not known is left out.
    """
    found: dict[str, str] = {}
    for target in list_own_targets([model, features]):
        try:
            found[target] = str(identify_code(import_target(target)))
        except (InputError, AttributeError):
            continue
    return found


def list_changed_code(described: Mapping[str, Any]) -> list[str]:
    """List the targets whose code is another one than when the checkpoint was written.

    Args:
        described: what the checkpoint says of the model; checkpoints of earlier versions do not
            say which code it had.
    """
    then = described.get("code") or {}
    if not then:
        return []
    now = identify_own_code(described["model"], described["features"])
    return [target for target, code in now.items() if then.get(target, code) != code]
