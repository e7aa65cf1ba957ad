"""What is read because of what a user gave is never a named pipe, which might never end (C6).

The values of config keys are tested in tests/commands/test_paths.py; here are the files that are
found below them, and those of other options.
"""

import ast
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import genreclf
from genreclf.commands.arguments import check_arguments
from genreclf.commands.run_folder import set_output_folder
from genreclf.data.archives import unpack
from genreclf.data.datasets import GTZAN
from genreclf.data.datasets.arrays import open_archive
from genreclf.data.digests import DigestCache
from genreclf.data.download import check_sha1
from genreclf.data.library_files import read_library
from genreclf.data.store import Store
from genreclf.data.unfinished_store import UnfinishedRows
from genreclf.errors import InputError
from genreclf.evaluation.genre_map import read_genre_map
from genreclf.evaluation.runs import Run
from genreclf.files import check_fetched, read_json
from genreclf.models.encoders import digests, onnx_files, tensorflow_files
from genreclf.models.model_files import digest_checkpoint, read_model_files
from genreclf.report.records import read_records
from genreclf.studies.study import Study
from genreclf.training.checkpoint_files import find_resumable
from genreclf.training.distillation import Embeddings


def read_lists(path: Path) -> object:
    return GTZAN("none", lists=path.parent)._read_lists({})


READERS: dict[str, tuple[str, Callable[[Path], Any]]] = {  # file, and what reads it or its folder
    "--map": ("a.yaml", lambda path: read_genre_map(str(path), ["rock", "pop"])),
    "--config-dir": ("model/a.yaml", lambda path: check_arguments(["-cd", str(path.parents[1])])),
    "checkpoint": ("best.ckpt", read_model_files),
    "checkpoint of a run": ("best.ckpt", lambda path: read_model_files(path.parent)),
    "exported model": ("model.json", lambda path: read_model_files(path.parent)),
    "exported weights": ("model.safetensors", lambda path: digest_checkpoint(path.parent)),
    "distillation.path": ("a.npz", lambda path: Embeddings(str(path)).read_size()),
    "distillation.runs": ("result.json", lambda path: Run.read(path.parent)),
    "predictions": ("predictions.csv", lambda path: Run(path.parent, {}).read_correct()),
    "data.path": ("a.npz", open_archive),
    "data.lists": ("train_filtered.txt", read_lists),
    "an archive": ("a.zip", lambda path: unpack(path, path.parent)),
    "a checksum": ("a.zip", lambda path: check_sha1(path, "")),
    "--library": ("a.parquet", read_library),
    "store": ("a.h5", Store),
    "an unfinished store": ("a.h5.partial", UnfinishedRows),
    "summary": ("a.csv", read_records),
    "study": ("study.json", lambda path: Study.read(path.parent)),
    "a pointer of Git LFS": ("a.onnx", lambda path: check_fetched(path, "a.onnx:")),
    "an encoder": ("a.onnx", digests.digest_file),
    "ONNX": ("a.onnx", lambda path: onnx_files.list_external_files(path, "")),
    "TensorFlow": ("a.index", lambda path: tensorflow_files.read_checkpoint(path, path)),
}


@pytest.mark.parametrize("name", READERS)
def test_a_named_pipe_is_never_opened(name: str, tmp_path: Path) -> None:
    file, read = READERS[name]
    path = tmp_path / file
    path.parent.mkdir(exist_ok=True)
    os.mkfifo(path)
    if name == "exported weights":
        (tmp_path / "model.json").write_text("{}")
    with pytest.raises(InputError, match="a named pipe, not a file"):
        read(path)


def test_what_genreclf_keeps_itself_counts_as_damaged(tmp_path: Path) -> None:
    for name in ("digests.json", "last.ckpt"):
        os.mkfifo(tmp_path / name)
    assert DigestCache(tmp_path).get("a", lambda: "b") == "b"
    assert find_resumable(tmp_path) is None


def test_nothing_is_read_without_that_check() -> None:
    """Each module that opens files has it, is itself the check, or reads only files of its own."""
    own = {
        "source_code.py": "modules of Python",
        "commands/compose.py": "options of the package",
        "commands/sweep_report.py": "notes of this process",
        "training/debug.py": "a profile of this process",
        "training/launch.py": "logs of child processes",
        "training/memory.py": "files of the system",
        "audio/cores.py": "files of the system",
        "models/encoders/musicnn_weights.py": "weights in the cache",
        "models/encoders/musicnn_download.py": "a wheel of this process",
        "data/library_formats.py": "files that `read_library` has checked",
        "data/transfer.py": "a part of a download",
        "commands/identity.py": "options, which `check_arguments` has checked",
    }
    checks = {"refuse_special", "explain_irregular", "describe_path", "check_file"}
    checks |= {"read_text", "read_bytes", "read_json", "_open"}
    root = Path(genreclf.__file__).parent
    for file in sorted(root.rglob("*.py")):
        name = file.relative_to(root).as_posix()
        if name in own or name.startswith("audio/"):  # `check_file` comes before all of audio
            continue
        tree = ast.parse(file.read_text(encoding="utf-8"))
        calls = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
        attributes = {each.attr for each in calls if isinstance(each, ast.Attribute)}
        names = {each.id for each in calls if isinstance(each, ast.Name)}
        names |= {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
        opened = {"h5py.File", "zipfile.ZipFile"} & {*map(ast.unparse, calls)}
        if opened or attributes & {"read_text", "read_bytes"}:
            assert checks & (names | attributes), f"{name}: check with paths.refuse_special"


def test_the_log_of_a_run_is_never_a_pipe() -> None:
    assert "refuse_special" in set_output_folder.__code__.co_names
    assert "refuse_special" in read_json.__globals__
