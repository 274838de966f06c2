"""Reads docker-compose.yml and the Dockerfile: what does each container run, with which environment and volumes?"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]

VARIABLE = re.compile(r"\$\{(?P<name>\w+)(?:(?P<kind>:[-?])(?P<text>[^}]*))?\}")

UNITS = {"k": 1 << 10, "m": 1 << 20, "g": 1 << 30}


@dataclass(frozen=True)
class Container:
    """One container of a service. name: of the host, `ray-worker-2` for a second replica. healthcheck: a command, or
    empty. depends_on: service -> condition. volumes: (volume, folder). restart: whether it starts again at its end."""

    name: str
    service: str
    image: str
    built: bool
    command: tuple[str, ...]
    environment: dict[str, str]
    volumes: tuple[tuple[str, str], ...]
    ports: tuple[int, ...]
    healthcheck: tuple[str, ...]
    depends_on: dict[str, str]
    shm_bytes: int
    restart: bool
    profiles: tuple[str, ...]


@dataclass(frozen=True)
class Image:
    """What the Dockerfile says of the processes of its image."""

    environment: dict[str, str]
    folder: str
    user: int


def interpolated(value: Any, variables: Mapping[str, str]) -> Any:
    """A value of the file with its `${NAME}`, `${NAME:-default}` and `${NAME:?message}` replaced.

    Raises: ValueError: with the message, if a required variable is missing or empty.
    """
    if isinstance(value, dict):
        return {key: interpolated(inner, variables) for key, inner in value.items()}
    if isinstance(value, list):
        return [interpolated(inner, variables) for inner in value]
    if not isinstance(value, str):
        return value

    def replace(match: re.Match[str]) -> str:
        name, kind, text = match["name"], match["kind"], match["text"]
        if variables.get(name):
            return variables[name]
        if kind == ":?":
            raise ValueError(f"required variable {name} is missing a value: {text}")
        return text or ""

    return VARIABLE.sub(replace, value).replace("$$", "$")


def containers(variables: Mapping[str, str], file: Path = ROOT / "docker-compose.yml") -> dict[str, Container]:
    """The containers that `docker compose up` starts, by name; those of profiles too."""
    text = yaml.safe_load(file.read_text(encoding="utf-8"))
    services = interpolated(text["services"], variables)
    found: dict[str, Container] = {}
    for name, service in services.items():
        replicas = int(service.get("deploy", {}).get("replicas", 1))
        test = service.get("healthcheck", {}).get("test", [])
        volumes = [volume.split(":") for volume in service.get("volumes", [])]
        for number in range(1, replicas + 1):
            container = Container(
                name=f"{name}-{number}" if replicas > 1 else name,
                service=name,
                image=service["image"],
                built="build" in service,
                command=tuple(service.get("command", ())),
                environment={key: str(value) for key, value in service.get("environment", {}).items()},
                volumes=tuple((volume[0], volume[1]) for volume in volumes),
                ports=tuple(int(port.split(":")[-1]) for port in service.get("ports", [])),
                healthcheck=_command_of(test),
                depends_on={key: value["condition"] for key, value in service.get("depends_on", {}).items()},
                shm_bytes=_bytes(service.get("shm_size", "64m")),
                restart=service.get("restart", "no") != "no",
                profiles=tuple(service.get("profiles", ())),
            )
            found[container.name] = container
    return found


def image(file: Path = ROOT / "Dockerfile") -> Image:
    """Environment (without PATH), folder and user id of the last stage."""
    stage = re.split(r"^FROM ", file.read_text(encoding="utf-8"), flags=re.MULTILINE)[-1].replace("\\\n", " ")
    environment = dict(
        word.split("=", 1) for line in re.findall(r"^ENV (.*)$", stage, re.MULTILINE) for word in line.split()
    )
    environment.pop("PATH")
    folder, user = re.search(r"^WORKDIR (\S+)", stage, re.MULTILINE), re.search(r"--uid (\d+)", stage)
    assert folder and user, "the last stage of the Dockerfile has a WORKDIR and a user with a number"
    return Image(environment, folder[1], int(user[1]))


def _command_of(test: list[str]) -> tuple[str, ...]:
    if not test:
        return ()
    return ("sh", "-c", test[1]) if test[0] == "CMD-SHELL" else tuple(test[1:])


def _bytes(size: str) -> int:
    return int(size[:-1]) * UNITS[size[-1]] if size[-1] in UNITS else int(size)
