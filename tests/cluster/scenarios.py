"""What the cluster must do, and survive. A scenario takes the running cluster and returns a row of the table.

Each works in a root of its own (`Bench.root`) and leaves every service running. To add one, write a function in the
module of its subject and name it in SCENARIOS.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.cluster import faults, work
from tests.cluster.bench import Bench, Row

Scenario = Callable[[Bench], Row]

CORE: tuple[Scenario, ...] = (work.build, faults.kill_ray_worker)
"""What CI runs."""

SCENARIOS: tuple[Scenario, ...] = (
    work.build, faults.kill_ray_worker, faults.kill_raylet, faults.kill_driver, faults.kill_prefect_worker,
    faults.kill_prefect_server, faults.stop_postgres, faults.cancel, work.two_builds, work.build_on_s3, work.train,
    faults.kill_training_worker,
)  # fmt: skip


def named() -> dict[str, Scenario]:
    """The scenarios by name."""
    return {scenario.__name__.replace("_", "-"): scenario for scenario in SCENARIOS}


def row(name: str, result: Row, seconds: float, error: str = "") -> dict[str, Any]:
    """A line of the table, for `--json` too."""
    return {"scenario": name, "fault": result.fault, "end": result.end, "seconds": round(seconds, 1), "error": error}
