"""Any path is taken as it is typed, in every key of every command that holds one (B2, C1)."""

import inspect
import json
import os
import re
import shutil
import subprocess
import sys
import unicodedata
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import hydra
import pytest
import yaml
from conftest import TINY
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf, open_dict

from genreclf.__main__ import COMMANDS
from genreclf.commands.config_types import PATH, PATHS, check_types, find_kinds
from genreclf.commands.path_overrides import find_annotated_kinds, quote_path, quote_paths
from genreclf.data.store import Store
from genreclf.errors import InputError
from genreclf.trust import import_target

CONF = Path(__file__).parents[2] / "conf"
NAMES = [  # as people, other systems and Hydra's grammar have them
    *("with space", "Jürgen", "日本", "Re:Zero", "Don't stop (live)", 'a "quoted" one', "a,b"),
    *("Rock & Roll", "#1 hits", "a=b", "[live]", "(live)", "cash$", "$HOME", "back\\slash"),
    *("end\\", "~tilde", "caf\udce9", "line\nbreak", "a;b|c<d>`e`!^%", " blanks ", "\u3000"),
    *("-x", "+a", "~", "choice(a,b)", "range(3)", "tag(a)", "glob(*)", "{a:1}", "null", "true"),
    *("1e3", "???", "1980", "'single'", '"double"', "what?*", "nan", "x" * 200, "a, b"),
    unicodedata.normalize("NFD", "Müsik"),
]
HYDRA = {name: command.config for name, command in COMMANDS.items() if command.config}


def list_options() -> Iterator[tuple[str, dict[str, Any]]]:
    """List the options of all groups, as (group, content of the file)."""
    for file in sorted(CONF.glob("*/*.yaml")):
        yield file.parent.name, yaml.safe_load(file.read_text(encoding="utf-8")) or {}


def list_annotated() -> set[str]:
    """List the keys of arguments that are annotated as paths in the classes that options name."""
    keys = set()
    for group, option in list_options():
        if "_target_" not in option:
            continue
        arguments = inspect.signature(import_target(option["_target_"])).parameters
        for name, parameter in arguments.items():
            if find_annotated_kinds(parameter.annotation):
                keys.add(f"{group}.{name}")
    return keys - {"logger.save_dir", "trainer.default_root_dir"}  # which genreclf sets itself


@cache
def list_path_keys(config_name: str) -> list[str]:
    """List the keys of a command that hold paths, those of its groups' options included."""
    with hydra.initialize_config_module("genreclf.conf", version_base="1.3"):
        config: Any = OmegaConf.to_container(hydra.compose(config_name))
    keys = [key for key in config if not isinstance(config[key], dict)]
    for group, option in list_options():
        if group in config or group == "distillation":
            keys += [f"{group}.{key}" for key in option]
    return sorted({key for key in keys if {PATH, PATHS} & {*find_kinds(key, None)}})


def test_the_schema_knows_all_paths_b2() -> None:
    """B2: what a class takes as a path, or a comment calls a file or a folder, is one to Hydra."""
    annotated = list_annotated()
    assert {"data.root", "data.path", "data.lists", "distillation.path"} <= annotated
    for key in annotated:
        assert {PATH, PATHS} & {*find_kinds(key, None)}, key
    for file in sorted(CONF.glob("*.yaml")):
        for line in file.read_text(encoding="utf-8").splitlines():
            found = re.match(r"(\w+): (?:null|\?\?\?|\S*outputs\S*) +# (.*)", line)
            if found and re.search(r"\b(file|folder|archive)s?\b|\.svg|\.ckpt", found[2]):
                assert {PATH, PATHS} & {*find_kinds(found[1], None)}, line


def read(argument: str) -> Any:
    """Read what Hydra makes of an override: one value, not a sweep."""
    override = OverridesParser.create().parse_override(argument)
    assert not override.is_sweep_override(), argument
    value = override.value()
    return value[0] if isinstance(value, list) else value


