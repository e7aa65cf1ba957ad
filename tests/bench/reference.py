"""A plain implementation, as in the paper's published scripts, to compare genreclf with.

librosa file by file, everything in memory, a plain PyTorch loop in eager mode with the default
memory format. Written from the paper's description; uses nothing of genreclf.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

SAMPLE_RATE, SECONDS = 22050, 30


def mel_spectrogram(path: str | Path) -> np.ndarray:
    """Mel spectrogram (128, 1292) of a clip of 30 s, in dB below its loudest bin."""
    import librosa

    samples, rate = librosa.load(path, sr=SAMPLE_RATE, duration=SECONDS)
    samples = librosa.util.fix_length(samples, size=SAMPLE_RATE * SECONDS)
    mel = librosa.feature.melspectrogram(y=samples, sr=rate, n_fft=2048, hop_length=512, n_mels=128)
    return librosa.power_to_db(mel, ref=np.max)


def extract(paths: Sequence[Path], archive: Path | None) -> np.ndarray:
    """All mel spectrograms, and where an archive is named, that compressed file of them."""
    features = np.stack([mel_spectrogram(path) for path in paths])
    if archive is not None:
        np.savez_compressed(archive, features=features)
    return features


class Net(nn.Module):
    """The paper's CNN-GRU with attention: (batch, bins, frames) -> logits (batch, 8)."""

    def __init__(self, dropout: float = 0.3) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 32, 3, padding=1)
        self.norm1 = nn.BatchNorm2d(32)
        self.depthwise2 = nn.Conv2d(32, 32, 3, padding=1, groups=32, bias=False)
        self.norm2a = nn.BatchNorm2d(32)
        self.pointwise2 = nn.Conv2d(32, 64, 1, bias=False)
        self.norm2b = nn.BatchNorm2d(64)
        self.depthwise3 = nn.Conv2d(64, 64, 3, padding=1, groups=64, bias=False)
        self.norm3a = nn.BatchNorm2d(64)
        self.pointwise3 = nn.Conv2d(64, 128, 1, bias=False)
        self.norm3b = nn.BatchNorm2d(128)
        self.gru = nn.GRU(128, 32, num_layers=2, batch_first=True)
        self.residual = nn.Linear(128, 32)
        self.score = nn.Sequential(nn.Linear(32, 16), nn.Tanh(), nn.Linear(16, 1))
        self.output = nn.Linear(32, 8)
        self.pool, self.relu = nn.MaxPool2d(2), nn.ReLU()
        self.drop2, self.drop3 = nn.Dropout2d(dropout / 2), nn.Dropout2d(dropout)
        self.drop = nn.Dropout(dropout)

    def forward(self, features: Tensor) -> Tensor:
        """Logits."""
        x = self.pool(self.relu(self.norm1(self.conv1(features.unsqueeze(1)))))
        x = self.relu(self.norm2a(self.depthwise2(x)))
        x = self.drop2(self.pool(self.relu(self.norm2b(self.pointwise2(x)))))
        x = self.relu(self.norm3a(self.depthwise3(x)))
        x = self.drop3(self.pool(self.relu(self.norm3b(self.pointwise3(x)))))
        x = x.mean(dim=2).transpose(1, 2)
        x = self.gru(x)[0] + self.residual(x)
        weights = self.score(x).softmax(dim=1)
        return self.output(self.drop((weights * x).sum(dim=1)))


def batches(
    features: Tensor, labels: Tensor, order: Sequence[int]
) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of 16, in this order."""
    for first in range(0, len(order), 16):
        rows = order[first : first + 16]
        yield features[rows], labels[rows]


def train(
    net: nn.Module,
    optimizer: torch.optim.Optimizer,
    features: Tensor,
    labels: Tensor,
    order: Sequence[int],
) -> list[float]:
    """One epoch; the loss of each step."""
    net.train()
    losses = []
    for inputs, targets in batches(features, labels, order):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(net(inputs), targets)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@torch.no_grad()
def predict(net: nn.Module, features: Tensor) -> Tensor:
    """Class probabilities (tracks, 8)."""
    net.eval()
    rows = range(len(features))
    parts = [net(inputs).softmax(dim=1) for inputs, _ in batches(features, features, rows)]
    return torch.cat(parts)
