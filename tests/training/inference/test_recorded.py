"""A recorded endpoint sends each distinct request once, within a budget, and keeps what it got whatever happens."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.errors import CheckFailed, Unreachable, WinnowError
from tests.stub_endpoint import Stub, running_stub
from training.inference import recorded
from training.inference.language_model import Request
from training.inference.recorded import UNLIMITED, Budget, BudgetSpent, CompletionStore, RecordedEndpoint, Spent

ECHO = [["", "{prompt}"]]


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stub]:
    with running_stub(tmp_path_factory.mktemp("stub")) as running:
        yield running


@pytest.fixture
def stub(process: Stub) -> Stub:
    process.script(answers=ECHO)
    (process.folder / "log.jsonl").unlink(missing_ok=True)
    return process


def requests(*numbers: int) -> list[Request]:
    return [Request("direct", f"say {number}") for number in numbers]


def open_recorded(
    stub: Stub, root: Path, owner: str = "me", budget: Budget = UNLIMITED, url: str = "", timeout: float = 30.0
) -> RecordedEndpoint:
    store = CompletionStore(str(root), "stub")
    return RecordedEndpoint(url or stub.url, "stub", store, owner, budget, concurrency=2, timeout=timeout)


def texts(model: RecordedEndpoint, *numbers: int) -> list[str]:
    return [completion.text for (completion,) in model.generate(requests(*numbers), max_tokens=9)]


def test_a_request_is_sent_once_also_by_another_run_and_without_a_server(stub: Stub, tmp_path: Path) -> None:
    done: list[int] = []
    first = open_recorded(stub, tmp_path)
    first.generate(requests(1, 2, 1, 3, 2), max_tokens=9, on_done=done.append)
    assert sorted(stub.prompts) == ["say 1", "say 2", "say 3"] and done == [2, 3, 4, 5]
    gone = open_recorded(stub, tmp_path, "another", url="http://127.0.0.1:9/v1")
    assert texts(gone, 3, 1, 2) == ["say 3", "say 1", "say 2"]
    assert len(stub.log) == 3 and (first.asked, gone.asked) == (3, 0)
    assert gone.spent == Spent() and first.spent == Spent(3, 12)


def test_what_is_sent_is_what_a_completion_is_found_by(stub: Stub, tmp_path: Path) -> None:
    model = open_recorded(stub, tmp_path)
    model.generate(requests(1), seed=1)
    model.generate(requests(1), seed=2)  # greedy: a seed has no meaning
    assert len(stub.log) == 1
    for settings in ({"max_tokens": 5}, {"stop": ["x"]}, {"n": 2, "temperature": 0.5}, {"temperature": 0.5}):
        model.generate(requests(1), **settings)  # type: ignore[arg-type]
    model.generate(requests(1), temperature=0.5, seed=1)
    assert len(stub.log) == 6
    other = RecordedEndpoint(stub.url, "other", CompletionStore(str(tmp_path), "other"), "me")
    with pytest.raises(WinnowError, match=r"no model 'other'.*stub"):
        other.generate(requests(1))


def test_a_spent_budget_stops_and_a_larger_one_asks_only_the_rest(stub: Stub, tmp_path: Path) -> None:
    with pytest.raises(BudgetSpent, match=r"budget of 3 requests is spent: 3 requests .* 12 tokens, .* 2 more"):
        texts(open_recorded(stub, tmp_path, budget=Budget(requests=3)), 1, 2, 3, 4, 5)
    with pytest.raises(BudgetSpent):
        texts(open_recorded(stub, tmp_path, budget=Budget(requests=3)), 1, 2, 3, 4, 5)
    assert len(stub.log) == 3
    assert texts(open_recorded(stub, tmp_path, budget=Budget(requests=5)), 1, 2, 3, 4, 5)[4] == "say 5"
    assert sorted(stub.prompts) == [f"say {number}" for number in range(1, 6)]
    # What another purpose has paid for costs nothing.
    assert texts(open_recorded(stub, tmp_path, "another", Budget(requests=0)), 2, 4) == ["say 2", "say 4"]
    # Tokens are known after an answer: those under way are finished and recorded.
    with pytest.raises(BudgetSpent, match=r"budget of 10 tokens"):
        texts(open_recorded(stub, tmp_path, "tokens", Budget(tokens=10)), *range(10, 30))
    spent = CompletionStore(str(tmp_path), "stub").spent("tokens")
    assert 10 <= spent.tokens <= 10 + 2 * 4 and len(stub.log) == 5 + spent.requests


def test_failures_that_pass_are_repeated_and_others_are_said(stub: Stub, tmp_path: Path) -> None:
    stub.script(answers=ECHO, fail=[["say 101$", [429, 429]], ["say 102$", [401]], ["say 103$", [404]]])
    model = open_recorded(stub, tmp_path)
    assert texts(model, 101) == ["say 101"] and [line["status"] for line in stub.log] == [429, 429, 200]
    with pytest.raises(WinnowError, match=r"answers 401: .*WINNOW_API_KEY, which is not set"):
        texts(model, 102)
    with pytest.raises(WinnowError, match=r"answers 404: .*is the URL complete up to its version"):
        texts(model, 103)


def test_what_was_answered_beside_a_failure_is_kept(stub: Stub, tmp_path: Path) -> None:
    stub.script(answers=ECHO, hang="say 7$")
    model = open_recorded(stub, tmp_path, timeout=0.2)
    with pytest.raises(Unreachable, match=r"no answer after 4 attempts .ReadTimeout"):
        texts(model, 5, 7, 6)
    stub.script(answers=ECHO)
    before = len(stub.prompts)
    assert texts(open_recorded(stub, tmp_path), 5, 7, 6) == ["say 5", "say 7", "say 6"]
    assert set(stub.prompts[before:]) <= {"say 7", "say 6"} and "say 5" not in stub.prompts[before:]


@pytest.mark.fault("a damaged file of recorded completions", "an error names it")
def test_files_of_a_store_are_joined_and_a_damaged_one_is_named(
    stub: Stub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(4):
        texts(open_recorded(stub, tmp_path), number)
    (folder,) = (tmp_path / "completions").iterdir()
    assert len(list(folder.iterdir())) == 4
    reader = open_recorded(stub, tmp_path)
    monkeypatch.setattr(recorded, "MAX_FILES", 2)
    joined = CompletionStore(str(tmp_path), "stub")
    (file,) = folder.iterdir()
    assert joined.spent("me").requests == 4
    assert texts(reader, 2, 3) == ["say 2", "say 3"]  # opened before the files were joined
    assert len(stub.log) == 4
    file.write_bytes(file.read_bytes()[:-20] + b"\n")
    with pytest.raises(CheckFailed, match=f"{file.name}: damaged .*requests are sent again"):
        CompletionStore(str(tmp_path), "stub")