@pytest.mark.parametrize("name", NAMES)
def test_an_existing_path_is_taken_as_typed_b2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """B2: Hydra rejects such names, or makes lists, numbers and sweeps of them."""
    monkeypatch.chdir(tmp_path)
    Path(name).mkdir()
    keys = sorted({key for config in HYDRA.values() for key in list_path_keys(config)})
    assert {"data.root", "outputs", "checkpoint", "clip", "runs", "page", "store"} <= {*keys}
    typed = [f"./{name}", str(tmp_path / name), f"{tmp_path / name}/"]
    arguments = [f"{key}={name}" for key in keys if name != "~"]  # which is the home folder
    arguments += [f"+data.root={text}" for text in typed]
    quoted = quote_paths(arguments, "config")
    assert all(Path(str(read(text))).samefile(name) for text in quoted)
    assert quote_paths(quoted, "config") == quoted  # as a study types them again


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("null", "range(3)", "~")])
def test_a_path_to_be_made_is_taken_as_typed_b2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """B2: a folder of results need not exist. null stays null; choice and range are sweeps."""
    monkeypatch.chdir(tmp_path)
    if name.startswith(("choice", "glob", "range", "tag")):
        name = f"my {name}"
    (quoted,) = quote_paths([f"outputs={name}"], "config")
    assert str(read(quoted)) == name


@pytest.mark.parametrize("config", sorted({*HYDRA.values()}))
def test_each_command_has_the_path_in_its_config_b2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, config: str
) -> None:
    """B2: through Hydra itself, every key of every command that holds a path."""
    monkeypatch.chdir(tmp_path)
    names = ["Don't, R&B #1 = [日本] {a:1} (x) $y\\", "caf\udce9\n~"]
    for name in names:
        Path(name).mkdir()
    tried = list_keys_to_try(config)
    with hydra.initialize_config_module("genreclf.conf", version_base="1.3"):
        for key, option in tried:
            for name in names:
                arguments = quote_paths([*option, f"{key}={name}"], config)
                found = OmegaConf.select(hydra.compose(config, arguments), key)
                assert (found[0] if OmegaConf.is_list(found) else found) == name


@pytest.mark.parametrize("config", sorted({*HYDRA.values()}))
def test_a_path_is_neither_empty_nor_a_pipe_in_any_key_of_any_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, config: str
) -> None:
    """An empty path stood for the current folder; reading a named pipe never ended (C6)."""
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe")
    tried = list_keys_to_try(config)
    with hydra.initialize_config_module("genreclf.conf", version_base="1.3"):
        for key, option in tried:
            for value, reason in (("", "the path is empty"), ("pipe", "a named pipe, not a file")):
                several = PATH not in find_kinds(key, None)
                typed = f"{key}=['{value}']" if several else f"{key}={value}"
                arguments = quote_paths([*option, typed], config)
                composed = hydra.compose(config, arguments, return_hydra_config=True)
                HydraConfig.instance().set_config(composed)
                with open_dict(composed):
                    settings = composed.pop("hydra")
                with pytest.raises(InputError) as error:
                    check_types(composed, settings)
                assert f"{key}={value}: {reason}" in str(error.value)


def list_keys_to_try(config: str) -> list[tuple[str, list[str]]]:
    """List the keys of a command that hold paths, each with the option that has it."""
    options = {"data.root": "data=folder", "data.path": "data=table", "data.lists": "data=gtzan"}
    options |= {"features.checkpoint": "features=embedding", "features.model": "features=onnx"}
    keys = [key for key in list_path_keys(config) if not key.startswith("distillation.")]
    if config == "spectrogram":  # its data are only a duration
        keys = [key for key in keys if not key.startswith("data.")]
    found = [(key, [options[key]] if key in options else []) for key in keys]
    if config in ("config", "prepare", "study"):
        taught = ("distillation.path", "distillation.runs")
        found += [(key, ["distillation=embeddings"]) for key in taught]
    return found


