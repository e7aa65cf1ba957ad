"""Reference pages made from the code at build time, as three Sphinx directives.

`command-line` prints the help of every command, `configuration` lists every option of `conf/`, and
`public-api` documents what `import genreclf` and each of its packages export.
"""

import importlib
import inspect
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.ext.napoleon import Config, GoogleDocstring
from sphinx.util.docutils import SphinxDirective

import genreclf
from genreclf.__main__ import COMMANDS

CONF = Path(genreclf.__file__).parent / "conf"
PACKAGES = ("audio", "data", "models", "training", "evaluation")


@dataclass(frozen=True)
class Setting:
    """One key of a YAML file: its default, and the comment after it."""

    key: str
    default: str
    comment: str


def describe_commands() -> str:
    """Markdown: for each command what it does, an example, and its help."""
    with ThreadPoolExecutor(2) as pool:
        helps = dict(zip(COMMANDS, pool.map(_read_help, COMMANDS), strict=True))
    return "\n".join(
        f"## genreclf {name}\n\n{command.summary[:1].upper()}{command.summary[1:]}.\n\n"
        f"```bash\n{_unindent(command.example)}\n```\n\n"
        f"```text\n{helps[name]}\n```\n"
        for name, command in COMMANDS.items()
    )


def _read_help(name: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "genreclf", name, "--help"],
        check=True,
        capture_output=True,
        text=True,
    )
    title = done.stdout.split("\n\n", 2)  # the summary and the example, which the page has already
    return title[2].strip()


def _unindent(text: str) -> str:
    return "\n".join(line.strip() for line in text.splitlines())


def describe_configuration() -> str:
    """Markdown: the settings of each command, then each group with its options."""
    files = sorted(
        CONF.glob("*.yaml"), key=lambda file: (file.stem not in ("base", "config"), file)
    )
    groups = sorted({file.parent for file in CONF.glob("*/*.yaml")})
    parts = ["## Settings by command\n"]
    parts += [_describe_file(file, _name_command(file.stem)) for file in files]
    for group in groups:
        parts.append(f"## {group.name}\n")
        parts += [
            _describe_file(file, f"`{group.name}={file.stem}`")
            for file in sorted(group.glob("*.yaml"))
        ]
    return "\n".join(parts)


def _name_command(stem: str) -> str:
    if stem == "base":
        return "Every command"
    return f"`genreclf {'train' if stem == 'config' else stem}`"


def _describe_file(file: Path, title: str) -> str:
    """The opening comment, what the option builds, and a table of its keys."""
    comments = [line.removeprefix("# ") for line in _take_comments(file.read_text())]
    whole = file.parent == CONF or "@package _global_" in comments  # keys without a group's name
    header = " ".join(line for line in comments if not line.startswith("@package"))
    header = header.removeprefix(f"genreclf {file.stem}:").strip()
    settings = list(_read_settings(file))
    target = next((s.default for s in settings if s.key == "_target_"), _find_target(file))
    documented = _read_arguments(target)
    lines = [f"### {title}\n"]
    if not header.startswith("genreclf "):
        lines.append(f"{_escape(header[:1].upper() + header[1:])}\n")
    if chosen := _list_choices(file):
        lines.append(f"Groups: {', '.join(f'`{choice}`' for choice in chosen)}.\n")
    if parents := _list_parents(file):
        lines.append(f"Starts from {', '.join(f'`{parent}`' for parent in parents)}.\n")
    if target:
        lines.append(f"Builds `{target}`.\n")
    rows = [
        (setting.key, setting.default, setting.comment or documented.get(setting.key, ""))
        for setting in settings
        if "_target_" not in setting.key and "_partial_" not in setting.key
    ]
    if target.startswith("genreclf."):
        known = {setting.key for setting in settings} | set(_inherit(file))
        rows += [
            (f"+{key}", default, documented.get(key, ""))
            for key, default in _read_signature(target)
            if key not in known and key in documented
        ]
    if rows:
        prefix = "" if whole else f"{file.parent.name}."
        lines += ["| key | default | what it is |", "| --- | --- | --- |"]
        lines += [
            f"| `{'+' * key.startswith('+')}{prefix}{key.lstrip('+')}` "
            f"| {f'`{default}`' if default else ''} | {_escape(comment)} |"
            for key, default, comment in rows
        ]
    return "\n".join([*lines, ""])


def _list_choices(file: Path) -> list[str]:
    """The groups that a command or an experiment chooses from, with the options it chooses."""
    defaults = (yaml.safe_load(file.read_text()) or {}).get("defaults", [])
    pairs = [next(iter(entry.items())) for entry in defaults if isinstance(entry, dict)]
    return [f"{group.removeprefix('override /')}={option or 'null'}" for group, option in pairs]


def _take_comments(text: str) -> Iterator[str]:
    for line in text.splitlines():
        if not line.startswith("#"):
            return
        yield line


def _read_settings(file: Path) -> Iterator[Setting]:
    """The keys of a YAML file, nested ones as `a.b`; lists count as one value."""
    text = file.read_text()
    root = yaml.compose(text)
    if isinstance(root, yaml.MappingNode):
        yield from _walk(root, text, text.splitlines(), "")


