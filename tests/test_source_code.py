"""The user's code that a part depends on is found without being imported."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from genreclf.source_code import identify_code, list_sources

FILES = {
    "own/__init__.py": "from own import unrelated\nWIDTH = 4\n",
    "own/unrelated.py": "",
    "own/net.py": (
        "import json, helper\nfrom . import layers\nfrom .deep.blocks import *\n"
        "import torch\nfrom genreclf.models import SVM\n"
        "class Net:\n    def forward(self):\n        from own.late import x\n"
    ),
    "own/layers.py": "from . import net\nSCALE = 1.0\n",
    "own/late.py": "from .. import nothing\nx = 1\n",
    "own/sized.py": "from own import WIDTH\nclass Sized:\n    pass\n",
    "own/versioned.py": "from own import layers\nclass Versioned:\n    version = 1\n",
    "own/deep/__init__.py": "",
    "own/deep/blocks.py": "from ..shared import y\n",
    "own/shared.py": "y = 1\n",
    "helper.py": "import genreclf\n",
    "other.py": "",
    "genreclf/__init__.py": "",
}


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Writes the files above; what is imported of them is forgotten at the end."""
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    yield tmp_path
    for name in [each for each in sys.modules if each.partition(".")[0] in ("own", "helper")]:
        del sys.modules[name]


def test_imports_are_followed_through_the_package_and_its_folder(folder: Path) -> None:
    found = list_sources("own.net", folder / "own" / "net.py", ["genreclf"])
    names = ["helper", "own.deep.blocks", "own.late", "own.layers", "own.net", "own.shared"]
    assert sorted(found) == names
    assert found["own.shared"] == folder / "own" / "shared.py"


def test_of_an_installed_package_only_its_own_modules_count(folder: Path) -> None:
    """The folder that holds it is that of all packages."""
    site = folder.rename(folder.with_name("site-packages"))
    found = list_sources("own.net", site / "own" / "net.py", ["genreclf"])
    assert sorted(found) == [
        *("own.deep.blocks", "own.late", "own.layers", "own.net", "own.shared")
    ]
    site.rename(folder)


def test_names_from_the_package_itself_come_from_its_init_file(folder: Path) -> None:
    found = list_sources("own.sized", folder / "own" / "sized.py")
    assert sorted(found) == ["own", "own.sized", "own.unrelated"]


@pytest.mark.parametrize(
    ("target", "edited", "differs"),
    [
        ("net.Net", "own/layers.py", True),
        ("net.Net", "helper.py", True),
        ("net.Net", "own/deep/blocks.py", True),
        ("net.Net", "own/net.py", True),
        ("net.Net", "own/unrelated.py", False),
        ("net.Net", "other.py", False),
        ("sized.Sized", "own/__init__.py", True),
        ("versioned.Versioned", "own/layers.py", False),
    ],
)
def test_edited_code_that_a_class_imports_is_other_code(
    folder: Path, monkeypatch: pytest.MonkeyPatch, target: str, edited: str, differs: bool
) -> None:
    """A finished run is not reused after an edit of a module that its model imports."""
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    module, _, name = target.partition(".")

    def identify() -> Any:
        return identify_code(getattr(importlib.import_module(f"own.{module}"), name))

    before = identify()
    importlib.import_module("own.unrelated")  # what else was imported does not count
    assert identify() == before
    (folder / edited).write_text((folder / edited).read_text() + "# edited\n")
    assert (identify() != before) == differs
