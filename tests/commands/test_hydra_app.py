import errno
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import heed_ctrl_c

from genreclf.__main__ import COMMANDS
from genreclf.commands import hydra_app, user_errors
from genreclf.commands.arguments import SET_BY_US, arrange_arguments, check_arguments
from genreclf.commands.path_overrides import quote_paths


def genreclf(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "genreclf", *arguments], capture_output=True, text=True, check=False
    )


def test_help_lists_the_commands() -> None:
    for arguments in ([], ["--help"], ["-h"]):
        done = genreclf(*arguments)
        assert done.returncode == 0
        assert all(f"  {name} " in done.stdout for name in COMMANDS)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_each_command_has_help(name: str) -> None:
    done = genreclf(name, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"genreclf {name}: {COMMANDS[name].summary}")
    shown = "outputs: outputs" if COMMANDS[name].config else f"usage: genreclf {name}"
    assert shown in done.stdout


def test_help_and_config_import_nothing_heavy() -> None:
    code = (
        "import sys; from genreclf.__main__ import main; sys.argv = ['genreclf', *sys.argv[1:]]\n"
        "try: main()\nfinally: print(sorted({'torch', 'librosa', 'numpy'} & set(sys.modules)))"
    )
    for arguments in (
        ["--help"],
        ["train", "--help"],
        ["train", "--cfg", "job"],
        ["predict", "--help"],
    ):
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False
        )
        assert done.stdout.splitlines()[-1] == "[]", done.stdout[-300:]


