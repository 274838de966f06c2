"""docker-compose.yml, the Dockerfile and deploy/ say what they must; `python -m tests.cluster` runs the first."""

from __future__ import annotations

import importlib.resources
import json
import re
from typing import Any

import jsonschema
import pytest
import yaml

from tests.cluster.compose import ROOT, containers, image

TEXT = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
COMPOSE: dict[str, Any] = yaml.safe_load(TEXT)
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
PASSWORDS = {"POSTGRES_PASSWORD": "0", "S3_PASSWORD": "1", "RAY_TOKEN": "2", "PREFECT_KEY": "3"}


def schema(package: str, name: str) -> Any:
    """A JSON schema that an installed package has."""
    return json.loads(importlib.resources.files(package).joinpath(name).read_text(encoding="utf-8"))


def test_the_compose_file_is_valid_against_the_compose_specification() -> None:
    spec = schema("check_jsonschema", "builtin_schemas/vendor/compose-spec.json")
    jsonschema.Draft7Validator(spec).validate(COMPOSE)


def test_every_service_that_stays_has_a_health_check_and_every_one_a_memory_limit() -> None:
    for name, service in COMPOSE["services"].items():
        once = service.get("restart") == "no"
        assert once or service["healthcheck"]["test"], name
        assert "mem_limit" in service or service["deploy"]["resources"]["limits"]["memory"], name


def test_every_dependency_is_a_service_and_has_what_its_condition_asks_for() -> None:
    for service in COMPOSE["services"].values():
        for name, condition in service.get("depends_on", {}).items():
            needed = COMPOSE["services"][name]
            assert condition == {
                "condition": "service_healthy" if "healthcheck" in needed else "service_completed_successfully"
            }


def test_ports_are_published_on_loopback_only() -> None:
    ports = [port for service in COMPOSE["services"].values() for port in service.get("ports", [])]
    assert ports and all(port.startswith("127.0.0.1:") for port in ports)


@pytest.mark.parametrize("name", PASSWORDS)
def test_a_missing_password_is_an_error_that_says_where_to_write_it(name: str) -> None:
    with pytest.raises(ValueError, match=rf"{name} is missing a value: write {name}=\.\.\. to \.env"):
        containers({other: value for other, value in PASSWORDS.items() if other != name})
    assert not re.search(r"PASSWORD:?-", TEXT)


def test_ray_and_prefect_answer_who_has_their_key_alone() -> None:
    for name, container in containers(PASSWORDS).items():
        if not container.built:
            continue
        assert container.environment["PREFECT_API_AUTH_STRING"] == "winnow:3", name
        if name == "prefect-server":
            assert container.environment["PREFECT_SERVER_API_AUTH_STRING"] == "winnow:3"
        else:
            assert (container.environment["RAY_AUTH_MODE"], container.environment["RAY_AUTH_TOKEN"]) == (
                "token",
                "2",
            ), name


def test_one_variable_sets_the_cpus_of_a_ray_worker_and_one_how_many_there_are() -> None:
    found = containers(PASSWORDS | {"WORKER_CPUS": "3", "WORKERS": "4"})
    workers = [container for container in found.values() if container.service == "ray-worker"]
    assert len(workers) == 4 and all("--num-cpus=3" in worker.command for worker in workers)
    assert COMPOSE["services"]["ray-worker"]["deploy"]["resources"]["limits"]["cpus"] == "${WORKER_CPUS:-1}"


def test_one_variable_sets_the_root_of_every_node_which_is_a_shared_volume_or_the_store() -> None:
    for root, found in (
        ("/data", containers(PASSWORDS)),
        ("s3://winnow", containers(PASSWORDS | {"WINNOW_ROOT": "s3://winnow"})),
    ):
        nodes = [found[name] for name in ("ray-head", "ray-worker-1", "ray-worker-2", "prefect-worker")]
        assert all(node.environment["WINNOW_ROOT"] == root for node in nodes)
        assert all(("data", "/data") in node.volumes and node.environment["AWS_ENDPOINT_URL"] for node in nodes)


def test_images_are_pinned_by_digest() -> None:
    images = [service["image"] for service in COMPOSE["services"].values() if "build" not in service]
    images += re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE)
    assert len(images) == 4 and all(re.search(r":[\w.-]+@sha256:[0-9a-f]{64}$", name) for name in images)


