"""Do all nodes of a cluster share a folder? Each proves it: it reads the driver's file, and the driver reads its.

Without this check, steps would be recorded whose files only one node has, or tasks would fail far from the cause.
"""

from __future__ import annotations

import uuid
from typing import Any

from pipelines.errors import InputError
from pipelines.ledger import storage

NODE_SECONDS = 120.0
"""How long a node may take to answer. A task that reserves no CPU starts at once, but its process may have to start."""


def check_shared(folder: str) -> None:
    """Check that every node that runs tasks reads and writes `folder` as the driver does. A node that joins later is
    not asked, and one that dies meanwhile need not answer.

    Raises: InputError: naming the first node that does not, and how to mend it.
    """
    import ray
    from ray.exceptions import RayError
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    token = uuid.uuid4().hex
    place = storage.join(folder, f".nodes-{token}")
    task: Any = ray.remote(num_cpus=0)(_prove)
    storage.write_bytes(storage.join(place, "driver"), token.encode())
    try:
        nodes = {node["NodeID"]: node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU")}
        answers = {
            name: task.options(scheduling_strategy=NodeAffinitySchedulingStrategy(name, soft=False)).remote(
                place, name, token
            )
            for name in nodes
        }
        for name, answer in answers.items():
            try:
                problem = ray.get(answer, timeout=NODE_SECONDS)
            except RayError as error:
                if not any(node["Alive"] for node in ray.nodes() if node["NodeID"] == name):
                    continue
                problem = f"did not answer ({error})"
            if problem is None and storage.size(storage.join(place, name)) != len(token):
                problem = "writes files there that the driver does not see"
            if problem is not None:
                where = (
                    f"{nodes[name]['NodeManagerAddress']} (id {name[:8]}, host {nodes[name]['NodeManagerHostname']})"
                )
                raise InputError(
                    f"{folder}: node {where} {problem}; all nodes must reach this folder under this path: put it on a "
                    "shared file system or an object store, and name that place with --root"
                )
    finally:
        storage.remove(place)


def _prove(place: str, node: str, token: str) -> str | None:
    """Read the driver's file and write this node's beside it; returns what is wrong."""
    try:
        if storage.read_bytes(storage.join(place, "driver")) != token.encode():
            return "reads other bytes there than the driver wrote"
        storage.write_bytes(storage.join(place, node), token.encode())
    except FileNotFoundError:
        return "does not see files there that the driver writes"
    except Exception as error:
        return f"cannot use it ({error})"
    return None