def _walk(mapping: yaml.MappingNode, text: str, lines: list[str], prefix: str) -> Iterator[Setting]:
    for key, value in mapping.value:
        name = f"{prefix}{key.value}"
        if name in ("defaults", "hydra") or (prefix and name.startswith("hydra")):
            if name == "hydra":
                yield from _read_sweep(value)
            continue
        comment = re.search(r"\s#\s+(.*)$", lines[key.start_mark.line])
        said = comment[1] if comment else ""
        if isinstance(value, yaml.MappingNode) and value.value and not value.flow_style:
            if value.value[0][0].style:  # quoted keys are data, not settings
                yield Setting(name, "...", said)
                continue
            if said:
                yield Setting(name, "", said)
            yield from _walk(value, text, lines, f"{name}.")
        else:
            default = text[value.start_mark.index : value.end_mark.index]
            default = " ".join(re.sub(r"\s#\s.*", "", default).split())
            yield Setting(name, default if len(default) <= 60 else default[:57] + "...", said)


def _read_sweep(hydra: yaml.Node) -> Iterator[Setting]:
    """What a phase varies."""
    parameters = yaml.safe_load(yaml.serialize(hydra)).get("sweeper", {}).get("params", {})
    for key, values in parameters.items():
        yield Setting(key, str(values), "varied")


def _list_parents(file: Path) -> list[str]:
    """The options of the same group that a file's defaults list names."""
    defaults = (yaml.safe_load(file.read_text()) or {}).get("defaults", [])
    if file.parent == CONF:
        return []
    named = [entry.partition("@")[0] for entry in defaults if isinstance(entry, str)]
    return [f"{file.parent.name}={name}" for name in named if name != "_self_"]


def _inherit(file: Path) -> Iterator[str]:
    for parent in _list_parents(file):
        other = file.with_name(parent.partition("=")[2] + ".yaml")
        yield from (setting.key for setting in _read_settings(other))
        yield from _inherit(other)


def _find_target(file: Path) -> str:
    """The `_target_` that a file takes from one it starts from."""
    for parent in _list_parents(file):
        other = file.with_name(parent.partition("=")[2] + ".yaml")
        own = next((s.default for s in _read_settings(other) if s.key == "_target_"), "")
        if found := own or _find_target(other):
            return found
    return ""


def _locate(target: str) -> Any:
    module, _, name = target.rpartition(".")
    return getattr(importlib.import_module(module), name)


def _read_signature(target: str) -> list[tuple[str, str]]:
    """(name, default) of the parameters that have a default."""
    parameters = inspect.signature(_locate(target)).parameters.values()
    return [(p.name, str(p.default)) for p in parameters if p.default is not p.empty]


def _read_arguments(target: str) -> dict[str, str]:
    """What the docstring says of each argument."""
    if not target.startswith("genreclf."):
        return {}
    docstring = inspect.getdoc(_locate(target)) or ""
    lines = str(GoogleDocstring(docstring, Config(napoleon_use_param=True))).splitlines()
    said: dict[str, str] = {}
    name = ""
    for line in lines:
        if found := re.match(r":param (\w+): ?(.*)", line):
            name = found[1]
            said[name] = found[2]
        elif name and line.startswith(" "):
            said[name] += " " + line.strip()
        else:
            name = ""
    return {key: text.replace("``", "`") for key, text in said.items()}


def _escape(text: str) -> str:
    """Keep what Markdown would take for a tag, a table or emphasis as it is."""
    for character in "\\<>|*_[]{}":
        if "`" in text:
            break
        text = text.replace(character, f"\\{character}")
    return text.replace("|", "\\|") if "`" in text else text


def describe_api() -> str:
    """ReStructuredText: autodoc of the public names, then of what each package exports."""
    lines = []
    public = [name for name in genreclf.__all__ if callable(getattr(genreclf, name))]
    for name in public:
        lines += _document(f"genreclf.{name}", getattr(genreclf, name))
    for package in PACKAGES:
        title = f"genreclf.{package}"
        module = importlib.import_module(title)
        doc = (inspect.getdoc(module) or "").partition("\n")[0]
        lines += [title, "-" * len(title), "", doc, ""]
        for name in sorted(module.__all__):
            value = getattr(module, name)
            if callable(value) and not any(value is getattr(genreclf, other) for other in public):
                lines += _document(f"{title}.{name}", value)
    return "\n".join(lines)


def _document(name: str, value: Any) -> list[str]:
    if inspect.isclass(value):
        return [f".. autoclass:: {name}", "   :members:", ""]
    return [f".. autofunction:: {name}", ""]


def _make_directive(describe: Callable[[], str], restructured: bool = False) -> type:
    """A directive without arguments that puts what `describe` writes into the page."""

    class Generated(SphinxDirective):
        def run(self) -> list[nodes.Node]:
            text = describe()
            if restructured:
                text = f"```{{eval-rst}}\n{text}\n```"
            return self.parse_text_to_nodes(text, allow_section_headings=True)

    return Generated


def _add_title(app: Sphinx, page: str, source: list[str]) -> None:
    """Tables of `genreclf summary` have no title of their own; the site needs one."""
    if page.startswith("results/") and not source[0].startswith("# "):
        name = page.partition("/")[2].replace("_", " ")
        source[0] = f"# {name[:1].upper()}{name[1:]}\n\n{source[0]}"


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directives."""
    app.add_directive("command-line", _make_directive(describe_commands))
    app.add_directive("configuration", _make_directive(describe_configuration))
    app.add_directive("public-api", _make_directive(describe_api, restructured=True))
    app.connect("source-read", _add_title)
    return {"parallel_read_safe": True}