def test_the_image_has_every_room_and_pinned_packages_and_a_user_without_rights() -> None:
    for room in ("dedup", "filters", "pipelines", "training", "flows"):
        assert f"COPY {room} {room}" in DOCKERFILE
    assert "-c constraints.txt" in DOCKERFILE and "USER winnow" in DOCKERFILE and image().user > 0


def test_the_cluster_of_ray_up_is_valid_against_rays_schema() -> None:
    text = yaml.safe_load((ROOT / "deploy/ray-cluster.yaml").read_text(encoding="utf-8"))
    jsonschema.Draft7Validator(schema("ray.autoscaler", "ray-schema.json")).validate(text)


POD: dict[str, Any] = {
    "type": "object",
    "required": ["spec"],
    "properties": {
        "spec": {
            "type": "object",
            "required": ["containers"],
            "properties": {
                "securityContext": {"type": "object"},
                "containers": {
                    "type": "array",
                    "minItems": 1,
                    "items": {
                        "type": "object",
                        "required": ["name", "image", "resources"],
                        "properties": {
                            "name": {"type": "string"},
                            "image": {"type": "string"},
                            "envFrom": {"type": "array"},
                            "env": {
                                "items": {
                                    "required": ["name", "value"],
                                    "properties": {"value": {"type": "string"}},
                                }
                            },
                            "ports": {"type": "array"},
                            "resources": {"type": "object", "required": ["requests", "limits"]},
                        },
                        "additionalProperties": False,
                    },
                },
            },
            "additionalProperties": False,
        }
    },
    "additionalProperties": False,
}

START: dict[str, Any] = {"type": "object", "additionalProperties": {"type": "string"}}

RAY_JOB: dict[str, Any] = {
    "type": "object",
    "required": ["apiVersion", "kind", "metadata", "spec"],
    "properties": {
        "apiVersion": {"const": "ray.io/v1"},
        "kind": {"const": "RayJob"},
        "spec": {
            "type": "object",
            "required": ["entrypoint", "rayClusterSpec"],
            "properties": {
                "entrypoint": {"type": "string"},
                "submissionMode": {"enum": ["K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"]},
                "backoffLimit": {"type": "integer"},
                "shutdownAfterJobFinishes": {"type": "boolean"},
                "ttlSecondsAfterFinished": {"type": "integer"},
                "rayClusterSpec": {
                    "type": "object",
                    "required": ["headGroupSpec"],
                    "properties": {
                        "rayVersion": {"type": "string"},
                        "authOptions": {"const": {"mode": "token"}},
                        "headGroupSpec": {
                            "type": "object",
                            "required": ["template"],
                            "properties": {"rayStartParams": START, "template": POD},
                            "additionalProperties": False,
                        },
                        "workerGroupSpecs": {
                            "items": {
                                "type": "object",
                                "required": ["groupName", "minReplicas", "maxReplicas", "template"],
                                "properties": {
                                    "groupName": {"type": "string"},
                                    "replicas": {"type": "integer"},
                                    "minReplicas": {"type": "integer"},
                                    "maxReplicas": {"type": "integer"},
                                    "rayStartParams": START,
                                    "template": POD,
                                },
                                "additionalProperties": False,
                            }
                        },
                    },
                    "additionalProperties": False,
                },
            },
            "additionalProperties": False,
        },
    },
}
"""The parts of KubeRay's RayJob (ray.io/v1) that the manifest uses, written from its reference."""


def test_the_manifest_of_kuberay_has_the_keys_and_types_of_a_ray_job() -> None:
    text = yaml.safe_load((ROOT / "deploy/rayjob.yaml").read_text(encoding="utf-8"))
    jsonschema.Draft7Validator(RAY_JOB).validate(text)
    cluster = text["spec"]["rayClusterSpec"]
    import ray

    assert cluster["rayVersion"] == ray.__version__
    pods = [cluster["headGroupSpec"], *(group for group in cluster["workerGroupSpecs"])]
    assert len({pod["template"]["spec"]["containers"][0]["image"] for pod in pods}) == 1
    assert all(pod["template"]["spec"]["securityContext"]["runAsUser"] == image().user for pod in pods)