def test_patterns_lists_and_sweeps_b2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """B2: after an existing path comes a pattern, then Hydra's grammar; choice(...) is a sweep."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("a b", "c,d", "R&B", "one", "two", "~three"):
        Path(name).mkdir()
    for typed, quoted in (
        ("data.root=choice(a b,c,d,R&B)", "data.root=choice('a b','c,d','R&B')"),
        ("runs=[a b, c,d]", "runs=['a b','c,d']"),
        ("runs=[one,'a b']", "runs=['one','a b']"),
        ("runs=R*", "runs=R*"),
        ("runs=a ?", "runs=a ?"),
        ("distillation.runs=R&B", "distillation.runs=['R&B']"),
        ("distillation.runs=[]", "distillation.runs=[]"),
        ("data.root=~/R&B", f"data.root='{tmp_path}/R&B'"),
        ("data.root=~three", f"data.root='{tmp_path}/~three'"),
        ("outputs=~/new (1)", f"outputs='{tmp_path}/new (1)'"),
        ("data.root=${outputs}/a", "data.root=${outputs}/a"),
        ("store=null", "store=null"),
        ("data.root='a b'", "data.root='a b'"),
        (r"data.root=c\,d", r"data.root=c\,d"),
        ("seed=0,1", "seed=0,1"),
        ("title=~/x", f"title={tmp_path}/x"),
    ):
        assert quote_paths([typed], "config") == [quoted]
    for typed, message in (
        ("data.root=one,two", "for a sweep over paths, type 'data.root=choice(one,two)'"),
        ("data.root=choice(one,n#ne)", "some of these paths do not exist"),
    ):
        with pytest.raises(InputError) as error:
            quote_paths([typed], "config")
        assert message in str(error.value)


def test_a_path_with_an_interpolation_is_one_line_b2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """B2: ${x} is replaced wherever a config is read, so such a path is refused by name."""
    monkeypatch.chdir(tmp_path)
    Path("my ${x}").mkdir()
    with pytest.raises(InputError, match=r"^data.root=my \$\{x\}: the \$\{ in this path .* rename"):
        quote_path("data.root", "my ${x}", {PATH})


def test_paths_of_a_class_of_your_own_b2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """B2: an argument that is annotated as a path is one, whatever it is called."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("PYTHONPATH", os.environ.get("PYTHONPATH", ""))
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "mine.yaml").write_text("_target_: pathy.Mine\nplace: ???\nword: a\n")
    (tmp_path / "pathy.py").write_text(
        "from pathlib import Path\nclass Mine:\n"
        "    def __init__(self, place: str | Path, word: str = ''): pass\n"
    )
    given = ["--config-dir", str(tmp_path), "data=mine", "data.place=a, #1", "data.word=[b]"]
    assert quote_paths(given, "config") == [*given[:3], "data.place='a, #1'", "data.word=[b]"]
    assert find_annotated_kinds(Path) == {PATH}
    assert find_annotated_kinds(list[Path]) == {PATHS}
    assert find_annotated_kinds(str) == set()


NASTY = "Don't, R&B #1 = [日本] {a,b} (ü) $y"


