"""Every command in the documentation is composed, and run on small data where it can be."""

import importlib
import re
import shutil
from collections.abc import Iterable
from pathlib import Path

import hydra
import numpy as np
import pytest
import torch
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from markdown import (
    PAGES,
    ROOT,
    Block,
    Command,
    read_blocks,
    read_commands,
    read_inline_commands,
    write_files,
)

from genreclf.__main__ import COMMANDS
from genreclf.commands import hydra_app
from genreclf.data.datasets import Synthetic
from genreclf.models import CNNRNN

OTHER_PROGRAMS = {".", "hf", "mlflow", "pip", "pytest", "python3", "tensorboard", "wandb"}
FLAGS = {"study": {"--status", "--estimate", "--retry"}}
NOT_RUN = {  # what a command holds, and why it is composed only
    r"download|fma_|gtzan|experiment=paper|musicnn|features=(huggingface|onnx)": "needs a download",
    r"genreclf embed(?!.*features=embedding)|--library music": "needs a download",
    r"hydra/launcher=": "needs a cluster, or is run by tests/commands/test_launchers.py",
    r"hydra/sweeper=": "many runs; tests/commands/test_optuna_sweeper.py runs it",
    r"trainer=(gpu|ddp)": "needs GPUs, or is run by tests/training/test_ddp.py",
    r"logger=(wandb|mlflow)|dashboard(?!.*file=)": "an account or extra, or run by test_loggers.py",
    r"phase(=|: )grid|study=": "many runs; studies are run by tests/studies",
}


def find_commands() -> list[Command]:
    """All commands of all pages, each once."""
    found = [command for page in PAGES for command in read_commands(page)]
    found += [command for page in PAGES for command in read_inline_commands(page)]
    return list({command.words: command for command in found}.values())


ALL = find_commands()
OURS = [command for command in ALL if command.words[0] == "genreclf"]


def is_run(command: Command) -> bool:
    """Whether it needs nothing that a test lacks, and does something."""
    arguments = command.words[2:]
    return (
        bool(arguments)
        and "--help" not in arguments
        and not any(re.search(p, str(command)) for p in NOT_RUN)
    )


def test_there_are_commands_to_check() -> None:
    assert len(OURS) > 80
    assert {command.words[1] for command in OURS} >= set(COMMANDS)
    assert sum(map(is_run, OURS)) > 40


def test_other_programs_are_known_and_make_targets_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for command in ALL:
        program, *arguments = command.words
        if program == "make":
            named = {word for word in arguments if "=" not in word}
            assert named <= targets, f"{command.page.name}: {command}"
        elif program != "genreclf":
            assert program in OTHER_PROGRAMS, f"{command.page.name}: {command}"


