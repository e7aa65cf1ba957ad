import shutil
from collections.abc import Callable
from hashlib import sha1
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from genreclf.data.datasets import Track
from genreclf.data.store import Store
from genreclf.errors import InputError
from genreclf.evaluation.runs import Run
from genreclf.models import AttentiveCNN, EfficientCNN
from genreclf.models.checkpoint import load_checkpoint
from genreclf.training.classifier import Classifier
from genreclf.training.distillation import Embeddings


@pytest.fixture
def store(make_store: Callable[..., Store], random_rows: Callable[..., np.ndarray]) -> Store:
    return make_store([Track(str(n), "ab"[n % 2], "", "", "") for n in range(6)], random_rows(6))


def archive(folder: Path, ids: Any, features: Any) -> Path:
    np.savez(folder / "distillation.npz", track_ids=ids, features=features)
    return folder / "distillation.npz"


def test_targets_are_standardised_over_the_training_rows(store: Store, tmp_path: Path) -> None:
    embeddings = np.random.default_rng(1).normal(3, 2, (7, 5))
    embeddings[0] = 1000  # far beyond the others
    ids = np.array([5, 3, 2, 1, 0, 99, 98])  # in another order; track 4 is not there
    rows = np.array([0, 1, 2, 3, 4])
    targets = Embeddings(archive(tmp_path, ids, embeddings), labels=0).make_targets(
        store, {"train": rows}
    )
    assert targets.shape == (6, 5)
    assert targets.dtype == np.float32
    known = targets[[0, 1, 2, 3]]
    np.testing.assert_allclose(known.mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(known.std(axis=0), 1, atol=1e-6)
    ratio = (known[0] - known[1]) / (embeddings[4] - embeddings[3])
    np.testing.assert_allclose(ratio, 1 / embeddings[1:5].std(axis=0), rtol=1e-5)
    assert np.isnan(targets[4]).all()
    np.testing.assert_array_equal(targets[5], 4)


@pytest.mark.parametrize(
    ("ids", "features", "line"),
    [
        ([7, 8], np.ones((2, 3)), "none of the 2 training tracks"),
        ([0, 1], np.ones(2), r"features \(2,\) of 2 tracks"),
        ([0], np.ones((2, 3)), r"features \(2, 3\) of 1 tracks"),
        ([0, 1], np.full((2, 3), np.nan), "not finite"),
        ([0, 0], np.ones((2, 3)), "occurs more than once"),
        ([0, 1], np.full((2, 3), "x"), "numbers"),
    ],
)
def test_other_archives_are_refused(
    store: Store, tmp_path: Path, ids: Any, features: Any, line: str
) -> None:
    with pytest.raises(InputError, match=line):
        Embeddings(archive(tmp_path, ids, features), labels=0).make_targets(
            store, {"train": np.array([0, 1])}
        )


def test_what_is_not_there_is_named(store: Store, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        Embeddings(tmp_path / "gone.npz").make_targets(store, {"train": np.array([0])})
    np.savez(tmp_path / "a.npz", features=np.ones((2, 3)))
    with pytest.raises(InputError, match="track_ids"):
        Embeddings(tmp_path / "a.npz").make_targets(store, {"train": np.array([0])})
    for setting in ({"weight": 0}, {"labels": 1.5}, {"C": 0}):
        with pytest.raises(InputError, match=r"above 0, from 0 to 1, and above 0"):
            Embeddings("a.npz", **setting)


def test_the_archive_is_read_once_a16(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A16: each run of a sweep read the archive of embeddings five times."""
    path = archive(tmp_path, np.arange(6), np.random.default_rng(0).normal(size=(6, 3)))
    digest = sha1(path.read_bytes()).hexdigest()
    opened: list[Path] = []
    read = Path.read_bytes

    def count(file: Path) -> bytes:
        opened.append(file)
        return read(file)

    monkeypatch.setattr(Path, "read_bytes", count)
    for _ in range(3):
        distillation = Embeddings(path, labels=0)
        assert distillation.compute_digest() == digest
        assert distillation.read_size() == 3
        distillation.make_targets(store, {"train": np.arange(5)})
    assert opened == [path]
    archive(tmp_path, np.arange(6), np.ones((6, 4)))
    assert Embeddings(path).read_size() == 4  # a file that changed is read again


def test_soft_labels_are_by_a_classifier_that_has_not_seen_the_track(
    make_store: Callable[..., Store], random_rows: Callable[..., np.ndarray], tmp_path: Path
) -> None:
    tracks = [Track(str(n), "abc"[n % 3], "", "", "") for n in range(60)]
    store = make_store(tracks, random_rows(60))
    embeddings = np.random.default_rng(0).normal(0, 0.2, (60, 8))
    embeddings[np.arange(60), store.labels] += 3
    embeddings[1, :3] = [3, 0, 0]  # labelled b, but like all those of a
    rows = np.arange(51)
    distillation = Embeddings(archive(tmp_path, np.arange(60), embeddings), labels=0.5, C=1.0)
    targets = distillation.make_targets(store, {"train": rows})
    assert targets.shape == (60, 8 + 3)
    soft = targets[:, 8:]
    assert np.isnan(soft[51:]).all()
    assert np.isfinite(targets[51:, :8]).all()
    np.testing.assert_allclose(soft[rows].sum(axis=1), 1, atol=1e-6)
    right = soft[rows].argmax(axis=1) == store.labels[rows]
    assert not right[1]
    assert soft[1, 0] > 0.9
    assert right.sum() == 50
    shuffled = np.random.default_rng(1).normal(0, 1, (60, 8))  # nothing but its labels could tell
    distillation = Embeddings(archive(tmp_path, np.arange(60), shuffled), labels=0.5, C=100.0)
    guessed = distillation.make_targets(store, {"train": rows})[rows, 8:].argmax(axis=1)
    assert (guessed == store.labels[rows]).mean() < 0.6


def test_soft_labels_of_too_few_tracks_are_refused(store: Store, tmp_path: Path) -> None:
    distillation = Embeddings(archive(tmp_path, np.arange(6), np.eye(6)), labels=0.5)
    with pytest.raises(InputError, match="6 tracks are too few"):
        distillation.make_targets(store, {"train": np.arange(6)})


def test_soft_labels_take_their_share_of_the_target() -> None:
    torch.manual_seed(0)
    net = AttentiveCNN(3, dropout=0.0).eval()
    classifier = Classifier(
        net, list("abc"), distillation=(4, 1e-9, 0.25), label_smoothing=0.1, mixup=0.0
    )
    clips, labels = torch.randn(2, 32, 32), torch.tensor([0, 2])
    soft = torch.tensor([[0.2, 0.8, 0.0], [torch.nan] * 3])
    targets = torch.hstack([torch.zeros(2, 4), soft])
    logits, _, loss, _ = classifier._compute_training_loss(clips, labels, targets)
    goal = torch.tensor([[0.75 + 0.25 * 0.2, 0.25 * 0.8, 0], [0, 0, 1]]) * 0.9 + 0.1 / 3
    expected = -(goal * logits.log_softmax(dim=1)).sum(dim=1).mean()
    torch.testing.assert_close(loss, expected)


def test_the_error_to_the_known_targets_joins_the_loss() -> None:
    torch.manual_seed(0)
    net = AttentiveCNN(3, dropout=0.0).eval()
    classifier = Classifier(net, list("abc"), distillation=(4, 0.5, 0.0))
    clips, labels = torch.randn(2, 32, 32), torch.tensor([0, 2])
    targets = torch.stack([torch.randn(4), torch.full((4,), torch.nan)])
    logits, _, loss, found = classifier._compute_training_loss(clips, labels, targets)
    assert found is not None
    loss = loss + classifier.distillation_weight * found
    plain, embedding = net(clips, embedded=True)
    torch.testing.assert_close(logits, plain)
    torch.testing.assert_close(logits, net(clips))
    assert classifier.embedding_head is not None
    predicted = classifier.embedding_head(embedding)
    error = (predicted[0] - targets[0]).square().mean() / 2  # the other clip has none
    expected = nn.functional.cross_entropy(logits, labels) + 0.5 * error
    torch.testing.assert_close(loss, expected)
    loss.backward()
    assert all(torch.isfinite(p.grad).all() for p in classifier.parameters() if p.grad is not None)


def test_distillation_uses_the_compiled_model() -> None:
    net, graphs = AttentiveCNN(3, (4, 4, 4, 4), mixed=8), []

    def backend(graph: Any, _: Any) -> Any:
        graphs.append(graph)
        return graph.forward

    net.compile(backend=backend)
    classifier = Classifier(net, list("abc"), distillation=(4, 0.5, 0.0))
    batch = torch.randn(2, 32, 32), torch.tensor([0, 2]), torch.randn(2, 4)
    *_, loss, error = classifier._compute_training_loss(*batch)
    assert graphs
    (loss + error).backward()
    assert all(p.grad is not None for p in classifier.parameters())


def test_a_net_without_an_embedding_is_refused() -> None:
    with pytest.raises(InputError, match="this model has no embedding; choose model=attentive_cnn"):
        Classifier(EfficientCNN(2), ["a", "b"], distillation=(4, 0.5, 0.0))


def distillation_options(music: Path, folder: Path, seed: int = 0) -> list[str]:
    """Options of a small net and its distillation, whose archive is written."""
    ids = [path.relative_to(music).as_posix() for path in music.rglob("*.mp3")]
    path = archive(folder, ids, np.random.default_rng(seed).normal(size=(len(ids), 6)))
    net = ["model=attentive_cnn", "model.channels=[4,4,4,4]", "model.mixed=8"]
    return [*net, "distillation=embeddings", f"distillation.path={path}"]


def test_a_checkpoint_holds_no_targets(
    train: Callable[..., dict[str, Any]],
    music: Path,
    tmp_path: Path,
) -> None:
    settings = [*distillation_options(music, tmp_path), "mixup=0.2"]
    result = train(*settings)
    trained = load_checkpoint(result["folder"] / "best.ckpt")
    assert isinstance(trained.net, AttentiveCNN)
    assert trained.net(torch.randn(1, 32, 54)).shape == (1, 4)
    with pytest.raises(SystemExit):
        train(*settings[3:5])  # of cnn_gru
    distillation_options(music, tmp_path, seed=1)
    assert train(*settings)["folder"] != result["folder"], "other targets make another run"


def test_what_runs_predicted_joins_the_soft_labels(
    train: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    run = Run.read(train()["folder"])
    store = Store(run.result["config"]["store"])
    everything = {"train": np.arange(len(store))}
    path = archive(tmp_path, store.track_ids, np.random.default_rng(0).normal(size=(len(store), 6)))
    alone = Embeddings(path).make_targets(store, everything)[:, 6:]
    distillation = Embeddings(path, runs=[str(run.folder)])
    soft = distillation.make_targets(store, everything)[:, 6:]
    tested = [store.track_ids.index(track_id) for track_id in run.predictions.track_ids]
    expected = np.sqrt(alone[tested] * run.predictions.scores.clip(1e-4))
    expected /= expected.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(soft[tested], expected, atol=1e-5)
    others = np.setdiff1d(everything["train"], tested)
    np.testing.assert_allclose(soft[others], alone[others], atol=1e-5)
    assert distillation.compute_digest() != Embeddings(path).compute_digest()
    edit_checkpoint(run.folder, lambda described: described["model"].update(_target_="my.Net"))
    again = distillation.make_targets(store, everything)[:, 6:]
    np.testing.assert_array_equal(again, soft)  # a model of one's own is not built, or imported
    with pytest.raises(InputError, match=r"was trained on \d of the tracks that this run"):
        distillation.make_targets(
            store, {"train": np.array([*tested, *others[5:]]), "val": others[:5]}
        )
    with pytest.raises(InputError, match=r"distillation\.labels above 0"):
        Embeddings(path, labels=0, runs=["outputs"])
    with pytest.raises(InputError, match=r"a list is needed: \[outputs\]"):
        Embeddings(path, runs="outputs")


def edit_checkpoint(run: Path, edit: Callable[[dict[str, Any]], None]) -> None:
    checkpoint = torch.load(run / "best.ckpt", weights_only=True)
    edit(checkpoint["genreclf"])
    torch.save(checkpoint, run / "best.ckpt")


def copy_with(run: Path, folder: Path, trained_on: dict[str, list[str]]) -> Path:
    """A run that had been trained on these rows as well, whose audio is not known."""

    def edit(described: dict[str, Any]) -> None:
        known = described["trained_on"]
        known |= {"some_audio": known.pop("audio"), **trained_on}

    shutil.copytree(run, folder)
    edit_checkpoint(folder, edit)
    return folder


@pytest.mark.slow
def test_runs_that_may_have_seen_the_tracks_are_refused(
    train: Callable[..., dict[str, Any]],
    music: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    settings = distillation_options(music, tmp_path)
    others = train("features=mfcc")["folder"]
    machine = train("model=svm")["folder"]
    unsaid = train("test=false", f"outputs={tmp_path}/a")["folder"]
    tuned = copy_with(unsaid, tmp_path / "tuned", {"uint8": ["00"]})
    capsys.readouterr()
    for folder, line in (
        (tmp_path / "none", "distillation.runs="),
        (others, "predicted no training track of this run"),
        (machine, "has no best.ckpt"),
        (unsaid, "predicted no training track of this run"),
        (tuned, "was also trained on rows that cannot be compared"),
        (tmp_path, "this run will lie there too"),
    ):
        with pytest.raises(SystemExit):
            train(*settings, f"distillation.runs=[{folder}]")
        assert line in capsys.readouterr().err
