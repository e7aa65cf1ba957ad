"""The user's own options and classes: packages, --config-dir and the current folder (D15)."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import TINY

MODULE = """
from torch import nn

class Scaled(nn.Identity):
    "No augmentation; proves by a file that it was made."
    def __init__(self, silence, mark):
        super().__init__()
        open(mark, "a").write("x")
"""
OPTION = "# Mine.\n_target_: {module}.Scaled\nmark: ???\n"


def genreclf(
    folder: Path, *arguments: str, path: tuple[Path, ...] = ()
) -> subprocess.CompletedProcess[str]:
    """Run the command as its script does, without the current folder in the module search path."""
    script = (
        "import sys; sys.path[:] = [p for p in sys.path if p]; sys.argv[0] = 'genreclf'\n"
        "from genreclf.__main__ import main; main()"
    )
    places = [*map(str, path), os.environ.get("PYTHONPATH", "")]
    return subprocess.run(
        [sys.executable, "-P", "-c", script, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, places))},
        capture_output=True,
        text=True,
        check=False,
    )


def write(folder: Path, **files: str) -> None:
    for name, text in files.items():
        path = folder / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def train(music: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    data = ["data=folder", f"data.root={music}", "data.duration=2.5", "trainer.max_epochs=1"]
    few = ["trainer.limit_train_batches=1", "model=efficient_cnn", f"augmentation.mark={folder}/m"]
    return genreclf(folder, "train", *data, *TINY, *few, *arguments)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("place", "arguments"),
    [
        (".", ["workers=2", "num_workers=1"]),
        ("my_conf", ["-m", "seed=0,1", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]),
        ("my_conf", ["trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2"]),
    ],
    ids=["workers", "joblib", "ddp"],
)
def test_a_module_next_to_the_options_or_in_the_current_folder_is_found_d15(
    music: Path, tmp_path: Path, place: str, arguments: list[str]
) -> None:
    """D15: a class in the user's folder is found in every process, whatever starts it."""
    (tmp_path / place).mkdir(exist_ok=True)
    (tmp_path / place / "my_module.py").write_text(MODULE)
    write(tmp_path, my_conf__augmentation__mine_dot_yaml=OPTION.format(module="my_module"))
    done = train(music, tmp_path, "--config-dir", "my_conf", "augmentation=mine", *arguments)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "m").read_text().startswith("x")
    count = 2 if "-m" in arguments else 1
    assert len([*tmp_path.glob("outputs/train/*/result.json")]) == count


@pytest.mark.slow
def test_workers_compute_features_of_the_users_class_d15(music: Path, tmp_path: Path) -> None:
    """D15: the processes that extract features find the user's module, too."""
    own = "from genreclf.audio import Mel\n\nclass Own(Mel):\n    pass\n"
    write(
        tmp_path,
        mine__my_features_dot_py=own,
        mine__features__own_dot_yaml="# Own.\ndefaults:\n  - mel\n\n_target_: my_features.Own\n",
    )
    options = ["--config-dir", "mine", "features=own", "workers=2"]
    done = genreclf(tmp_path, "prepare", "data=folder", f"data.root={music}", *TINY, *options)
    assert done.returncode == 0, done.stderr
    assert len([*tmp_path.glob("outputs/stores/*.h5")]) == 1


def test_a_module_that_is_nowhere_is_one_line_d15(tmp_path: Path) -> None:
    """D15: the line says where it was looked for and what to type."""
    write(tmp_path, my_conf__augmentation__mine_dot_yaml=OPTION.format(module="not_there"))
    done = genreclf(tmp_path, "train", "--config-dir", "my_conf", "augmentation=mine")
    assert done.returncode == 1
    assert done.stderr == (
        f"genreclf: augmentation._target_=not_there.Scaled: there is no module not_there in "
        f"{tmp_path}/my_conf or {tmp_path}, and none is installed; install its package, or set "
        "PYTHONPATH=FOLDER\n"
    )


def test_a_folder_of_options_is_no_module_d15(tmp_path: Path) -> None:
    """D15: _target_: model.Net is not looked for among the YAML files of the group model."""
    write(tmp_path, mine__model__net_dot_yaml="# Mine.\n_target_: model.Net\n")
    done = genreclf(tmp_path, "network", "--config-dir", "mine", "model=net")
    assert "there is no module model in " in done.stderr


def install(folder: Path, name: str, value: str) -> Path:
    """What pip leaves of a package with an entry point; importing the package is an error."""
    site = folder / f"site_{name}"
    info = site / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[genreclf.conf]\n{name} = {value}\n")
    (site / name / "conf" / "model").mkdir(parents=True)
    (site / name / "__init__.py").write_text("raise SystemExit('imported')\n")
    option = "# Theirs.\ndefaults:\n  - efficient_cnn\n\ncnn_dropout: 0.7\n"
    (site / name / "conf" / "model" / f"{name}_net.yaml").write_text(option)
    return site


