"""The services of docker-compose.yml on this machine, without Docker.

Each container gets name spaces of its own (mounts, PIDs, host name, network: tests/cluster/container.py) and an address
on a bridge, so that commands, environment and ports are used as the file has them, and nodes share the volumes alone.
Where the file names an image of others, a stand-in with the same interface runs: PostgreSQL of this machine, and moto's
server for the S3 store. Limits of CPUs and memory are not enforced.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.cluster.compose import ROOT, Container, containers, image

NETWORK = "10.86.0"
"""The first three bytes of the containers' addresses."""

START_SECONDS = 300.0
"""How long a service may take to become healthy: several Python programs start at once on two cores."""

RESTART_SECONDS = 1.0
"""Wait before a container that ended is started again, as Docker does for `restart: unless-stopped`."""

FINAL = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}

POSTGRES = """
set -e
data=/var/lib/postgresql/data
as="setpriv --reuid postgres --regid postgres --clear-groups"
chown postgres $data && chmod 700 $data
if [ ! -s $data/PG_VERSION ]; then
  printf '%s' "$POSTGRES_PASSWORD" > /tmp/password && chown postgres /tmp/password
  $as initdb -D $data -U "$POSTGRES_USER" --pwfile /tmp/password --auth scram-sha-256 --no-sync > /dev/null
  rm /tmp/password
  echo 'host all all all scram-sha-256' >> $data/pg_hba.conf
  echo "CREATE DATABASE $POSTGRES_DB" | $as postgres --single -D $data postgres > /dev/null
fi
exec $as postgres -D $data -c listen_addresses='*' -c unix_socket_directories=/tmp
"""


@dataclass(frozen=True)
class StandIn:
    """What runs in place of an image of others: a command and a health check, as root of the container."""

    command: tuple[str, ...]
    healthcheck: tuple[str, ...]


STAND_INS = {
    "postgres": StandIn(("bash", "-c", POSTGRES), ("pg_isready", "-q", "-h", "127.0.0.1")),
    "quay.io/minio/minio": StandIn(
        (sys.executable, "-m", "tests.object_store", "--host", "0.0.0.0", "--port", "9000"),
        (sys.executable, "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:9000/_control')"),
    ),
}

PROGRAMS = ("unshare", "nsenter", "setpriv", "mount", "ip", "initdb", "postgres", "pg_isready")


def missing() -> list[str]:
    """What this machine lacks to run the services."""
    import shutil

    if sys.platform != "linux":
        return ["Linux"]
    found = [f"the program {name}" for name in PROGRAMS if not shutil.which(name)]
    if os.geteuid():
        found.append("root (name spaces)")
    elif not found and subprocess.run(["unshare", "-m", "-n", "-p", "--fork", "true"], capture_output=True).returncode:
        found.append("the right to make name spaces")
    return found


@dataclass
class Running:
    """A started container: the process of unshare(1), and whether it shall be started again when it ends."""

    process: subprocess.Popen[bytes]
    wanted: bool = True
    starts: int = 1


