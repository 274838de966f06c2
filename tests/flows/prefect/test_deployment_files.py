"""prefect.yaml names flows that exist, with parameters that they have."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import yaml

from training.names import TRAINING_NAMES

ROOT = Path(__file__).parents[3]

DEPLOYMENTS: list[dict[str, Any]] = yaml.safe_load((ROOT / "prefect.yaml").read_text(encoding="utf-8"))["deployments"]


def test_every_deployment_points_at_a_flow_and_gives_only_parameters_that_it_takes() -> None:
    names = [deployment["name"] for deployment in DEPLOYMENTS]
    assert names == ["curate", "scan", "train", "evaluate", "curate-train-evaluate"]
    assert all("winnow" in deployment["tags"] and deployment["description"] for deployment in DEPLOYMENTS)
    (schedule,) = DEPLOYMENTS[0]["schedules"]
    assert schedule["cron"] == "0 3 * * *" and ZoneInfo(schedule["timezone"])
    for deployment in DEPLOYMENTS:
        module, name = deployment["entrypoint"].rsplit(".", 1)
        flow = getattr(importlib.import_module(module), name)
        assert set(deployment.get("parameters", {})) <= set(flow.parameters.properties), deployment["name"]


@pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=lambda deployment: deployment["name"])
def test_the_run_form_describes_every_parameter_and_has_bounds_and_lists(deployment: dict[str, Any]) -> None:
    module, name = deployment["entrypoint"].rsplit(".", 1)
    properties = getattr(importlib.import_module(module), name).parameters.properties
    assert all(value.get("description") for value in properties.values())
    assert properties["root"]["default"] is None  # resolved where the flow runs
    if "workers" in properties:
        assert properties["workers"]["anyOf"] == [{"minimum": 1, "type": "integer"}, {"type": "null"}]
    if "recipe" in properties:
        chosen, written = properties["recipe"]["anyOf"]
        assert "demo" in chosen["enum"] and written == {"type": "string", "title": "path or URL"}
    if "config" in properties:
        assert properties["config"]["enum"] == list(TRAINING_NAMES)
