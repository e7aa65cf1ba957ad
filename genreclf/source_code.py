"""Finds the source files that a module of the user depends on, without importing anything."""

import ast
import sysconfig
from collections.abc import Collection, Iterator
from functools import lru_cache
from pathlib import Path

SITES = ("site-packages", "dist-packages")  # folders of installed packages
INSTALLED = {Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib")}


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
