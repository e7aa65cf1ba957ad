"""Output that cannot be written, closed streams, and folders for temporary files."""

import logging
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from genreclf.audio.processes import LONGEST_FOLDER, make_temporary_folder
from genreclf.commands import streams
from genreclf.errors import InputError
from genreclf.paths import format_path

FULL = pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
PRINT = "from genreclf.__main__ import main; import sys; sys.argv = ['genreclf', '--version']; "


def run_main(redirected: str, code: str = "main()") -> tuple[int, str]:
    """Run the command line with shell redirections; exit status, and stdout with stderr."""
    words = [sys.executable, "-c", PRINT + code]
    done = subprocess.run(
        ["sh", "-c", f'"$@" {redirected}', "sh", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    return done.returncode, done.stdout


@FULL
def test_a_full_disk_is_one_line() -> None:
    line = "genreclf: the output cannot be written: No space left on device\n"
    assert run_main("> /dev/full") == (1, line)
    log = "streams.set_up_streams(); print('log', flush=True); streams.check_output()"
    code = f"from genreclf.commands import streams; {log}"
    status, text = run_main("> /dev/full", code)
    assert (status, text.splitlines()[-1]) == (1, f"genreclf.errors.InputError: {line[10:-1]}")


@FULL
def test_messages_that_no_one_can_read_change_no_result() -> None:
    warn = "import genreclf.__main__ as m; run = m.run_command; "
    warn += "m.run_command = lambda: (print('!', file=sys.stderr), run()); main()"
    status, text = run_main("2> /dev/full", warn)
    assert (status, text.count("\n")) == (0, 1)


def test_closed_streams_are_no_error_and_no_file_gets_their_numbers(tmp_path: Path) -> None:
    for closed in ("<&-", ">&-", "2>&-", "<&- >&- 2>&-"):
        opened = "import genreclf.__main__ as m; run = m.run_command; "
        opened += f"m.run_command = lambda: (open({str(tmp_path / 'a')!r}, 'w').fileno() < 3 and "
        opened += "sys.exit(3), print('!', file=sys.stderr), run()); main()"
        status, text = run_main(closed, opened)
        assert (status, "Traceback" in text) == (0, False)
    assert (tmp_path / "a").read_text() == ""


def test_a_failed_output_is_reported_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams._Output, "failure", "it is full")
    with pytest.raises(InputError, match="the output cannot be written: it is full"):
        streams.check_output()
    streams.check_output()


def test_names_in_the_log_cannot_control_the_terminal() -> None:
    given: Any = ("genreclf.data", 20, "", 0, "\t%s: %s", ("a\x1b[2J\r", "two\nlines"), None)
    assert streams._Record(*given).getMessage() == "\ta\\x1b[2J\\r: two\nlines"
    other = logging.LogRecord("lightning", *given[1:])
    assert streams._Record("lightning", *given[1:]).getMessage() == other.getMessage()
    assert format_path("a\x1b") == "a\\x1b"


def make_in_child(monkeypatch: pytest.MonkeyPatch, **variables: str) -> str:
    """Make the folder as a process does that has none yet."""
    import multiprocessing

    config: Any = multiprocessing.current_process()._config  # pyright: ignore
    monkeypatch.setitem(config, "tempdir", None)
    for name in ("TMPDIR", "TEMP", "TMP"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("tempfile.tempdir", None)
    return make_temporary_folder()


def test_sockets_are_in_a_folder_with_a_short_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = tmp_path / ("d" * 120)
    deep.mkdir()
    short = tmp_path if len(os.fsencode(tmp_path)) <= LONGEST_FOLDER else Path("/tmp")
    assert Path(make_in_child(monkeypatch, TMPDIR=str(short))).parent == short
    for given in (deep, tmp_path / "none", "/proc"):
        made = make_in_child(monkeypatch, TMPDIR=str(given))
        assert len(os.fsencode(made)) <= LONGEST_FOLDER + 14


def test_no_folder_for_temporary_files_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> str:
        raise OSError(27, "File too large")

    monkeypatch.setattr("tempfile.mkdtemp", refuse)
    with pytest.raises(InputError, match="no folder for temporary files: set TMPDIR to one that"):
        make_in_child(monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["SIGHUP", "SIGKILL"])
def test_an_end_from_outside_leaves_no_folder(name: str, tmp_path: Path) -> None:
    """The folder of the sockets, in which a worker process lives on for a moment."""
    temporary = tmp_path if len(os.fsencode(tmp_path)) <= LONGEST_FOLDER else None
    if temporary is None:
        pytest.skip("the path of this folder is too long for sockets")
    script = tmp_path / "script.py"
    script.write_text(
        "import contextlib, pickle, sys, time\n"
        "import genreclf.__main__ as m\n"
        "from genreclf.audio.processes import start_worker\n"
        "def wait():\n"
        "    worker = start_worker(pickle.dumps(len))\n"
        "    worker.results.recv()\n"
        "    print('up', flush=True)\n"
        "    try: time.sleep(60)\n"
        "    finally: worker.end(kill=True)\n"
        "m.run_command = wait\n"
        "m.main()\n"
    )
    temporary /= "t"
    temporary.mkdir()
    with subprocess.Popen(
        [sys.executable, str(script)],
        stdout=subprocess.PIPE,
        env={**os.environ, "TMPDIR": str(temporary)},
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        assert [*temporary.iterdir()]
        process.send_signal(getattr(signal, name))
        assert process.wait() == (129 if name == "SIGHUP" else -signal.SIGKILL)
        process.stdout.read()  # until the last process that has it open ends
    assert not [*temporary.iterdir()]