@pytest.mark.parametrize("value", ["theirs.conf", "theirs:conf"])
def test_an_installed_package_lists_its_options(tmp_path: Path, value: str) -> None:
    """Its entry point names a folder; nothing of it is imported."""
    site = install(tmp_path, "theirs", value)
    for command in ("train", "study", "network"):
        shown = genreclf(tmp_path, command, "--help", path=(site,))
        assert "theirs_net" in shown.stdout, shown.stderr
    done = genreclf(
        tmp_path, "train", "model=theirs_net", "--cfg", "job", "-p", "model", path=(site,)
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "cnn_dropout: 0.7" in done.stdout


def test_two_packages_may_give_their_entry_points_one_name(tmp_path: Path) -> None:
    """The options of both are listed, not only those of one."""
    sites = tuple(install(tmp_path, name, f"{name}.conf") for name in ("theirs", "others"))
    for site in sites:
        (file,) = site.glob("*.dist-info/entry_points.txt")
        name = file.parent.name.partition("-")[0]
        file.write_text(f"[genreclf.conf]\noptions = {name}.conf\n")
    shown = genreclf(tmp_path, "network", "--help", path=sites)
    assert "theirs_net" in shown.stdout, shown.stderr
    assert "others_net" in shown.stdout


def test_an_option_with_a_name_of_ours_is_reported(tmp_path: Path) -> None:
    """Our option is used, and one line says so; an entry point without a folder is reported."""
    site = install(tmp_path, "theirs", "theirs.conf")
    clash = site / "theirs" / "conf" / "model" / "cnn_gru.yaml"
    clash.write_text("# Theirs.\n_target_: theirs.Net\n")
    (clash.parents[3] / "theirs-1.0.dist-info" / "entry_points.txt").write_text(
        "[genreclf.conf]\ntheirs = theirs.conf\nzzz = theirs.nothing\n"
    )
    done = genreclf(tmp_path, "network", "frames=64", path=(site,))
    assert done.returncode == 0, done.stderr
    assert done.stderr == (
        "genreclf: the entry point zzz = theirs.nothing names no folder of an installed package; "
        "its options are left out\n"
        f"genreclf: model=cnn_gru is genreclf's own; {clash} is not used: rename one of them\n"
    )


@pytest.mark.slow
def test_options_of_a_package_count_in_full_but_not_their_place(
    music: Path, tmp_path: Path
) -> None:
    """A run's name depends on what is in a package's option file, not on where it is installed."""
    names = []
    for place, dropout in (("a", 0.7), ("b", 0.7), ("c", 0.6)):
        folder = tmp_path / place
        folder.mkdir()
        site = install(folder, "theirs", "theirs.conf")
        file = site / "theirs" / "conf" / "model" / "theirs_net.yaml"
        file.write_text(file.read_text().replace("0.7", str(dropout)))
        data = ["data=folder", f"data.root={music}", "data.duration=2.5", "trainer.max_epochs=1"]
        few = ["trainer.limit_train_batches=1", "model=theirs_net"]
        done = genreclf(folder, "train", *data, *TINY, *few, path=(site,))
        assert done.returncode == 0, done.stderr
        result = folder / done.stdout.splitlines()[-1]
        assert json.loads(result.read_text())["config"]["model"]["cnn_dropout"] == dropout
        names.append(result.parent.name)
    assert names[0] == names[1] != names[2]


def test_two_options_of_one_name_in_a_folder_and_here(tmp_path: Path) -> None:
    """An option in --config-dir that is named like one of ours is not dropped silently."""
    write(tmp_path, mine__model__cnn_gru_dot_yaml="# Mine.\n_target_: a.B\n")
    done = genreclf(tmp_path, "network", "--config-dir", "mine", "frames=64")
    assert done.stderr.startswith("genreclf: model=cnn_gru is genreclf's own; ")


NET = """
from torch import nn

class Net(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.head = nn.Linear(32, classes)

    def forward(self, features):
        return self.head(features.mean(dim=2))
"""


@pytest.mark.slow
def test_modules_that_a_phase_or_trust_names_are_found_in_the_folder(
    music: Path, tmp_path: Path
) -> None:
    """D15: a study finds what only its phases name, and evaluate what only `trust` names."""
    write(
        tmp_path,
        mine__own_nets__net_dot_py=NET,
        mine__model__own_dot_yaml="# Mine.\n_target_: own_nets.net.Net\n",
        mine__study__mine_dot_yaml="# Mine.\nphases: [only]\n",
        mine__phase__only_dot_yaml=(
            "# @package _global_\n# Mine.\ndefaults:\n  - override /model: own\n"
            "hydra:\n  sweeper:\n    params:\n      batch_size: 8\n"
        ),
    )
    data = ["data=folder", f"data.root={music}", "data.duration=2.5"]
    few = ["+trainer.limit_train_batches=1", "trainer.max_epochs=1"]
    folder = ["--config-dir", "mine"]
    done = genreclf(tmp_path, "study", *folder, "study=mine", *data, *TINY, *few)
    assert done.returncode == 0, done.stderr
    (run,) = tmp_path.glob("outputs/train/*/best.ckpt")
    given = [f"checkpoint={run}", "trust=[own_nets]", *data]
    done = genreclf(tmp_path, "evaluate", *folder, *given)
    assert done.returncode == 0, done.stderr
    done = genreclf(tmp_path, "evaluate", *given)
    assert "own_nets.net.Net cannot be imported" in done.stderr


def test_a_module_that_fails_is_one_line_if_its_store_exists(tmp_path: Path) -> None:
    """Identifying a run imports the parts; what fails then is no traceback."""
    write(
        tmp_path,
        mine__broken_dot_py="1 / 0\n",
        mine__model__own_dot_yaml="# Mine.\n_target_: broken.Net\n",
    )
    few = ["data.duration=2", "data.artists=5", "data.clips=2", *TINY, "workers=1"]
    done = genreclf(tmp_path, "prepare", "data=synthetic", *few)
    assert done.returncode == 0, done.stderr
    options = ["--config-dir", "mine", "model=own", "data=synthetic"]
    done = genreclf(tmp_path, "train", *options, *few)
    assert (done.returncode, done.stderr) == (
        1,
        "genreclf: model._target_=broken.Net: importing it fails in broken.py, line 1: "
        "ZeroDivisionError: division by zero\n",
    )
