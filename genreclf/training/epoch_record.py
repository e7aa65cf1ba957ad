"""Keeps what the metrics of an epoch are computed from, on the device."""

import torch
from torch import Tensor


class EpochRecord:
    """Losses, logits and labels of the batches of one epoch, in memory allocated once.

    Nothing is read before the end of the epoch, so the host need not wait for the device, and
    writing can be part of a CUDA graph.

    Args:
        batches: maximum number of batches.
        batch_size: maximum number of clips per batch; the last one may have one more.
        classes: number of genres.
        device: the device of the batches.

    Attributes:
        sizes: number of clips of each batch so far.
    """

    def __init__(self, batches: int, batch_size: int, classes: int, device: torch.device) -> None:
        self.sizes: list[int] = []
        rows = batches * batch_size + 1
        self._logits = torch.zeros(rows, classes, device=device)
        self._labels = torch.zeros(rows, dtype=torch.long, device=device)
        self._terms = torch.full((batches, 2), torch.nan, device=device)  # loss, distillation error
        self._row, self._batch = torch.zeros(2, 1, dtype=torch.long, device=device)

    def write(
        self, loss: Tensor, logits: Tensor, labels: Tensor, error: Tensor | None = None
    ) -> None:
        """Write a batch: its loss, logits (batch, classes), labels (batch,), distillation error."""
        rows = self._row + torch.arange(len(labels), device=labels.device)
        self._logits.index_copy_(0, rows, logits.detach().float())
        self._labels.index_copy_(0, rows, labels)
        terms = torch.stack([loss, loss if error is None else error]).detach().float()
        self._terms.index_copy_(0, self._batch, terms[None])
        self._row += len(labels)
        self._batch += 1

    def note_batch(self, size: int) -> None:
        """Count a written batch on the host."""
        self.sizes.append(size)

    def read(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Read the epoch and start the next one.

        Returns:
            The means over all clips of the loss and of the distillation error (the loss again if
            there was none); logits (clips, classes); and labels (clips,).
        """
        sizes = torch.tensor(self.sizes, dtype=torch.float32, device=self._terms.device)
        means = (self._terms[: len(sizes)] * sizes[:, None]).sum(dim=0) / sizes.sum()
        rows = sum(self.sizes)
        logits, labels = self._logits[:rows].clone(), self._labels[:rows].clone()
        self.sizes.clear()
        self._row.zero_()
        self._batch.zero_()
        return means[0], means[1], logits, labels
