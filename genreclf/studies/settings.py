"""The settings of a study, as in an option of conf/study/, checked."""

import difflib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from genreclf.errors import InputError

TEST = "test"  # name of the phase that tests the winner


@dataclass(frozen=True)
class StudySettings:
    """The settings of a study; their defaults are in conf/study.yaml.

    Attributes:
        phases: the names of their options in conf/phase/, in order.
        overrides: apply to all runs, until a phase chooses something else.
        phase_overrides: further overrides, by phase.
        metric: each phase chooses the point with the best mean of this metric, one that its runs
            log; None: none is chosen.
        seeds: each point is run once with each seed.
        test: the phase whose winner is tested at the end; None: no winner is tested.
    """

    phases: list[str]
    overrides: list[str]
    phase_overrides: dict[str, list[str]]
    metric: str | None
    seeds: list[int]
    test: str | None

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> "StudySettings":
        """Read and check plain values, one for each setting.

        Raises:
            InputError: a key is unknown, or a value is of another kind.
        """
        known = [each.name for each in fields(cls)]
        for key in values:
            if key not in known:
                near = (difflib.get_close_matches(str(key), known, 1) or [", ".join(known)])[0]
                raise InputError(f"study.{key}: a study has no such setting; did you mean {near}?")
        if missing := [key for key in known if key not in values]:
            raise InputError(f"study.{missing[0]}=... is needed")
        settings = cls(**values)
        for key in ("phases", "overrides"):
            _check_list(f"study.{key}", getattr(settings, key), str, "models")
        _check_list("study.seeds", settings.seeds, int, "0")
        if not isinstance(settings.phase_overrides, Mapping):
            raise InputError(
                "study.phase_overrides: name the phase: study.phase_overrides.PHASE=[...]"
            )
        for phase, overrides in settings.phase_overrides.items():
            _check_list(f"study.phase_overrides.{phase}", overrides, str, "seed=1")
        settings._check_values()
        return settings

    def _check_values(self) -> None:
        if not self.phases or not self.seeds:
            raise InputError("study.phases and study.seeds: give at least one of each")
        for key, counts in (("phases", Counter(self.phases)), ("seeds", Counter(self.seeds))):
            if repeated := [value for value, count in counts.items() if count > 1]:
                raise InputError(f"study.{key}: {repeated[0]} is in the list twice")
        if wrong := [seed for seed in self.seeds if not 0 <= seed < 2**32]:
            raise InputError(f"study.seeds: {wrong[0]} is not a number from 0 to {2**32 - 1}")
        if self.test is not None and self.metric is None:
            raise InputError(
                f"study.test={self.test}: with study.metric=null no phase has a winner to test; "
                "set study.metric, or study.test=null"
            )
        if self.test is not None and TEST in self.phases:
            raise InputError(f"study.phases: {TEST} stands for the test at the end; rename it")


def _check_list(key: str, values: Any, kind: type, example: str) -> None:
    plain = isinstance(values, list) and all(type(value) is kind for value in values)
    if not plain:
        name = "numbers" if kind is int else "texts"
        raise InputError(f"{key}={values}: a list of {name} is needed, such as [{example}]")
