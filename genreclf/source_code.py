"""Identifies the user's own code, by its version or by the source files that it depends on."""

import ast
import inspect
import sys
import sysconfig
from collections.abc import Collection, Iterator
from functools import lru_cache
from hashlib import sha1
from pathlib import Path
from typing import Any

from genreclf.errors import InputError

LIBRARIES = ("genreclf", "torch", "torchmetrics", "pytorch_lightning")  # not the user's own code
SITES = ("site-packages", "dist-packages")  # folders of installed packages
INSTALLED = {Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib")}


def identify_code(kind: Any) -> Any:
    """Identify the code of a class or function that is not part of genreclf.

    Returns:
        Its `version`, if it or a base class outside genreclf declares one. Otherwise a digest of
        the source files of the class, of its bases in the same package, and of the modules of the
        user that these import (`list_sources`), so that results of code that has changed since are
        not taken for its own.

    Raises:
        InputError: neither a version nor a source file exists.
    """
    bases = [each for each in getattr(kind, "__mro__", [kind]) if each is not object]
    own = [each for each in bases if each.__module__.partition(".")[0] not in LIBRARIES]
    for each in own:
        if "version" in getattr(each, "__dict__", {}):
            return each.version
    package = kind.__module__.partition(".")[0]
    modules = {each.__module__ for each in own if each.__module__.partition(".")[0] == package}
    sources: dict[str, Path] = {}
    try:
        for name in modules:
            file = Path(str(inspect.getsourcefile(sys.modules[name])))
            sources |= list_sources(name, file, LIBRARIES)
        digest = sha1(b"".join(sources[name].read_bytes() for name in sorted(sources)))
    except (TypeError, OSError):
        raise InputError(
            f"{kind.__module__}.{kind.__qualname__}: no source file, so a change of the code "
            "would go unnoticed; give it an attribute version = 1"
        ) from None
    return f"source {digest.hexdigest()}"


def list_sources(module: str, file: Path, excluded: Collection[str] = ()) -> dict[str, Path]:
    """List the source files of a module and of what it imports, directly or not, from its own code.

    That is its package and, if this is not installed, the other modules in the folder that holds
    it. Import statements are read, wherever they are in a file. A module that is imported under a
    name which is only computed is not found.

    Args:
        module: full name of the module.
        file: its source file.
        excluded: packages that are not the user's own, wherever they are.

    Returns:
        The files, by full name of the module.
    """
    depth = module.count(".") + (file.name == "__init__.py")
    root, top = file.parents[depth], module.partition(".")[0]
    installed = root.name in SITES or root in INSTALLED

    def find(name: str) -> Path | None:
        first = name.partition(".")[0]
        if first in excluded or (installed and first != top):
            return None
        place = root.joinpath(*name.split("."))
        candidates = (place / "__init__.py", place.with_name(f"{place.name}.py"))
        return next((each for each in candidates if each.is_file()), None)

    found, waiting = {module: file}, [module]
    while waiting:
        name = waiting.pop()
        is_package = found[name].name == "__init__.py"
        package = name if is_package else name.rpartition(".")[0]
        for alternatives in _list_imports(found[name].read_bytes(), package):
            for each in alternatives:
                if each not in found and (place := find(each)):
                    found[each] = place
                    waiting.append(each)
                if each in found:
                    break
    return found


@lru_cache(maxsize=1024)
def _list_imports(source: bytes, package: str) -> list[tuple[str, ...]]:
    """List what a module of a package imports: for each name, the modules that it can be in."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):  # not Python, or of another version
        return []
    return [found for node in ast.walk(tree) for found in _read_import(node, package)]


def _read_import(node: ast.AST, package: str) -> Iterator[tuple[str, ...]]:
    if isinstance(node, ast.Import):
        yield from ((alias.name,) for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        parents = package.split(".")[: len(package.split(".")) - node.level + 1]
        base = ".".join([*(parents if node.level else ()), *([node.module] if node.module else ())])
        if base:  # empty: beyond the outermost package, which Python refuses
            yield from ((f"{base}.{alias.name}", base) for alias in node.names)
