"""Several runs in one process: each in a thread of its own, taking turns.

Exactly one member of a pack runs at any time. It passes its turn after each batch of training,
validation and prediction (`TakeTurns`). At each change, what belongs to the process but
not to a run, such as the state of the random number generators, is exchanged. So a run is what it
would be alone, whatever its model, its callbacks and its loggers are.

On a GPU each member has a stream of its own: the GPU works on the batches of several members while
one of them prepares its next.
"""

import contextlib
import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback

from genreclf.training import memory
from genreclf.training.process_state import Kept, ProcessState
from genreclf.training.turns import Member

SETTLED = 5  # training steps after which a member's memory is known; CUDA graphs exist by then
MARGIN = 1.5  # times the memory of a member that must be free before another one is admitted
PAUSE = 0.1  # seconds until locked files are tried again, if nothing else is to be done
log = logging.getLogger(__name__)


class Pack:
    """Runs jobs in one process, each in a thread of its own, of which one runs at a time.

    The second member is admitted when the memory of the first is known, and each further one as
    long as there is room for one more.

    Args:
        jobs: what to run; each takes turns with the others wherever it calls `pass_turn`.
        max_runs: maximum number of members at a time; None for as many as fit in memory.
        kept: further states of the process that are exchanged, as pairs of functions that read and
            write one.
        measure: measures the memory that this process uses, and that is free, by its kind.
    """

    def __init__(
        self,
        jobs: Sequence[Callable[[], Any]],
        max_runs: int | None = None,
        kept: Sequence[Kept] = (),
        measure: Callable[[], Mapping[str, memory.Usage]] = memory.measure_memory,
    ) -> None:
        shared: dict[Any, Any] = {}
        self.members = [Member(number, job, shared) for number, job in enumerate(jobs)]
        self._limit = max_runs or len(jobs)
        self._state = ProcessState(kept)
        self._measure = measure
        self._waiting = list(self.members)
        self._active: list[Member] = []
        self._before = measure()
        self._fresh = 0  # members that began since
        self._needed: dict[str, float] = {}  # bytes of a member, by kind of memory
        self._most = 0  # members at a time so far
        self._signals = 0

    def run(self) -> list[Member]:
        """Run all jobs, and return the members in the order of the jobs.

        Raises:
            KeyboardInterrupt: Ctrl-C or SIGTERM; all members have ended after their current batch.
        """
        stopping = False
        with self._catch_signals(), self._state.restored():
            while self._waiting or self._active:
                if self._signals and not stopping:
                    stopping = True
                    self._waiting.clear()
                    self._log("stopping after the current batch of each run")
                self._admit()
                for member in list(self._active):
                    self._run_turn(member)
                if self._active and all(member.is_blocked for member in self._active):
                    time.sleep(PAUSE)
        if self._signals:
            raise KeyboardInterrupt
        for member in self.members:
            if member.error:
                raise member.error
        return self.members

    def _run_turn(self, member: Member) -> None:
        self._state.enter(member)
        member.run_turn(stop=self._signals > 0)
        if member.ended:
            self._active.remove(member)
            if self._fresh and not self._needed:  # too short to have settled
                self._note_needs(self._measure())
            memory.release_memory()
            if member.exhausted:
                self._limit = max(1, len(self._active))

    def _admit(self) -> None:
        """Admit the next member if there is room for it."""
        if not self._waiting or len(self._active) >= self._limit:
            return
        if self._active and len(self._active) >= self._most and not self._has_room():
            return  # fewer than before do fit, even where the system counts freed memory as used
        self._fresh += 1
        self._active.append(self._waiting.pop(0))
        self._most = max(self._most, len(self._active))
        for member in self._active:
            member.sharing = max(member.sharing, len(self._active))

    def _has_room(self) -> bool:
        """Whether another member fits, next to those whose memory is not in use yet."""
        new = sum(member.steps < SETTLED and not member.is_blocked for member in self._active)
        if new and not self._needed:
            return False
        now = self._measure()
        if self._fresh and not new:
            self._note_needs(now)
        short = [k for k in now if now[k].free < MARGIN * (1 + new) * self._needed.get(k, 0)]
        if short and not new:
            self._log(f"{len(self._active)} runs at a time: {short[0]} has no room for more")
            self._limit = len(self._active)
        return not short

    def _note_needs(self, now: Mapping[str, memory.Usage]) -> None:
        """Note by how much memory has grown with each of the last members."""
        for kind, usage in now.items():
            before = self._before[kind].used if kind in self._before else 0  # a GPU, not yet used
            grown = (usage.used - before) / self._fresh
            self._needed[kind] = max(self._needed.get(kind, 0), grown)
        self._before, self._fresh = now, 0

    def _log(self, line: str) -> None:
        self._state.leave()  # or it would be written to the log of a member
        log.info(line)

    @contextlib.contextmanager
    def _catch_signals(self) -> Iterator[None]:
        """Note Ctrl-C and SIGTERM, where Python allows it; the second time, act immediately."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def note(number: int, _: Any) -> None:
            self._signals += 1
            if self._signals > 1:
                raise KeyboardInterrupt

        numbers = (signal.SIGINT, signal.SIGTERM)
        before = [signal.signal(number, note) for number in numbers]
        try:
            yield
        finally:
            for number, handler in zip(numbers, before, strict=True):
                signal.signal(number, handler)


class TakeTurns(Callback):
    """Lets the other runs of the pack run after each batch.

    Args:
        member: the run's place in the pack.
    """

    def __init__(self, member: Member) -> None:
        self.member = member

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """On a GPU, use a stream of its own, so that the GPU works on several runs at a time."""
        if trainer.strategy.root_device.type == "cuda":
            self.member.use_own_stream(trainer.strategy.root_device)

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any, **__: Any) -> None:
        """Count the step and pass the turn."""
        self.member.steps += 1
        self.member.pass_turn()

    def on_validation_batch_end(self, trainer: Any, pl_module: Any, *_: Any, **__: Any) -> None:
        """Pass the turn."""
        self.member.pass_turn()

    def on_predict_batch_end(self, trainer: Any, pl_module: Any, *_: Any, **__: Any) -> None:
        """Pass the turn."""
        self.member.pass_turn()
