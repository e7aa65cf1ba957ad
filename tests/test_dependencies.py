"""The dependencies in pyproject.toml: what is imported is declared, with bounds that work."""

import ast
import functools
import os
import re
import sys
import tomllib
from collections.abc import Iterable, Iterator
from importlib.metadata import packages_distributions, version
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]
REQUIREMENTS: list[str] = [
    *PROJECT["dependencies"],
    *(line for lines in EXTRAS.values() for line in lines if not line.startswith("genreclf[")),
]
FOR_USERS = [
    *PROJECT["dependencies"],
    *(line for name in EXTRAS if name not in ("dev", "docs") for line in EXTRAS[name]),
]
UNIMPORTED = {  # but used
    "alembic": "MLflow's SQLite file; mlflow-skinny does not require it",
    "sqlalchemy": "MLflow's SQLite file; mlflow-skinny does not require it",
    "hydra-joblib-launcher": "hydra/launcher=joblib",
    "hydra-ray-launcher": "hydra/launcher=ray",
    "hydra-submitit-launcher": "hydra/launcher=submitit_slurm",
}
SOURCE = """
import h5py.defs, numpy as np
from scipy import stats
from . import errors
if TYPE_CHECKING:
    import pandas
try:
    from wandb import sdk
except ImportError:
    pass
def draw():
    import matplotlib
    importlib.import_module("optuna.samplers")
find_spec("mlflow")
"""


def find_imports(tree: ast.AST, always: bool = True) -> Iterator[tuple[str, bool]]:
    """Yield each top-level package that is imported, and whether importing the module needs it."""
    names: list[str] = []
    match tree:
        case ast.Import():
            names = [alias.name for alias in tree.names]
        case ast.ImportFrom(module=str(module), level=0):
            names = [module]
        case ast.Call(func=ast.Name(id=called) | ast.Attribute(attr=called)) if called in (
            "import_module",
            "find_spec",
            "importorskip",
        ):
            names = [arg.value for arg in tree.args if isinstance(arg, ast.Constant)]
            always = False
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.Lambda() | ast.Try():
            always = False
        case ast.If(test=ast.Name(id="TYPE_CHECKING")):
            always = False
    for name in names:
        yield str(name).split(".")[0], always
    for child in ast.iter_child_nodes(tree):
        yield from find_imports(child, always)


def find_packages(*folders: str) -> dict[str, bool]:
    """Find what the modules below folders import of others, and whether one always needs it."""
    files = [file for folder in folders for file in sorted((ROOT / folder).rglob("*.py"))]
    own = {"genreclf"}
    if "genreclf" not in folders:  # tests and docs import modules of their own folder
        own |= {name for file in files for name in (file.stem, file.parent.name)}
    found: dict[str, bool] = {}
    for file in files:
        for name, always in find_imports(ast.parse(file.read_text())):
            if name not in own and name not in sys.stdlib_module_names:
                found[name] = found.get(name, False) or always
    return found


def get_name(requirement: str) -> str:
    return re.split(r"[^\w-]", requirement, maxsplit=1)[0].lower()


@functools.cache
def find_owners() -> dict[str, set[str]]:
    """Find the distributions that install each top-level package."""
    return {
        package: {owner.lower().replace("_", "-") for owner in owners}
        for package, owners in packages_distributions().items()
    }


def find_undeclared(packages: Iterable[str], requirements: Iterable[str]) -> list[str]:
    declared = {get_name(requirement) for requirement in requirements}
    return [name for name in packages if declared.isdisjoint(find_owners().get(name, {name}))]


def test_what_genreclf_imports_is_declared_a20() -> None:
    """A20: `pip install genreclf` brings all that a module needs, an extra what a function does."""
    packages = find_packages("genreclf")
    needed = [name for name, always in packages.items() if always]
    assert {"torch", "numpy", "hydra", "lightning_fabric"} <= {*needed}
    assert find_undeclared(needed, PROJECT["dependencies"]) == []
    assert find_undeclared(packages, FOR_USERS) == []


def test_what_tests_and_docs_import_is_declared_a20() -> None:
    """A20: the extra `dev` brings all that the tests, benchmarks and documentation import."""
    written = {"my_features", "coded", "own"}  # by tests
    packages = find_packages("tests", "docs").keys() - written
    assert find_undeclared(packages, REQUIREMENTS) == []


def test_what_is_declared_is_used_a20() -> None:
    """A20: a dependency is imported, or its use is stated here."""
    used = {
        owner for package in find_packages("genreclf") for owner in find_owners().get(package, ())
    }
    assert {get_name(line) for line in FOR_USERS} - used == UNIMPORTED.keys()


def test_each_way_of_importing_is_found() -> None:
    always = {"h5py", "numpy", "scipy"}
    sometimes = {"pandas", "wandb", "matplotlib", "optuna", "mlflow"}
    found = {*find_imports(ast.parse(SOURCE))}
    assert found == {(name, True) for name in always} | {(name, False) for name in sometimes}


def test_each_requirement_has_a_lower_bound_a20() -> None:
    """A20: `make test-lowest` finds the lowest versions by their `>=`."""
    assert [line for line in REQUIREMENTS if not re.match(r"[\w-]+(\[\w+\])?>=[\d.]+", line)] == []


@pytest.mark.skipif("LOWEST" not in os.environ, reason="for make test-lowest")
def test_the_lowest_versions_are_installed_a20() -> None:
    """A20: what `make test-lowest` tests is what pyproject.toml declares."""
    for line in REQUIREMENTS:
        bound = re.search(r">=([\d.]+)", line)
        assert bound is not None
        installed = version(get_name(line)).split("+")[0]
        assert re.sub(r"(\.0)+$", "", installed) == re.sub(r"(\.0)+$", "", bound[1]), line
