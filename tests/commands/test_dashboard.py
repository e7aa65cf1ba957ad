import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from genreclf.commands.dashboard import make_workspace


@pytest.fixture
def panels() -> dict[str, list[dict[str, Any]]]:
    """What W&B is sent: the panels of each section."""
    spec = make_workspace("me", "genreclf", "Paper")._spec["spec"]
    return {
        section["name"]: section["panels"]
        for section in spec["section"]["panelBankConfig"]["sections"]
    }


def configs(panels: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [panel["config"] for panel in panels if panel["viewType"] == kind]


@pytest.mark.parametrize(
    ("section", "settings"),
    [
        ("Learning rates, Fig. 3", {"optimizer.value.lr"}),
        ("Optimizers, Fig. 4", {"optimizer.value._target_", "scheduler.value._target_"}),
    ],
)
def test_curves_are_grouped_by_what_the_phase_varies(
    panels: dict[str, list[dict[str, Any]]], section: str, settings: set[str]
) -> None:
    curves = configs(panels[section], "Run History Line Plot")
    assert {curve["groupBy"] for curve in curves if curve["metrics"] == ["val/accuracy"]} == (
        settings
    )
    assert {curve["xAxis"] for curve in curves} == {"epoch"}


def test_the_grid_has_parallel_coordinates(panels: dict[str, list[dict[str, Any]]]) -> None:
    (grid,) = configs(panels["Grid, Fig. 5"], "Parallel Coordinates Plot")
    assert [column["accessor"] for column in grid["columns"]] == [
        "config:optimizer.value.beta2",
        "config:model.value.cnn_dropout",
        "config:model.value.classifier_dropout",
        "config:optimizer.value.weight_decay",
        "summary:best/val/accuracy",
    ]


def test_charts_read_the_tables_that_a_run_logs(panels: dict[str, list[dict[str, Any]]]) -> None:
    charts = configs(panels["Confusion matrix and ROC, Figs. 6 and 7"], "Vega2")
    tables = [
        chart["userQuery"]["queryFields"][0]["fields"][0]["args"][0]["value"] for chart in charts
    ]
    assert tables == ["confusion_matrix_table", "roc_table"]
    assert [chart["panelDefId"] for chart in charts] == [
        "wandb/confusion_matrix/v1",
        "wandb/area-under-curve/v0",
    ]


def test_misclassified_tracks_and_spectrograms_are_shown(
    panels: dict[str, list[dict[str, Any]]],
) -> None:
    shown = panels["Misclassified tracks"]
    assert configs(shown, "Media Browser")[0]["mediaKeys"] == ["spectrograms"]
    assert "wrong_tracks" in json.dumps(configs(shown, "Weave"))


def test_a_file_holds_the_runs_of_one_phase(command: Callable[..., str], tmp_path: Path) -> None:
    file = tmp_path / "workspace.json"
    assert command("dashboard", f"file={file}", "group=paper", "job_type=grid") == str(file)
    (runs,) = json.loads(file.read_text())["section"]["runSets"]
    wanted = json.dumps(runs["filters"])
    assert '"paper"' in wanted
    assert '"grid"' in wanted


def test_a_missing_login_is_one_line(
    command: Callable[..., str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("wandb.login", lambda **_: False)
    with pytest.raises(SystemExit):
        command("dashboard")
    assert "genreclf: not logged in to W&B: run wandb login" in capsys.readouterr().err


def test_the_workspace_is_saved_in_the_default_entity(
    command: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    saved = []

    def upsert(view: Any) -> dict[str, Any]:
        saved.append(view)
        return {"upsertView": {"view": {"name": "nw-abc-v", "id": "1"}}}

    class Api:
        default_entity = "me"

    monkeypatch.setattr("wandb.login", lambda **_: True)
    monkeypatch.setattr("wandb.Api", Api)
    internals = "wandb_workspaces.workspaces"
    monkeypatch.setattr(f"{internals}.internal.upsert_view2", upsert)
    monkeypatch.setattr(f"{internals}.interface.get_app_url", lambda _: "https://wandb.ai")
    assert command("dashboard", "project=p") == "https://wandb.ai/me/p?nw=abc"
    assert (saved[0].entity, saved[0].project) == ("me", "p")


def test_a_missing_extra_is_named(
    command: Callable[..., str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in [name for name in sys.modules if name.startswith("wandb_workspaces")]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, "genreclf.commands.dashboard")
    with pytest.raises(SystemExit):
        command("dashboard")
    assert "pip install 'genreclf[dashboard]'" in capsys.readouterr().err