@dataclass
class Cluster:
    """The services in a folder. data: the shared volume, as this process sees it; nodes have it at /data."""

    work: Path
    variables: Mapping[str, str]
    containers: dict[str, Container] = field(init=False)
    data: Path = field(init=False)

    def __post_init__(self) -> None:
        self.containers = containers(self.variables)
        self.image = image()
        self.data = self.volume("data")
        self._running: dict[str, Running] = {}
        self._lock = threading.RLock()
        self._addresses = {name: f"{NETWORK}.{number}" for number, name in enumerate(self.containers, start=2)}
        names = self._addresses | {each.service: self._addresses[name] for name, each in self.containers.items()}
        names |= {each.service: self._addresses[f"{each.service}-1"] for each in self.containers.values()
                  if each.service not in self.containers}  # fmt: skip
        self.hosts = "127.0.0.1 localhost\n" + "".join(f"{address} {name}\n" for name, address in names.items())
        self._network()

    # Containers

    def volume(self, name: str) -> Path:
        """The folder of a volume, open to the image's user, as a volume of Docker that an image owns."""
        folder = self.work / "volumes" / name
        if not folder.exists():
            folder.mkdir(parents=True)
            os.chown(folder, self.image.user, self.image.user)
        return folder

    def up(self) -> None:
        """Start the containers without a profile, each when what it depends on is healthy, and wait for health."""
        names = [name for name, container in self.containers.items() if not container.profiles]
        ready = {name: Future[None]() for name in names}

        def bring(name: str) -> None:
            container = self.containers[name]
            for service in container.depends_on:
                for needed in names:
                    if self.containers[needed].service == service:
                        ready[needed].result()
            self.start(name)
            self.wait_healthy(name) if container.healthcheck else self._wait_completed(name)

        def settle(name: str) -> None:
            try:
                ready[name].set_result(bring(name))
            except Exception as error:
                ready[name].set_exception(error)

        for name in names:
            threading.Thread(target=settle, args=(name,), daemon=True).start()
        for name in names:
            ready[name].result()

    def start(self, name: str) -> None:
        """Start one container."""
        with self._lock:
            process = self._spawn(self.containers[name])
            if name in self._running:
                self._running[name].process = process
                self._running[name].wanted = True
            else:
                self._running[name] = Running(process)
                threading.Thread(target=self._keep, args=(name,), daemon=True).start()

    def stop(self, name: str, grace: float = 10.0) -> None:
        """End a container as `docker stop` does: SIGTERM to its command, SIGKILL after a time. It stays stopped."""
        with self._lock:
            running = self._running[name]
            running.wanted = False
            for pid in self._init(name):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGTERM)
        try:
            running.process.wait(grace)
        except subprocess.TimeoutExpired:
            running.process.kill()
            running.process.wait()

    def kill(self, name: str) -> None:
        """SIGKILL to everything in a container at once, as a lost machine; it is started again if the file says so."""
        with self._lock:
            self._running[name].process.kill()
            self._running[name].process.wait()

    def down(self) -> None:
        """End all containers."""
        for name in reversed(list(self._running)):
            self.stop(name, 3.0)

    def is_running(self, name: str) -> bool:
        """Whether a container's command runs."""
        return name in self._running and self._running[name].process.poll() is None

    def wait_healthy(self, name: str, seconds: float = START_SECONDS) -> None:
        """Wait until the health check of the file passes. Raises: RuntimeError: with the log's end, if it does not."""
        check = self._healthcheck(self.containers[name])
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            with contextlib.suppress(subprocess.TimeoutExpired):
                if self.is_running(name) and self.execute(name, *check, check=False, timeout=60).returncode == 0:
                    return
            time.sleep(0.5)
        raise RuntimeError(f"{name} is not healthy after {seconds:.0f} s; its log ends:\n{self.log(name)[-3000:]}")

    def execute(
        self, name: str, *command: str, check: bool = True, timeout: float = 300.0, environment: Mapping[str, str] = {}
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in a container, as `docker compose exec` does; stdout and stderr are kept apart.

        Raises: RuntimeError: with what it printed, if `check` and it failed.
        """
        container = self.containers[name]
        pids = self._init(name)
        if not pids:
            return subprocess.CompletedProcess(command, 1, "", f"{name} does not run")
        user = str(self._user(container))
        done = subprocess.run(
            ["nsenter", "-t", str(pids[0]), "-m", "-u", "-i", "-n", "-p", "-r", "-w", "setpriv", "--reuid", user,
             "--regid", user, "--clear-groups", "env", "-i",
             *(f"{key}={value}" for key, value in {**self._environment(container), **environment}.items()), *command],
            capture_output=True, text=True, timeout=timeout, check=False,
        )  # fmt: skip
        if check and done.returncode:
            raise RuntimeError(f"{name}: {' '.join(command)}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def processes(self, name: str, text: str = "") -> list[int]:
        """The ids, in this process's name space, of a container's processes whose command line has a text."""
        inits = self._init(name)
        if not inits:
            return []
        space = Path(f"/proc/{inits[0]}/ns/pid").readlink()
        found = []
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                if entry.name.isdigit() and (entry / "ns/pid").readlink() == space and int(entry.name) != inits[0]:
                    line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                    if text in line:
                        found.append(int(entry.name))
        return sorted(found)

    def log(self, name: str) -> str:
        """What a container has printed, over its restarts."""
        file = self._log(name)
        return file.read_text(errors="replace") if file.exists() else ""

    # Prefect

    def api(self, path: str, body: Any = None, method: str | None = None) -> Any:
        """A request to Prefect's API: POST with a body, else GET."""
        server = self.containers["prefect-server"]
        port, key = server.ports[0], server.environment["PREFECT_SERVER_API_AUTH_STRING"]
        request = urllib.request.Request(
            f"http://prefect-server:{port}/api{path}",
            data=None if body is None else json.dumps(body).encode(),
            headers={
                "Content-Type": "application/json",
                "Authorization": f"Basic {base64.b64encode(key.encode()).decode()}",
            },
            method=method,
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            text = answer.read()
        return json.loads(text) if text else None

    def deployment(self, flow: str) -> dict[str, Any]:
        """The deployment of a flow."""
        found = self.api("/deployments/filter", {"flows": {"name": {"any_": [flow]}}})
        assert found, f"no deployment of {flow}; `prefect deploy --all` printed:\n{self.log('prefect-worker')[-2000:]}"
        return dict(found[0])

    def run(self, flow: str, **parameters: Any) -> str:
        """Create a run of a flow's deployment; returns its id. `root` is given as a path of the nodes."""
        path = f"/deployments/{self.deployment(flow)['id']}/create_flow_run"
        return str(self.api(path, {"parameters": parameters, "state": {"type": "SCHEDULED"}})["id"])

    def scheduled(self, flow: str) -> int:
        """How many runs of a flow's deployment its schedule has created."""
        of_deployment = {"id": {"any_": [self.deployment(flow)["id"]]}}
        waiting = {"state": {"type": {"any_": ["SCHEDULED"]}}}
        return int(self.api("/flow_runs/count", {"deployments": of_deployment, "flow_runs": waiting}))

    def state(self, run: str) -> dict[str, Any]:
        """The state of a flow run: `type`, `name`, `message`."""
        return dict(self.api(f"/flow_runs/{run}")["state"])

    def wait(self, run: str, seconds: float = 300.0) -> dict[str, Any]:
        """Wait for the end of a flow run; returns its state. A server that does not answer is asked again.

        Raises: RuntimeError: if it does not end in time.
        """
        state: dict[str, Any] = {"type": "unknown"}
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError, json.JSONDecodeError):
                state = self.state(run)
                if state["type"] in FINAL:
                    return state
            time.sleep(0.5)
        raise RuntimeError(f"flow run {run} has not ended after {seconds:.0f} s; its state: {state['type']}")

    def flow_log(self, run: str) -> str:
        """The messages that a flow run has logged."""
        records = self.api("/logs/filter", {"logs": {"flow_run_id": {"any_": [run]}}, "sort": "TIMESTAMP_ASC"})
        return "\n".join(record["message"] for record in records)

    def completed(self, flow: str, seconds: float = 300.0, **parameters: Any) -> str:
        """Run a deployment to its end; returns the id of the run. Raises: RuntimeError: unless it completes."""
        run = self.run(flow, **parameters)
        state = self.wait(run, seconds)
        if state["type"] != "COMPLETED":
            raise RuntimeError(f"{flow} ended as {state['name']}: {state['message']}\n{self.flow_log(run)[-3000:]}")
        return run

    # Ray

    def running_tasks(self) -> int:
        """How many processes of Ray's nodes work on a shard. An idle one is called `ray::IDLE`."""
        return sum(len(self.processes(name, "ray::_call")) for name in self.containers if name.startswith("ray-worker"))

    # The rest is not for scenarios

    def _network(self) -> None:
        ip("link", "set", "lo", "up")
        ip("link", "add", "br0", "type", "bridge")
        ip("addr", "add", f"{NETWORK}.1/24", "dev", "br0")
        ip("link", "set", "br0", "up")
        hosts = self.work / "hosts"
        hosts.write_text(self.hosts, encoding="utf-8")
        subprocess.run(["mount", "--bind", str(hosts), "/etc/hosts"], check=True)
        for number, (name, address) in enumerate(self._addresses.items()):
            ip("netns", "add", name)
            ip("link", "add", f"v{number}", "type", "veth", "peer", "name", "eth0", "netns", name)
            ip("link", "set", f"v{number}", "master", "br0", "up")
            ip("-n", name, "addr", "add", f"{address}/24", "dev", "eth0")
            ip("-n", name, "link", "set", "eth0", "up")
            ip("-n", name, "link", "set", "lo", "up")
            ip("-n", name, "route", "add", "default", "via", f"{NETWORK}.1")

    def _spawn(self, container: Container) -> subprocess.Popen[bytes]:
        starts = self._running[container.name].starts if container.name in self._running else 0
        spec = {
            "name": container.name,
            "layer": str(self.work / "layers" / f"{container.name}-{starts}"),
            "code": str(ROOT),
            "code_at": self.image.folder,
            "folder": self.image.folder,
            "read": sorted({sys.prefix, sys.base_prefix}),
            "volumes": [(str(self.volume(name)), target) for name, target in container.volumes],
            "hosts": self.hosts,
            "shm_bytes": container.shm_bytes,
            "user": self._user(container),
            "command": list(container.command if container.built else self._stand_in(container).command),
            "environment": self._environment(container),
        }
        log = self._log(container.name)
        log.parent.mkdir(exist_ok=True)
        program = str(Path(__file__).with_name("container.py"))
        with log.open("ab") as output:
            process = subprocess.Popen(
                ["ip", "netns", "exec", container.name, "unshare", "--mount", "--uts", "--ipc", "--pid", "--fork",
                 "--kill-child", sys.executable, program],
                stdin=subprocess.PIPE, stdout=output, stderr=output, start_new_session=True,
            )  # fmt: skip
        assert process.stdin
        process.stdin.write(json.dumps(spec).encode())
        process.stdin.close()
        return process

    def _keep(self, name: str) -> None:
        """Start a container again whenever it ends, if the file says so."""
        running = self._running[name]
        while True:
            running.process.wait()
            time.sleep(RESTART_SECONDS)
            with self._lock:
                if running.wanted and self.containers[name].restart and running.process.poll() is not None:
                    running.starts += 1
                    running.process = self._spawn(self.containers[name])

    def _wait_completed(self, name: str) -> None:
        code = self._running[name].process.wait(START_SECONDS)
        if code:
            raise RuntimeError(f"{name} ended with {code}; its log ends:\n{self.log(name)[-3000:]}")

    def _init(self, name: str) -> list[int]:
        """The id of a container's first process, as a list; empty if it does not run."""
        if not self.is_running(name):
            return []
        pid = self._running[name].process.pid
        with contextlib.suppress(OSError):
            return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
        return []

    def _stand_in(self, container: Container) -> StandIn:
        return STAND_INS[container.image.split("@")[0].rpartition(":")[0]]

    def _healthcheck(self, container: Container) -> tuple[str, ...]:
        return container.healthcheck if container.built else self._stand_in(container).healthcheck

    def _user(self, container: Container) -> int:
        return self.image.user if container.built else 0

    def _environment(self, container: Container) -> dict[str, str]:
        return {
            "PATH": f"{Path(sys.executable).parent}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": "/home/container",
            "LANG": "C.UTF-8",
            "PYTHONPATH": self.image.folder,
            "PYTHONUNBUFFERED": "1",
            **(self.image.environment if container.built else {}),
            **container.environment,
        }

    def _log(self, name: str) -> Path:
        return self.work / "logs" / f"{name}.log"


def ip(*arguments: str) -> None:
    """Call ip(8)."""
    subprocess.run(["ip", *arguments], check=True)


def reachable(host: str, port: int) -> bool:
    """Whether a server listens."""
    with contextlib.suppress(OSError), socket.create_connection((host, port), timeout=5):
        return True
    return False


def until(holds: Callable[[], bool], seconds: float, what: str) -> None:
    """Wait until something holds. Raises: RuntimeError: naming it, if it does not in time."""
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            raise RuntimeError(f"{what}: not within {seconds:.0f} s")
        time.sleep(0.2)


@contextlib.contextmanager
def running(work: Path, variables: Mapping[str, str]) -> Iterator[Cluster]:
    """The whole stack for the length of a block."""
    cluster = Cluster(work, variables)
    try:
        cluster.up()
        yield cluster
    finally:
        cluster.down()