def test_a_reader_that_stops_early_is_no_error() -> None:
    done = subprocess.run(
        ["sh", "-c", f"'{sys.executable}' -m genreclf train --help | head -n 1"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.startswith("genreclf train: ")
    assert done.stderr == ""


def test_an_unknown_command_is_wrong_usage() -> None:
    done = genreclf("trian")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "genreclf: no command trian; did you mean train?\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["model=cnn"], "Could not find 'model/cnn' Available options in 'model': attentive_cnn"),
        (["modl=cnn_gru"], "Could not override 'modl'. Did you mean model?"),
        (["model.cnn_dropuot=0.3"], "Did you mean model.cnn_dropout?"),
        # A value that Hydra cannot read: the mistyped key comes first.
        (["data=folder", "data.rot=/music/a=b"], "'data.rot'. Did you mean data.root?"),
        (["data=folder", "dta.root=/music/[live] #1"], "Did you mean data.root?"),
        (["seed=a=b"], "quote what holds = , "),
        (["data=folder"], "data.root=... is needed"),
        (["data=folder", "data.root=/nowhere"], "data.root=/nowhere: no such folder"),
        (["seed=a"], "seed=a: an integer is needed (the default is 0)"),
        (["trainer.max_epochs=2.5"], "trainer.max_epochs=2.5: an integer is needed"),
        (["report=7"], "report=7: true or false is needed"),
        (["batch_size=[16"], "no viable alternative"),
        (["+split_seed=abc"], "split_seed=abc: an integer is needed"),
        (["+batch_size=abc"], "batch_size=abc: an integer is needed"),
        (["logger.prefix=a"], "To append to your config use +logger.prefix=a"),
        (["model.min_size=4"], "Could not override 'model.min_size'. genreclf train --help"),
        (["lr=1"], "Did you mean optimizer.lr?"),
        (["epochs=3"], "Did you mean trainer.max_epochs?"),  # D20
        (["model=cnn_gu"], "; did you mean model=cnn_gru?"),
        (["loss=focl"], "; did you mean loss=focal?"),
        (["model.drp=0.2"], "Could not override 'model.drp'. genreclf train --help lists"),
        (["scheduler=cosine", "scheduler.warmpu=0"], "Did you mean scheduler.warmup?"),
        (["+model.classes=7"], "model.classes is set by genreclf: leave it out"),
        (["trainer.max_epochs=0"], "trainer.max_epochs=0: at least 1 epoch is needed"),  # D21
    ],
)
def test_bad_input_is_one_line(
    command: Callable[..., str],
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    with pytest.raises(SystemExit) as exit_:
        command("train", *arguments)
    assert exit_.value.code == 1
    error = capsys.readouterr().err
    assert error.startswith("genreclf: ")
    assert error.count("\n") == 1
    assert message in error


def test_a_setting_with_dashes_is_wrong_usage_d20(capsys: pytest.CaptureFixture[str]) -> None:
    """D20: --model x printed Hydra's usage, which says nothing of model=x."""
    for given, line in (
        (["--model", "svm"], "there is no option --model; settings have no dashes: model=svm"),
        (["--batch-size=4", "-m"], "settings have no dashes: batch_size=4"),
        (["--fast"], "settings have no dashes: fast=..."),
        (["--config-dir", ""], "--config-dir: the path is empty"),
        (["-cd", "", "seed=1"], "-cd: the path is empty"),
    ):
        with pytest.raises(SystemExit) as exit_:
            hydra_app.run("train", "config", given)
        assert exit_.value.code == 2
        assert line in capsys.readouterr().err
    check_arguments(["--config-dir=a", "--multi", "--status", "--cfg", "job"])


@pytest.mark.parametrize("sign", ["", "+", "++"])
@pytest.mark.parametrize("key", SET_BY_US)
def test_keys_of_hydra_that_have_no_effect_are_refused(
    command: Callable[..., str], capsys: pytest.CaptureFixture[str], sign: str, key: str
) -> None:
    """`genreclf train hydra.run.dir=here` wrote elsewhere; with chdir, paths were wrong."""
    for name in ("train", "network", "study"):
        with pytest.raises(SystemExit):
            command(name, f"{sign}{key}=here")
        line = f"genreclf: {sign}{key} is set by genreclf: {SET_BY_US[key]}\n"
        assert capsys.readouterr().err == line


def test_keys_of_an_option_of_your_own_are_suggested_d20(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """D20: the keys of the default model were compared, not those of the chosen one."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "keyed_net.py").write_text("def make(classes, dropping, other=1): pass\n")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mine.yaml").write_text("_target_: keyed_net.make\ndropping: 0.1\n")
    given = ["--config-dir", str(tmp_path), "model=mine", "model.droping=0.2"]
    message = "Could not override 'model.droping'."
    assert user_errors.explain_key(message, "train", "config", given) == (
        " Did you mean model.dropping?"
    )
    for key, said in (
        ("zzz", "genreclf train --help"),
        ("other", "To append to your config use +"),
    ):
        message = f"Could not override 'model.{key}'. To append to your config use +model.{key}=1"
        assert user_errors.explain_key(message, "train", "config", given).startswith(f" {said}")


def test_hydras_options_may_be_anywhere_and_home_is_expanded_a22(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A22: Hydra refuses ~ in a value, and its options in the middle of the overrides."""
    monkeypatch.setenv("HOME", "/home/me")
    given = ["outputs=~/x", "--config-dir", "mine", "init=~/a,~/b", "-m", "notice='~/c'"]
    assert arrange_arguments(quote_paths(given, "config")) == [
        *("--config-dir", "mine", "-m", "outputs=/home/me/x"),
        *("init=/home/me/a,/home/me/b", "notice='/home/me/c'"),
    ]


def test_a_place_that_cannot_be_written_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(tmp_path / "a"))

    monkeypatch.setattr("genreclf.commands.report.read_runs", full)
    with pytest.raises(SystemExit):
        hydra_app.run("report", "report", [f"outputs={tmp_path}"])
    error = capsys.readouterr().err.splitlines()[-1]
    assert error == (
        f"genreclf: {tmp_path / 'a'}: No space left on device; correct that, or choose another "
        "place: outputs=..."
    )


def test_an_interrupt_that_falls_into_a_finaliser_is_not_lost() -> None:
    script = """
import signal, time
from genreclf.commands import hydra_app

class Left:
    def __del__(self):
        signal.raise_signal(signal.SIGINT)

hydra_app.keep_interrupts()
try:
    Left()
    time.sleep(30)
except KeyboardInterrupt:
    print("interrupted")
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        preexec_fn=heed_ctrl_c,
    )
    assert (done.stdout, done.stderr) == ("interrupted\n", "")


def test_a_name_that_a_launcher_cannot_take_is_one_line_c1() -> None:
    """C1: Ray keeps the command line as UTF-8, which a path need not be."""
    error = UnicodeEncodeError("utf-8", "data.root=caf\udce9", 13, 14, "surrogates not allowed")
    assert (
        user_errors.explain_error(error)
        == "it takes only names that are UTF-8, not data.root=caf\\xe9"
    )
