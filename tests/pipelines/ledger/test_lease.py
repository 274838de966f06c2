"""One process at a time holds a lease; the others wait for it, or take over when it is dead."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path

import pytest

from pipelines.ledger import lease, storage
from pipelines.ledger.lease import Busy, Holder, Lost, hold

HOLDS = """
import sys, time
from pipelines.ledger import lease
lease.BEAT_SECONDS = 0.05
with lease.hold(sys.argv[1], "the other"):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture(params=["local", "memory", "s3"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "s3":
        return f"{request.getfixturevalue('s3')}/root/lease"
    return f"{tmp_path}/root/lease" if request.param == "local" else f"memory://{uuid.uuid4().hex}/lease"


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A silent holder is dead after a second, so that a test need not wait for a minute."""
    for name, seconds in (("BEAT", 0.05), ("DEAD", 1.0), ("POLL", 0.02), ("REMOTE_POLL", 0.02)):
        monkeypatch.setattr(lease, f"{name}_SECONDS", seconds)


def process_that_holds(folder: str) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDS, folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=Path.cwd()
    )
    assert process.stdout is not None and process.stdout.readline() == b"held\n"
    return process


def elsewhere(folder: str, work: str = "a run elsewhere") -> Holder:
    """Have a process of another machine hold the lease. Its clock is a century ahead, which must not matter."""
    holder = Holder(
        token=uuid.uuid4().hex,
        work=work,
        process=7,
        host="far",
        since="2026-11-28T10:00:00",
        machine="far",
        started="1",
    )
    assert storage.create(f"{folder}/000001.json", holder.model_dump_json().encode())
    return holder


def test_a_lease_leaves_nothing_behind(folder: str) -> None:
    for _ in range(2):
        with hold(folder, "a"):
            assert storage.files(folder) == ["000001.json"]
        assert storage.files(folder) == [] and not storage.is_folder(folder)


def test_of_many_threads_one_holds_the_lease_at_a_time(folder: str, quick: None) -> None:
    inside: list[int] = []
    most: list[int] = []

    def work() -> None:
        with hold(folder, "a"):
            inside.append(1)
            most.append(len(inside))
            time.sleep(0.01)
            inside.pop()

    threads = [threading.Thread(target=work) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 5 and not storage.is_folder(folder)


def test_a_lease_that_is_released_and_taken_during_a_look_is_not_taken_over(
    folder: str, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with contextlib.ExitStack() as first, contextlib.ExitStack() as second:
        first.enter_context(hold(folder, "the first"))
        read_beat = lease._read_beat

        def change_hands(folder: str, number: int) -> bytes:
            monkeypatch.setattr(lease, "_read_beat", read_beat)
            first.close()
            held = second.enter_context(hold(folder, "the second"))
            assert held.number == number
            return read_beat(folder, number)

        monkeypatch.setattr(lease, "_read_beat", change_hands)
        with pytest.raises(Busy, match="held by the second"), hold(folder, "the third", patience=0.0):
            pass
        assert storage.files(folder)[-1] in ("000001.json", "000001.beat")


def test_a_holder_of_this_process_whose_beat_is_slow_is_waited_for(
    folder: str, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "BEAT_SECONDS", 60.0)
    with hold(folder, "the first"), pytest.raises(Busy), hold(folder, "the second", patience=2 * lease.DEAD_SECONDS):
        pass


@pytest.mark.parametrize("folder", ["local", "s3"], indirect=True)
def test_a_process_waits_for_another_and_says_for_whom(folder: str, quick: None) -> None:
    other = process_that_holds(folder)
    told: list[Holder] = []

    def on_wait(holder: Holder, seconds: float) -> None:
        told.append(holder)
        if seconds > 2.0 and other.poll() is None:  # twice as long as a silent holder lives
            other.communicate(b"")

    with hold(folder, "this", on_wait):
        assert other.poll() == 0
    assert {(one.work, one.process) for one in told} == {("the other", other.pid)}
    assert str(told[0]).startswith(f"the other (process {other.pid} on {told[0].host}, since 20")


@pytest.mark.parametrize("folder", ["local", "s3"], indirect=True)
@pytest.mark.fault("the holder of a lease is killed", "replaced at once")
def test_a_killed_process_of_this_machine_is_replaced_at_once(folder: str) -> None:
    other = process_that_holds(folder)
    other.kill()  # not waited for: a zombie has ended too
    waited: list[float] = []
    with hold(folder, "this", lambda _, seconds: waited.append(seconds)):
        assert storage.files(folder)[-1] == "000002.json"
    assert max(waited, default=0) < lease.DEAD_SECONDS / 2
    other.communicate()


def test_a_process_elsewhere_is_replaced_when_it_is_silent_for_long(folder: str, quick: None) -> None:
    elsewhere(folder)
    waited: list[float] = []
    with hold(folder, "this", lambda _, seconds: waited.append(seconds)) as held:
        assert max(waited) > lease.DEAD_SECONDS * 0.8
        held.check()
    assert not storage.is_folder(folder)


def test_a_process_elsewhere_that_beats_is_waited_for(folder: str, quick: None) -> None:
    elsewhere(folder)
    beats = 0

    def on_wait(_: Holder, seconds: float) -> None:
        nonlocal beats
        beats += 1
        if seconds > 2 * lease.DEAD_SECONDS:
            storage.remove(f"{folder}/000001.json")
        else:
            storage.write_bytes(f"{folder}/000001.beat", str(beats).encode())

    with hold(folder, "this", on_wait):
        assert beats > 2 and storage.files(folder)[-1] == "000001.json"


def test_patience_ends_with_who_holds_it(folder: str, quick: None) -> None:
    held = hold(folder, "the first")
    with held, pytest.raises(Busy, match="held by the first") as raised, hold(folder, "the second", patience=0.1):
        pass
    assert raised.value.holder.work == "the first"


def test_a_holder_that_was_replaced_learns_of_it_and_removes_nothing(folder: str, quick: None) -> None:
    with hold(folder, "the first") as first:
        taken = first.holder.model_copy(update={"token": "other", "work": "the second"})
        storage.create(f"{folder}/000002.json", taken.model_dump_json().encode())
        with pytest.raises(Lost, match="the first: another process took over"):
            first.check()
    assert storage.read_bytes(f"{folder}/000002.json") == taken.model_dump_json().encode()


def test_a_holder_that_was_replaced_and_outlived_its_successor_learns_of_it(folder: str) -> None:
    with hold(folder, "the first") as first:
        storage.remove(f"{folder}/000001.json")
        with pytest.raises(Lost):
            first.check()
        elsewhere(folder, "the third")
        with pytest.raises(Lost):
            first.check()
    assert storage.files(folder) == ["000001.json"]


def test_a_lease_that_this_process_could_not_remove_does_not_block_it(folder: str) -> None:
    """A store that is away while a lease ends keeps its file, and the same process tries the step again."""
    with hold(folder, "before") as before:
        left = storage.read_bytes(f"{folder}/000001.json")
    storage.write_bytes(f"{folder}/000001.json", left)
    with hold(folder, "again", patience=0.0) as again:
        assert again.number == before.number + 1


def test_an_incomplete_file_of_a_process_that_died_is_replaced(folder: str, quick: None) -> None:
    storage.write_bytes(f"{folder}/000001.json", b'{"tok')
    with hold(folder, "this") as held:
        assert held.number == 2
