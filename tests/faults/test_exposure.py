"""What a command listens on answers nobody but its user: another user of the machine is refused everywhere."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import textwrap
from pathlib import Path

import psutil
import pytest

from flows.ray.engine import ray_session

OTHER = 65534
"""The user id of nobody."""

AS_OTHER = """
import os, sys, urllib.error, urllib.request
from ray._raylet import GcsClient
address, folder, *ports = sys.argv[1:]
try:
    GcsClient(address=address)
    print("cluster: let in")
except Exception as error:
    print("cluster:", type(error).__name__)
try:
    print("folder: read", os.listdir(folder))
except OSError as error:
    print("folder:", type(error).__name__)
for port in ports:
    for path in ("/api/job_agent/jobs/", "/get_or_create_runtime_env", "/api/jobs/"):
        try:
            headers = {"Content-Type": "application/json"}
            request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", b"{}", headers)
            print(port, path, urllib.request.urlopen(request, timeout=10).status)
        except urllib.error.HTTPError as error:
            print(port, path, error.code)
        except Exception as error:
            print(port, path, type(error).__name__)
"""


@pytest.fixture
def as_other() -> list[str]:
    """The beginning of a command that another user runs."""
    if os.getuid() != 0:
        pytest.skip("only root becomes another user")
    become = ["setpriv", f"--reuid={OTHER}", f"--regid={OTHER}", "--clear-groups"]
    if subprocess.run(
        [*become, sys.executable, "-c", "import ray"], cwd="/", capture_output=True, check=False
    ).returncode:
        pytest.skip(f"another user cannot run {sys.executable}: a folder above it is closed to others")
    return become


@pytest.mark.fault(
    "another user of the machine joins a local Ray, asks its agents, reads its folders", "refused each time"
)
@pytest.mark.parametrize("mode", ["token", "disabled"])
def test_another_user_is_refused_by_a_local_ray(as_other: list[str], mode: str) -> None:
    """mode: of authentication, as the other user has it: Ray's default is none."""
    import ray

    with ray_session(1):
        address = ray.get_runtime_context().gcs_address
        folder = Path(ray._private.worker.global_worker.node._session_dir)
        own = [psutil.Process(), *psutil.Process().children(recursive=True)]
        listening = [
            one.laddr for process in own for one in process.net_connections("tcp") if one.status == psutil.CONN_LISTEN
        ]
        assert listening and all(one.ip in ("127.0.0.1", "::ffff:127.0.0.1", "::1") for one in listening), listening
        environment = {
            "PATH": os.environ["PATH"], "HOME": "/tmp", "RAY_AUTH_MODE": mode, "RAY_AUTH_TOKEN": "0" * 64
        }  # fmt: skip
        done = subprocess.run(
            [*as_other, sys.executable, "-c", AS_OTHER, address, folder, *(str(one.port) for one in listening)],
            env=environment,
            cwd="/",
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        private = folder.parents[1]
        assert stat.S_IMODE(private.stat().st_mode) == 0o700
        assert done.returncode == 0, done.stderr
        assert "cluster: AuthenticationError" in done.stdout and "folder: PermissionError" in done.stdout
        answers = [line.split() for line in done.stdout.splitlines()[2:]]
        assert not [answer for answer in answers if answer[2].startswith(("2", "5"))], done.stdout
        assert any(answer[2] in ("401", "403") for answer in answers), done.stdout
        assert ray.get(ray.remote(lambda: 7).remote()) == 7
    assert not private.exists()


KEY = textwrap.dedent(
    """
    import os, urllib.error, urllib.request
    from flows.prefect.ephemeral import start_server
    start_server()()
    url = os.environ["PREFECT_API_URL"]
    try:
        headers = {"Content-Type": "application/json"}
        urllib.request.urlopen(urllib.request.Request(f"{url}/flows/filter", b"{}", headers))
        print("let in")
    except urllib.error.HTTPError as error:
        print(error.code)
    from prefect.client.orchestration import get_client
    print(len(get_client(sync_client=True).read_flows()))
    """
)


def test_the_prefect_server_of_a_command_needs_its_key(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    environment |= {"PREFECT_HOME": str(tmp_path), "PREFECT_LOGGING_LEVEL": "ERROR"}
    done = subprocess.run(
        [sys.executable, "-c", KEY], env=environment, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.stdout.split() == ["401", "0"], done.stdout + done.stderr
