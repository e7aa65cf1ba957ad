"""What belongs to the process, but differs between the members of a pack."""

import contextlib
import random
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch

from genreclf.training.turns import Member

Kept = tuple[Callable[[], Any], Callable[[Any], None]]  # reads and writes a state of the process


class ProcessState:
    """The states of random number generators and others, exchanged when another member runs.

    Args:
        kept: further states, as pairs of functions that read and write one.
    """

    def __init__(self, kept: Sequence[Kept] = ()) -> None:
        self._kept: list[Kept] = [
            (torch.get_rng_state, torch.set_rng_state),
            (np.random.get_state, np.random.set_state),
            (random.getstate, random.setstate),
            (_read_warnings, _set_warnings),
            (_read_anomaly_mode, _set_anomaly_mode),
            *kept,
        ]
        self._first = self._read()
        self._inside: Member | None = None  # whose state the process has
        self._states: dict[Member, list[Any]] = {}
        self._generators: dict[Member, list[Any]] = {}

    def enter(self, member: Member) -> None:
        """Exchange the state of the last member for that of this one, or for the first."""
        last, self._inside = self._inside, member
        if last is member:
            return
        if last is not None:
            self._keep(last)
        self._write(self._states.get(member, self._first))
        if not torch.cuda.is_initialized():
            return
        generators = torch.cuda.default_generators
        if member not in self._generators:
            # CUDA graphs refer to the state with which they were captured: exchange that object,
            # instead of copying its numbers.
            self._generators[member] = [generator.clone_state() for generator in generators]
        for generator, state in zip(generators, self._generators[member], strict=True):
            generator.graphsafe_set_state(state)

    def leave(self) -> None:
        """Keep the state of the last member, and return to the first one."""
        if self._inside is not None:
            self._keep(self._inside)
            self._write(self._first)
        self._inside = None

    def _keep(self, member: Member) -> None:
        if member.ended:
            self._states.pop(member, None)
            self._generators.pop(member, None)
            return
        self._states[member] = self._read()
        if torch.cuda.is_initialized() and member not in self._generators:  # since its first turn
            own = [generator.graphsafe_get_state() for generator in torch.cuda.default_generators]
            self._generators[member] = own

    @contextlib.contextmanager
    def restored(self) -> Iterator[None]:
        """Restore the state of the beginning at the end."""
        generators = []
        if torch.cuda.is_initialized():
            generators = [each.graphsafe_get_state() for each in torch.cuda.default_generators]
        try:
            yield
        finally:
            self._write(self._first)
            for generator, state in zip(torch.cuda.default_generators, generators, strict=False):
                generator.graphsafe_set_state(state)

    def _read(self) -> list[Any]:
        return [read() for read, _ in self._kept]

    def _write(self, state: Sequence[Any]) -> None:
        for (_, write), value in zip(self._kept, state, strict=True):
            write(value)


def _read_warnings() -> tuple[Any, Any]:
    return warnings.filters, warnings.showwarning


def _set_warnings(state: tuple[Any, Any]) -> None:
    if (warnings.filters, warnings.showwarning) != state:
        warnings.filters, warnings.showwarning = state
        warnings._filters_mutated()  # pyright: ignore  # as `warnings.catch_warnings` does


def _read_anomaly_mode() -> tuple[bool, bool]:
    return torch.is_anomaly_enabled(), torch.is_anomaly_check_nan_enabled()


def _set_anomaly_mode(state: tuple[bool, bool]) -> None:
    torch.set_anomaly_enabled(*state)
