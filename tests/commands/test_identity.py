"""What makes a run another one, and what does not (findings A2, A3, A21)."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mutagen
import pytest
from conftest import TINY
from hydra import compose, initialize_config_module
from omegaconf import DictConfig

from genreclf.commands import identity
from genreclf.errors import InputError

Command = Callable[..., str]
EPOCH = ["trainer.max_epochs=1", "+trainer.limit_train_batches=1"]


@pytest.fixture
def digest(tmp_path: Path) -> Any:
    """The digest of a run of these overrides, on data that always have the same digest."""
    with initialize_config_module("genreclf.conf", version_base="1.3"):

        def run(*overrides: str, data: str = "data", **sources: str) -> str:
            config = compose("config", list(overrides), return_hydra_config=True)
            return identity.digest_run(config, data, sources)

        yield run


def test_the_names_of_runs_are_frozen(digest: Callable[..., str]) -> None:
    """Golden digests: whoever changes them makes users train every run again."""
    assert digest() == "c8fd31a4"
    assert digest("experiment=paper", "seed=3") == "0282da4a"
    assert digest("model=efficient_cnn", "optimizer.lr=1e-4", "scheduler=none") == "79d39329"


@pytest.mark.parametrize(
    "overrides",
    [
        ["outputs=elsewhere"],
        ["data=fma_small", "data.root=/anywhere"],
        ["data=folder", "data.root=/other/music", "data.duration=10"],
        ["store=some.h5"],
        ["cache=memory"],
        ["cache=device"],
        ["workers=3", "num_workers=2"],
        ["logger=tensorboard", "report=false"],
        ["logger=none"],  # A2
        ["logger=wandb", "logger.project=mine"],
        ["allow_identical=all"],
        ["mixup=0", "label_smoothing=0.00", "optimizer.lr=0.0010"],
        ["patience=8", "model=cnn_gru", "split.seed=42"],
        ["phase=best", "model=cnn_gru", "oversampling.genres=[]"],
        ["trainer=default", "+trainer.enable_progress_bar=false"],
    ],
)
def test_what_changes_no_number_does_not_count(
    digest: Callable[..., str], overrides: list[str]
) -> None:
    assert digest(*overrides) == digest()


@pytest.mark.parametrize(
    "overrides",
    [
        ["seed=1"],
        ["batch_size=17"],
        ["model.cnn_dropout=0.31"],
        ["model=cnn_lstm"],
        ["optimizer.lr=1.0001e-3"],
        ["scheduler=none"],
        ["split=artist"],
        ["test=false"],
        ["cache=float16"],
        ["fast=false"],
        ["trainer.precision=bf16-mixed"],
        ["+trainer.gradient_clip_val=1"],
        ["augmentation@oversampling.augmentation=standard"],
        ["oversampling.genres=[Rock]"],
        ["~scheduler.factor"],
    ],
)
def test_what_was_chosen_counts(digest: Callable[..., str], overrides: list[str]) -> None:
    assert digest(*overrides) != digest()


def test_both_names_of_the_bundled_model_are_one_run(digest: Callable[..., str]) -> None:
    assert digest("init=fma8") == digest("init=pretrained")


def test_data_and_files_count_by_content(digest: Callable[..., str]) -> None:
    assert digest(data="other") != digest()
    assert digest(init="weights") != digest()
    assert digest(init="other weights") != digest(init="weights")


def test_an_experiment_is_what_it_chooses(digest: Callable[..., str]) -> None:
    spelled = ["model=cnn_gru_final", "oversampling.genres=[Experimental]"]
    assert digest("experiment=paper") == digest(*spelled)


def test_a_new_key_at_its_default_does_not_count(
    digest: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = digest()
    flatten = identity.flatten
    monkeypatch.setattr(identity, "flatten", lambda config: {**flatten(config), "new.key": "0"})
    assert digest() == before


def test_a_renamed_module_does_not_count(
    digest: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before, flatten = digest(), identity.flatten

    def rename(config: DictConfig) -> dict[str, Any]:
        return {**flatten(config), "model._target_": "genreclf.elsewhere.CNNRNN"}

    monkeypatch.setattr(identity, "flatten", rename)
    assert digest() == before


def test_the_version_of_a_part_counts(
    digest: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = digest()
    monkeypatch.setitem(identity.VERSIONS, "genreclf.models.AttentiveCNN", 2)
    assert digest() == before
    monkeypatch.setitem(identity.VERSIONS, "genreclf.models.CNNRNN", 2)
    assert digest() != before


@pytest.mark.parametrize(
    ("overrides", "counts"),
    [
        ([], False),
        (["oversampling.genres=[Rock]"], True),
        (["oversampling.genres=[Rock]", "oversampling.copies=0"], False),
        (["experiment=paper_scripts"], False),
        (["augmentation=strong"], True),
        (["tracks_per_genre=100"], True),
    ],
)
def test_the_version_of_an_option_counts_where_it_has_an_effect(
    digest: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
    overrides: list[str],
    counts: bool,
) -> None:
    """A26, D9: runs with unchanged copies, or with all held-out tracks, are not reused."""
    before = digest(*overrides)
    monkeypatch.setattr(identity, "VERSIONS", {})
    assert (digest(*overrides) != before) == counts


def test_a_changed_default_is_not_reused_silently(digest: Callable[..., str]) -> None:
    config = compose("config", return_hydra_config=True)
    before: dict[str, Any] = {"patience": 9, "gone": 1, "optimizer": {"lr": 0.001}}
    with pytest.raises(InputError, match=r"default of patience was 9\.0, now it is 8\.0; choose"):
        identity.check_defaults(Path("run"), before, config)
    identity.check_defaults(Path("run"), {**before, "patience": 8.0, "seed": 0.0}, config)


@pytest.fixture
def own(music: Path, tmp_path: Path) -> Path:
    """A copy of the music that a test may change."""
    return Path(shutil.copytree(music, tmp_path / "own"))


@pytest.fixture
def run(command: Command, tmp_path: Path) -> Callable[..., Path]:
    """Trains for a step on a folder of music, below tmp_path/outputs; the folder of the run."""

    def train(root: Path | str, *arguments: str, outputs: Path | None = None) -> Path:
        data = ["data=folder", f"data.root={root}", "data.duration=2.5", *TINY, *EPOCH]
        place = f"outputs={outputs or tmp_path / 'outputs'}"
        return Path(command("train", *data, place, *arguments)).parent

    return train


def read_time(folder: Path) -> int:
    return (folder / "result.json").stat().st_mtime_ns


@pytest.mark.slow
def test_moved_outputs_keep_their_runs(run: Callable[..., Path], own: Path, tmp_path: Path) -> None:
    first = run(own)
    before = read_time(first)
    (tmp_path / "outputs").rename(tmp_path / "elsewhere")
    again = run(own, outputs=tmp_path / "elsewhere")
    assert again == tmp_path / "elsewhere" / "train" / first.name
    assert read_time(again) == before
    result = json.loads((again / "result.json").read_text())
    assert (again / result["data"]["store"]).is_file()  # A21


@pytest.mark.slow
def test_copied_and_respelled_music_keeps_its_runs(
    run: Callable[..., Path], own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run(own)
    before = read_time(first)
    shutil.copytree(own, tmp_path / "copy", copy_function=shutil.copyfile)
    shutil.rmtree(own)
    monkeypatch.chdir(tmp_path)
    assert run("copy") == run(f"{tmp_path}/./copy/") == run("copy", "cache=memory") == first
    assert read_time(first) == before
    assert len([*tmp_path.glob("outputs/stores/*.h5")]) == 1


@pytest.mark.slow
def test_a_named_store_needs_no_audio(
    run: Callable[..., Path], command: Command, own: Path, tmp_path: Path
) -> None:
    first = run(own)
    before = read_time(first)
    (store,) = tmp_path.glob("outputs/stores/*.h5")
    shutil.rmtree(own)
    place = f"outputs={tmp_path / 'outputs'}"
    again = Path(command("train", f"store={store}", "report=false", *EPOCH, place)).parent
    assert again == first
    assert read_time(first) == before
    moved = store.rename(tmp_path / "any name.h5")
    arguments = [f"store='{moved}'", "report=false", *EPOCH, "seed=1", place]
    assert Path(command("train", *arguments)).parent != first


@pytest.mark.slow
def test_a_changed_byte_is_another_run(run: Callable[..., Path], own: Path) -> None:
    first = run(own)
    clip = own / "Rock" / "01-01.mp3"
    data = bytearray(clip.read_bytes())
    data[len(data) // 2] ^= 255
    clip.write_bytes(data)
    assert run(own) != first


@pytest.mark.slow
def test_a_changed_label_is_another_run(run: Callable[..., Path], own: Path) -> None:
    first = run(own)
    (own / "Rock" / "01-01.mp3").rename(own / "Folk" / "rock.mp3")
    assert run(own) != first


@pytest.mark.slow
def test_a_corrected_tag_is_another_run_only_where_it_changes_the_split(
    run: Callable[..., Path], own: Path
) -> None:
    def retag(artist: str) -> None:
        for clip in (own / "Rock").glob("0*-*.mp3"):
            file = mutagen.File(clip, easy=True)  # pyright: ignore
            file["artist"] = f"{artist} {clip.stem}"
            file.save()

    stratified, artist = run(own), run(own, "split=artist")
    before = read_time(stratified)
    retag("Somebody")
    assert run(own) == stratified
    assert read_time(stratified) == before
    assert run(own, "split=artist") != artist


@pytest.mark.slow
def test_options_from_outside_count_in_full(command: Command, music: Path, tmp_path: Path) -> None:
    (tmp_path / "mine" / "model").mkdir(parents=True)
    option = tmp_path / "mine" / "model" / "small.yaml"
    names = set()
    for dropout in ("0.3", "0.30", "0.4"):
        option.write_text(f"defaults: [efficient_cnn]\ncnn_dropout: {dropout}\n")
        data = ["data=folder", f"data.root={music}", "data.duration=2.5", *TINY, *EPOCH]
        path = command("train", "--config-dir", str(tmp_path / "mine"), *data, "model=small")
        names.add(Path(path).parent.name)
    assert len(names) == 2
