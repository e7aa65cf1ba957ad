"""The documentation agrees with the code, and builds without a warning."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from markdown import ROOT

CONF = ROOT / "conf"


def read_messages() -> str:
    """All texts in the source, with ... where a value is filled in, a line each."""
    texts = []
    for file in sorted((ROOT / "genreclf").rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.JoinedStr):
                parts = [p.value if isinstance(p, ast.Constant) else "..." for p in node.values]
                texts.append("".join(map(str, parts)))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.append(node.value)
    return "\n".join(texts)


def test_troubleshooting_quotes_messages_that_exist() -> None:
    page = (ROOT / "docs" / "troubleshooting.md").read_text()
    quoted = re.findall(r"^### `(.+)`$", page, re.MULTILINE)
    messages = read_messages()
    assert len(quoted) > 20
    missing = [
        text for text in quoted for part in text.split("...") if part.strip() not in messages
    ]
    assert not missing


def test_the_configuration_page_has_every_option_and_key() -> None:
    pytest.importorskip("sphinx")
    sys.path.insert(0, str(ROOT / "docs"))
    try:
        import generate
    finally:
        sys.path.pop(0)
    page = generate.describe_configuration()
    for file in CONF.glob("*/*.yaml"):
        assert f"### `{file.parent.name}={file.stem}`" in page, file
    for name in ("config", "evaluate", "export"):
        keys = set(yaml.safe_load((CONF / f"{name}.yaml").read_text())) - {"defaults", "hydra"}
        assert not [key for key in keys if f"| `{key}" not in page]
    assert "| `model.cnn_dropout` | `0.3` |" in page
    assert "| `data.root` | `???` |" in page


@pytest.mark.slow
def test_the_documentation_builds_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("sphinx")
    command = [sys.executable, "-m", "sphinx", "--fail-on-warning", "--keep-going", "--quiet"]
    done = subprocess.run(
        [*command, "-d", str(tmp_path / "trees"), str(ROOT / "docs"), str(tmp_path / "html")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "cnn_dropout" in (tmp_path / "html" / "reference" / "configuration.html").read_text()