@pytest.fixture
def nasty(music: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The music under a name that everything but the file system refuses; with odd clips."""
    place = tmp_path / NASTY
    place.symlink_to(music)
    monkeypatch.chdir(tmp_path)
    return place


@pytest.mark.slow
def test_commands_work_with_such_paths_b2(
    command: Callable[..., str], nasty: Path, tmp_path: Path
) -> None:
    """B2: from the folder of music to the report, all under such names, typed as they are."""
    outputs = f"outputs={tmp_path / 'Ergebnisse, #2'}"
    small = ["data=folder", f"data.root={NASTY}", "data.duration=2.5", *TINY]
    store = command("prepare", *small, outputs, f"store={NASTY}.h5")
    assert store == f"{NASTY}.h5"
    trained = [
        "test=false",
        "model=efficient_cnn",
        "trainer.max_epochs=1",
        *small,
        f"store={NASTY}.h5",
        outputs,
    ]
    result = Path(command("train", *trained))
    assert result.parents[2] == tmp_path / "Ergebnisse, #2"
    recorded = json.loads(result.read_text())["config"]
    assert recorded["data"]["root"] == NASTY
    assert yaml.safe_load((result.parent / "config.yaml").read_text())["data"]["root"] == NASTY
    assert Path(command("train", *trained)) == result  # it is reused
    model = tmp_path / "model (1), 'best' #1"
    command("export", f"checkpoint={result.parent}", f"folder={model}", outputs)
    found = command("evaluate", f"checkpoint={model}", *small[:3], outputs)
    assert Path(found).is_file()
    clip = shutil.copy(next(iter(nasty.rglob("*.mp3"))), tmp_path / "???: a, b.mp3")
    arguments = [f"checkpoint={model}", "file=a & b.svg", outputs]
    assert command("spectrogram", f"clip={clip}", *arguments) == "a & b.svg"
    page = command("report", f"runs={tmp_path / 'Ergebnisse, #2'}", "page=[my] page.html", outputs)
    assert page == "[my] page.html"
    command("summary", f"runs=[{tmp_path / 'Ergebnisse, #2'}]", "file=a;b.csv", outputs)
    assert Path("a;b.csv").is_file()
    assert Path(command("report", "runs=Erg*/train", outputs)).is_file()


@pytest.mark.slow
@pytest.mark.parametrize("name", [NASTY, "caf\udce9\nline:~=,'\"$x"])
@pytest.mark.parametrize("launcher", ["basic", "packed", "joblib"])
def test_a_sweep_keeps_such_paths_b2(
    command: Callable[..., str], nasty: Path, tmp_path: Path, launcher: str, name: str
) -> None:
    """B2: Hydra writes the overrides of each job again, and a launcher hands them on."""
    if launcher == "joblib":
        pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    nasty.rename(name)
    small = ["data=folder", f"data.root={name}", "data.duration=2.5", *TINY]
    trained = ["model=efficient_cnn", "trainer.max_epochs=1", f"outputs={tmp_path / 'a, b #1'}"]
    command("train", "-m", f"hydra/launcher={launcher}", *small, *trained, "seed=1,2")
    results = sorted((tmp_path / "a, b #1" / "train").glob("*/result.json"))
    recorded = [json.loads(path.read_text()) for path in results]
    assert [each["config"]["data"]["root"] for each in recorded] == [name, name]
    assert sorted(each["config"]["seed"] for each in recorded) == [1, 2]


@pytest.fixture
def foreign(music: Path, tmp_path: Path) -> Path:
    """Music under names that are not UTF-8, or that no Western encoding has."""
    root = tmp_path / os.fsdecode(b"Mus\xe9e")
    shutil.copytree(music, root)
    (root / ".genreclf").unlink()
    genre = sorted(path for path in root.iterdir() if path.is_dir())[0]
    first, second, third, *_ = sorted(genre.iterdir())
    first.rename(genre / "日本.mp3")
    second.rename(genre / os.fsdecode(b"caf\xe9.mp3"))
    third.rename(genre / "${x}.mp3")
    genre.rename(root / os.fsdecode(b"chans\xf6n"))
    return root


@pytest.mark.slow
def test_names_that_are_not_utf8_are_stored_and_reported_c1(
    command: Callable[..., str], foreign: Path, tmp_path: Path
) -> None:
    """C1: such names ended prepare, train and the report with a traceback."""
    small = ["data=folder", f"data.root={foreign}", "data.duration=2.5", *TINY, "report=true"]
    store = Store(command("prepare", *small))
    assert all(Path(path).is_file() for path in store.paths)
    assert {"chansön/café.mp3", "chansön/日本.mp3"} <= {*store.track_ids}
    result = Path(command("train", "model=efficient_cnn", "trainer.max_epochs=1", *small))
    assert json.loads(result.read_text())["config"]["data"]["root"] == str(foreign)
    page = Path(command("report", f"runs={result.parent}"))
    assert "Mus" in page.read_text(encoding="utf-8")
    command("summary", f"runs={result.parent}")
    clip = next(path for path in store.paths if not path.isascii() and "caf" in path)
    assert Path(command("spectrogram", f"clip={clip}", f"file={tmp_path}/a.svg")).is_file()


@pytest.mark.slow
def test_a_terminal_that_lacks_the_letters_is_no_error_b11(foreign: Path, tmp_path: Path) -> None:
    """B11: a path or genre in Japanese ended a command on a terminal in Windows-1252."""
    for name, *arguments in (
        ["prepare", "data=folder", "data.duration=2.5", *TINY],
        ["evaluate", "data=folder", "checkpoint=none"],
        ["study", "data=folder", "data.duration=2.5", *TINY, "study.phases=[optimizer]"],
    ):
        done = subprocess.run(
            [
                *(sys.executable, "-m", "genreclf", name, *arguments),
                *(f"data.root={foreign}", f"outputs={tmp_path / '出力'}"),
                *["--estimate"] * (name == "study"),
            ],
            capture_output=True,
            env={**os.environ, "PYTHONIOENCODING": "cp1252"},
            check=False,
        )
        assert b"Traceback" not in done.stderr
        assert done.returncode == (name == "evaluate")
        if name == "prepare":
            assert rb"\u51fa\u529b/stores/folder-mel" in done.stdout
