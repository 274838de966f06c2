"""An endpoint is asked over HTTP: what is sent, what is repeated, what a refusal says. The key is shown nowhere."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from pipelines.errors import Unreachable, WinnowError
from training.inference.endpoint import Endpoint
from training.inference.language_model import Request
from training.inference.models import open_model
from training.inference.strategies import Question, Sampling, parse


class Server(ThreadingHTTPServer):
    """A server that speaks the API on loopback. It repeats the question, and refuses as its fields say."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.models = ["echo"]
        self.failures: list[int] = []  # status codes of the next answers
        self.refuses: dict[str, str] = {}  # key of a body -> message
        self.key = ""
        self.most_choices = 100
        self.log_probs = True
        self.one_sample = False
        self.bodies: list[dict[str, Any]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def log_message(self, *_: Any) -> None:
        pass

    def reply(self, status: int, value: Any) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        if status == 429:
            self.send_header("Retry-After", "0")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def allowed(self) -> bool:
        sent = self.headers.get("Authorization", "")
        if self.server.key and sent != f"Bearer {self.server.key}":
            self.reply(401, {"error": {"message": f"no access with {sent.removeprefix('Bearer ')!r}"}})
            return False
        return True

    def do_GET(self) -> None:
        if self.allowed():
            self.reply(200, {"object": "list", "data": [{"id": name} for name in self.server.models]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.bodies.append(body)
        if not self.allowed():
            return
        if self.server.failures:
            self.reply(self.server.failures.pop(0), {"error": {"message": "busy"}})
            return
        for key, message in self.server.refuses.items():
            if key in body:
                self.reply(400, {"error": {"message": message}})
                return
        if self.server.one_sample and body["n"] > 1:
            self.reply(400, {"error": {"message": "'n' must be at most 1"}})
            return
        chat = self.path.endswith("/chat/completions")
        words = (body["messages"][-1]["content"] if chat else body["prompt"]).split()
        if len(words) > 500:
            self.reply(400, {"error": {"message": "This model's maximum context length is 500 tokens."}})
            return
        choices = []
        for index in range(min(body.get("n", 1), self.server.most_choices)):
            text = " ".join([*words, str(body.get("seed", 0) % 1000 + index)] if body["temperature"] else words)
            log_probs = [-0.25] * len(text.split())
            given = body.get("logprobs") and self.server.log_probs
            if chat:
                shape: dict[str, Any] = {"message": {"role": "assistant", "content": text}}
                shape["logprobs"] = {"content": [{"logprob": value} for value in log_probs]} if given else None
            else:
                shape = {"text": text, "logprobs": {"token_logprobs": log_probs} if given else None}
            choices.append({"index": index, "finish_reason": "stop", **shape})
        total = sum(
            len(choice["message"]["content"].split()) if chat else len(choice["text"].split()) for choice in choices
        )
        self.reply(200, {"choices": choices, "usage": {"prompt_tokens": len(words), "completion_tokens": total}})


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield running
        running.shutdown()
        thread.join()


ONE = Request("synth,cot", "one two three")


def test_requests_are_answered_in_order_with_counts_and_log_probabilities(server: Server) -> None:
    model = Endpoint(server.url, concurrency=4)
    requests = [Request("direct", f"say {number}") for number in range(20)]
    done: list[int] = []
    answers = model.generate(requests, max_tokens=9, stop=["\n"], on_done=done.append)
    assert [completion.text for (completion,) in answers] == [request.instruction for request in requests]
    assert answers[0][0] == ("say 0", 2, -0.5, "stop", 2)
    assert done == list(range(1, 21))
    body = next(body for body in server.bodies if body["messages"][-1]["content"] == "say 0")
    assert (body["model"], body["max_tokens"], body["stop"], body["n"]) == ("echo", 9, ["\n"], 1)
    assert body["messages"] == [{"role": "user", "content": "say 0"}]  # the condition is dropped


def test_plain_completions_are_asked_for_by_the_url(server: Server) -> None:
    model = open_model(f"{server.url}/completions")
    assert isinstance(model, Endpoint)
    (((text, tokens, log_prob, _, _),),) = model.generate([ONE])
    assert (text, tokens, log_prob) == ("one two three", 3, -0.75) and server.bodies[0]["prompt"] == "one two three"
    assert model.identity != open_model(server.url).identity
    assert not model.conditioned


def test_samples_depend_on_the_request_and_the_seed_alone(server: Server) -> None:
    model = Endpoint(server.url)
    other = Request("direct", "four")
    together = model.generate([other, ONE], 3, temperature=1.0, seed=5)[1]
    assert together == model.generate([ONE], 3, temperature=1.0, seed=5)[0]
    assert together != model.generate([ONE], 3, temperature=1.0, seed=6)[0]
    assert len({completion.text for completion in together}) == 3
    assert [completion.tokens for completion in together] == [4, 4, 4]


@pytest.mark.parametrize("log_probs", [True, False])
def test_every_sample_is_drawn_where_a_server_returns_fewer(server: Server, log_probs: bool) -> None:
    server.most_choices, server.log_probs = 2, log_probs
    (samples,) = Endpoint(server.url).generate([ONE], 5, temperature=1.0)
    assert len(samples) == 5 and sum(sample.tokens for sample in samples) == 20
    assert all((sample.log_prob is not None) is log_probs for sample in samples)


def test_greedy_samples_are_generated_and_counted_once(server: Server) -> None:
    (samples,) = Endpoint(server.url).generate([ONE], 3)
    assert [sample.text for sample in samples] == ["one two three"] * 3
    assert sum(sample.tokens for sample in samples) == 3 and len(server.bodies) == 1


def test_a_failure_that_may_pass_is_repeated(server: Server) -> None:
    server.failures = [429, 503, 500]
    ((completion,),) = Endpoint(server.url, pause=0.01).generate([ONE])
    assert completion.text == "one two three" and len(server.bodies) == 4
    server.failures = [503] * 3
    with pytest.raises(Unreachable, match=r"/v1/chat/completions: no answer after 3 attempts \(status 503: busy\)"):
        Endpoint(server.url, attempts=3, pause=0.01).generate([ONE])


def test_a_server_that_asks_for_other_names_gets_them(server: Server) -> None:
    server.refuses = {
        "max_tokens": "Unsupported parameter: use 'max_completion_tokens' instead.",
        "logprobs": "logprobs are not supported",
        "seed": "extra key: seed",
    }
    model = Endpoint(server.url)
    for _ in range(2):
        ((completion,),) = model.generate([ONE], max_tokens=7)
        assert (completion.text, completion.tokens, completion.log_prob) == ("one two three", 3, None)
    assert server.bodies[-1]["max_completion_tokens"] == 7 and len(server.bodies) == 5


def test_a_server_with_one_sample_per_request_is_asked_for_each(server: Server) -> None:
    server.one_sample = True
    model = Endpoint(server.url)
    (samples,) = model.generate([ONE], 3, temperature=1.0)
    assert len({sample.text for sample in samples}) == 3 and [body["n"] for body in server.bodies] == [3, 1, 1, 1]


def test_a_refusal_names_the_url_and_repeats_the_message(server: Server) -> None:
    server.refuses = {"model": "temperature is out of range"}
    with pytest.raises(WinnowError, match=r"127.0.0.1:\d+/v1/chat/completions: .* 400: temperature is out of range"):
        Endpoint(server.url).generate([ONE])


def test_a_prompt_longer_than_the_context_has_no_completion(server: Server) -> None:
    ((completion,),) = Endpoint(server.url).generate([Request("direct", "word " * 600)])
    assert completion == ("", 0, None, "none", None)


def test_the_key_comes_from_the_environment_and_is_in_no_message(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.key = "sk-secret"
    monkeypatch.delenv("WINNOW_API_KEY", raising=False)
    with pytest.raises(WinnowError, match="WINNOW_API_KEY, which is not set"):
        Endpoint(server.url)
    monkeypatch.setenv("WINNOW_API_KEY", "sk-wrong")
    with pytest.raises(WinnowError, match="which is refused") as refused:
        Endpoint(server.url)
    assert "sk-wrong" not in str(refused.value)
    monkeypatch.setenv("WINNOW_API_KEY", "sk-secret")
    model = Endpoint(server.url)
    assert model.generate([ONE])[0][0].text and "sk-secret" not in model.name + model.identity
    with pytest.raises(WinnowError, match="not in the URL"):
        Endpoint("http://user:pw@127.0.0.1/v1")


def test_the_model_is_named_unless_there_is_only_one(server: Server) -> None:
    assert Endpoint(server.url).model == "echo"
    server.models = ["alpha", "beta"]
    with pytest.raises(WinnowError, match="name the model with --model; it has alpha, beta"):
        Endpoint(server.url)
    with pytest.raises(WinnowError, match="did you mean 'alpha'"):
        Endpoint(server.url, "alphas")
    assert Endpoint(server.url, "beta").name == f"{server.url} beta"


def test_no_server_is_an_error_that_names_the_url() -> None:
    with pytest.raises(Unreachable, match=r"http://127.0.0.1:9/v1/models: no answer after 2 attempts"):
        Endpoint("http://127.0.0.1:9/v1", "any", attempts=2, pause=0.01)
    with pytest.raises(WinnowError, match="expected a URL"):
        Endpoint("localhost:8000", "any")


def test_system_messages_stand_for_conditions(server: Server) -> None:
    model = Endpoint(server.url, systems={"synth,cot": "Show your work."})
    model.generate([ONE])
    assert server.bodies[0]["messages"][0] == {"role": "system", "content": "Show your work."}
    assert "Show your work." in model.identity


@pytest.mark.parametrize("text", ["self-consistency:n=3", "adaptive-consistency:n=3", "self-refine", "spiral"])
def test_strategies_run_on_an_endpoint(server: Server, text: str) -> None:
    questions = [
        Question("direct", f"say {number}", lambda said: said.split()[-1] if said else None) for number in (1, 2)
    ]
    answers = parse(text).run(questions, Endpoint(server.url), Sampling())
    assert all(answer.tokens > 0 and answer.prompt_tokens and answer.text.startswith("say") for answer in answers)