@pytest.mark.parametrize("command", OURS, ids=str)
def test_command_composes(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_files(command.page, tmp_path)
    monkeypatch.chdir(tmp_path)
    name, *arguments = command.words[1:]
    if name == "--version":
        return
    config = COMMANDS[name].config
    if not arguments:
        return
    if config is None:
        module = importlib.import_module(f"genreclf.commands.{name}")
        module._make_parser().parse_intermixed_args(arguments)
        return
    compose_all(config, *parse(name, arguments))


def parse(name: str, arguments: Iterable[str]) -> tuple[list[Override], bool, list[str]]:
    """The overrides; whether it is a sweep; and the folders of further options."""
    texts, folders, multirun, words = [], [], False, iter(arguments)
    for word in words:
        if word in ("-m", "--multirun"):
            multirun = True
        elif word == "--config-dir":
            folders.append(next(words))
        elif word == "--cfg":
            assert next(words) in ("job", "hydra", "all")
        elif word not in FLAGS.get(name, ()) and word != "--help":
            texts.append(word)
    return OverridesParser.create().parse_overrides(texts), multirun, folders


def compose_all(config: str, overrides: list[Override], multirun: bool, folders: list[str]) -> None:
    """Compose with each value of a sweep: an unknown key or option raises."""
    choices = [list_values(override) for override in overrides]
    assert multirun or all(len(values) == 1 for values in choices), "a sweep needs -m"
    first = [values[0] for values in choices]
    if folders:
        places = ", ".join(f"file://{Path(folder).absolute()}" for folder in folders)
        first.append(f"hydra.searchpath=[{places}]")
    GlobalHydra.instance().clear()
    with hydra.initialize_config_module("genreclf.conf", version_base="1.3"):
        hydra.compose(config, first, return_hydra_config=True)
        for place, override in enumerate(overrides):
            if (ROOT / "conf" / override.get_key_element()).is_dir():  # an option must exist
                for value in choices[place][1:]:
                    hydra.compose(config, [*first, value], return_hydra_config=True)


def list_values(override: Override) -> list[str]:
    """One override for each value that it names."""
    if not override.is_sweep_override():
        return [override.input_line or ""]
    if not override.is_discrete_sweep():  # an interval
        return [f"{override.get_key_element()}={override.value().start}"]
    sign = "+" * (override.input_line or "").startswith("+")
    values = override.sweep_string_iterator()
    return [f"{sign}{override.get_key_element().lstrip('+')}={value}" for value in values]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the pages speak of: music, archives, a store, a run and a model."""
    folder = tmp_path_factory.mktemp("place")
    made = Synthetic(folder / "made", duration=2.5, artists=4, clips=2)
    made.files()
    for genre, name in {"Ambient": "jazz", "Dance": "pop", "Rock": "rock"}.items():
        shutil.copytree(made.root / genre, folder / "music" / name)
    for name in ("other_music", "new_music"):
        shutil.copytree(folder / "music", folder / name)
    first, second, *_ = sorted((folder / "music").rglob("*.mp3"))
    for name in ("song.mp3", "a.mp3", "b.flac", "mix.flac"):
        shutil.copy(second if name.startswith("a") else first, folder / name)
    write_archives(folder)
    rows = [
        f"{path},{path.parent.name},{path.name[:2]}" for path in (folder / "music").rglob("*.mp3")
    ]
    (folder / "music.csv").write_text("\n".join(["path,genre,artist", *rows]))
    for page in PAGES:
        write_files(page, folder)
    torch.save(CNNRNN(3).state_dict(), folder / "net.pth")
    data = ["data=folder", "data.root=music", "split=artist", "init=pretrained"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("HYDRA_FULL_ERROR", "1")
        small = ["test=false", "trainer.max_epochs=1", "report=false"]
        hydra_app.run("train", "config", [*data, *small])
        made_run = next((folder / "outputs" / "train").glob("*/result.json")).parent
        run = made_run.rename(made_run.with_name("RUN"))
        hydra_app.run("prepare", "prepare", [*data[:2], "store=music.h5"])
        embed = ["data.root=music", "features=embedding", "file=library.parquet"]
        hydra_app.run("embed", "embed", embed)
        hydra_app.run("embed", "embed", ["data=folder", *embed[:2], "file=tracks.npz"])
        hydra_app.run("export", "export", [f"checkpoint={run}/best.ckpt", "folder=my_model"])
    return folder


def write_archives(folder: Path) -> None:
    rng, ids = np.random.default_rng(0), 250 * np.arange(60)
    parts = np.array(["training"] * 40 + ["validation"] * 10 + ["test"] * 10)
    common = {"labels": np.arange(60) % 3, "track_ids": ids, "split": parts}
    rows = rng.integers(0, 256, (60, 128, 128), dtype=np.uint8)
    np.savez(folder / "features.npz", features=rows, **common)
    np.savez(folder / "rows.npz", features=(rows / 255 * 80 - 80).astype(np.float16), **common)
    np.savez(folder / "embeddings.npz", features=rng.normal(size=(60, 4)), **common)
    np.savez(folder / "my_features.npz", features=rows, **common)
    for number, half in enumerate((slice(0, 30), slice(30, 60))):
        part = {name: values[half] for name, values in common.items()}
        np.savez(folder / f"features_{number}.npz", features=rows[half], **part)


def shrink(name: str, arguments: list[str]) -> list[str]:
    """The same command on small data: one epoch, two values of each sweep."""
    overrides, multirun, _ = parse(name, arguments)
    if multirun:
        swept = {o.input_line: o for o in overrides if o.is_sweep_override()}
        arguments = [
            ",".join([*list_values(swept[text])[:1], list_values(swept[text])[1].split("=", 1)[1]])
            if text in swept
            else text
            for text in arguments
        ]
    chosen = " ".join(arguments)
    if name == "train" and not re.search(r"model=(linear|svm)(?![\w,])", chosen):
        arguments += ["trainer.max_epochs=1", "+trainer.limit_train_batches=1"]
    if name == "train":
        if "data=folder" in chosen and not re.search("init=|experiment=|store=", chosen):
            arguments += ["data.duration=2.5"]
        if "--cfg" not in arguments:
            arguments += ["report=false"]
    if name in ("train", "prepare") and not re.search("data=|store=", chosen):
        arguments += ["data.artists=4", "data.clips=3", "data.duration=2.0"]
    return arguments


@pytest.mark.slow
@pytest.mark.parametrize("command", [c for c in OURS if is_run(c)], ids=str)
def test_command_runs(
    command: Command,
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
    request: pytest.FixtureRequest,
) -> None:
    name, *arguments = command.words[1:]
    if name == "predict" and "--checkpoint" not in arguments:
        request.getfixturevalue("musicnn_weights")
    monkeypatch.chdir(place)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    monkeypatch.setenv("WANDB_MODE", "offline")
    config = COMMANDS[name].config
    if config is None:
        assert importlib.import_module(f"genreclf.commands.{name}").main(arguments) == 0
    elif "--status" in arguments:
        write_study(place)
        hydra_app.run(name, config, arguments)
    else:
        hydra_app.run(name, config, shrink(name, arguments))
    assert capsys.readouterr().out


def write_study(place: Path) -> None:
    """Something that `study --status` can speak of."""
    folder = place / "outputs" / "study" / "paper-folder"
    folder.mkdir(parents=True, exist_ok=True)
    from genreclf.studies.study import Phase, Study

    Study("paper", "val/accuracy", [0], [], [Phase("models", planned=3)], ["study"]).write(folder)


PYTHON = [block for page in PAGES for block in read_blocks(page) if block.language == "python"]


@pytest.mark.slow
@pytest.mark.parametrize("block", PYTHON, ids=lambda block: block.page.stem)
def test_python_block_runs(
    block: Block,
    place: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    if 'load("tags")' in block.text:
        request.getfixturevalue("musicnn_weights")
    monkeypatch.chdir(place)
    if "results.csv" in block.text:  # a real one
        shutil.copy(ROOT / "docs" / "results" / "emotify.csv", tmp_path / "results.csv")
        monkeypatch.chdir(tmp_path)
    exec(compile(block.text, str(block.page), "exec"), {"__name__": "documentation"})
