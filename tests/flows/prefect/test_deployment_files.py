"""docker-compose.yml, Dockerfile and prefect.yaml name services, commands and flows that exist."""

from __future__ import annotations

import importlib
import importlib.resources
import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import jsonschema
import pytest
import yaml

from training.names import CONFIG_NAMES

ROOT = Path(__file__).parents[3]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))


def test_the_compose_file_is_valid_against_the_compose_specification() -> None:
    schema = (
        importlib.resources.files("check_jsonschema")
        .joinpath("builtin_schemas/vendor/compose-spec.json")
        .read_text(encoding="utf-8")
    )
    jsonschema.Draft7Validator(json.loads(schema)).validate(COMPOSE)


def test_the_compose_file_has_all_five_services_each_with_a_health_check() -> None:
    services = COMPOSE["services"]
    assert set(services) == {"postgres", "prefect-server", "prefect-worker", "ray-head", "ray-worker"}
    assert all(service["healthcheck"]["test"] for service in services.values())


def test_every_dependency_between_services_exists_and_waits_for_health() -> None:
    for service in COMPOSE["services"].values():
        for name, condition in service.get("depends_on", {}).items():
            assert name in COMPOSE["services"] and condition == {"condition": "service_healthy"}


def test_ports_are_published_on_loopback_only() -> None:
    ports = [port for service in COMPOSE["services"].values() for port in service.get("ports", [])]
    assert ports and all(port.startswith("127.0.0.1:") for port in ports)


def commands() -> list[list[str]]:
    """Every command that a service of this project's image starts, with shell lines split into commands."""
    lines = []
    for service in COMPOSE["services"].values():
        if "build" not in service:
            continue
        for command in (service["command"], service["healthcheck"]["test"][1:]):
            if command[0] in ("bash", "sh"):
                command = command[-1:]
            for line in command if len(command) == 1 else [" ".join(command)]:
                for part in re.split(r"&&|\|\||\||[()]", line):
                    words = part.split()
                    if words:
                        lines.append(words[1:] if words[0] == "exec" else words)
    return lines


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_every_command_of_the_services_exists_with_its_options(words: list[str]) -> None:
    name, *rest = words
    if name in ("curl", "grep", "bash"):
        assert shutil.which(name) or (name == "curl" and "curl" in (ROOT / "Dockerfile").read_text(encoding="utf-8"))
        return
    assert (Path(sys.executable).parent / name).exists(), f"{name} is not installed with winnow"
    if name == "ray":
        from ray.scripts.scripts import cli

        command = cli.commands[rest[0]]
        options = {option for parameter in command.params for option in parameter.opts}
        assert {word.split("=")[0] for word in rest if word.startswith("--")} <= options
    if name == "prefect":
        import subprocess

        verbs = [
            word
            for word in rest
            if not word.startswith("-") and word not in ("winnow", "process", "json", "0.0.0.0", "4200")
        ]
        text = subprocess.run(
            [Path(sys.executable).parent / "prefect", *verbs, "--help"], capture_output=True, text=True, check=True
        ).stdout
        for option in (word for word in rest if word.startswith("--") and word != "--no-prompt"):
            assert option in text, f"{' '.join(words)}: no option {option}"


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
        assert "demo" in chosen["enum"] and written == {"type": "string"}
    if "config" in properties:
        assert properties["config"]["enum"] == list(CONFIG_NAMES)


def test_the_image_copies_every_room() -> None:
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    for room in ("dedup", "filters", "pipelines", "training", "flows"):
        assert f"COPY {room} {room}" in text
