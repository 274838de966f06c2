"""`winnow serve`, asked by the openai client over loopback, answers as `winnow generate` does."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import openai
import pyarrow as pa
import pytest
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from filters.rewrite import Rewrite
from flows.generate import generate
from pipelines.steps.rewrite import ASKED
from training.export import config_json
from training.inference.checkpoint_model import CheckpointModel, load_checkpoint_model
from training.inference.endpoint import Endpoint
from training.inference.generate import cut_at_stop
from training.inference.language_model import Request
from training.inference.models import open_model
from training.inference.strategies import Question, Sampling, parse
from training.model import ModelConfig, build
from training.rewriting import EndpointRewriter

ROLES = ("pad", "boq", "eoq", "eoa", "direct", "cot", "noisy", "synth")
CONTEXT = 601
QUESTIONS = [f"What is {a} + {b}? é€🎉" for a in range(4) for b in range(4)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model with random weights. Its tokens are mostly bytes, and its answers have 1 to 600 tokens."""
    folder = tmp_path_factory.mktemp("served") / "small"
    folder.mkdir()
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    names = [f"<|{role}|>" for role in ROLES]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=288, special_tokens=names, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(["What is 3 + 4?"] * 50, trainer)
    tokenizer.save(str(folder / "tokenizer.json"))
    special = {role: tokenizer.token_to_id(name) for role, name in zip(ROLES, names, strict=True)}
    config = ModelConfig(
        vocab_size=tokenizer.get_vocab_size(), hidden=64, heads=4, feed_forward=128, blocks=2, max_positions=CONTEXT - 1
    )
    model = build(config, seed=5)
    with torch.no_grad():  # so that some answers end
        model.lm_head.weight[special["eoa"]] *= 1.5
    state = {
        name if name.startswith("lm_head") else f"model.{name}": value for name, value in model.state_dict().items()
    }
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config_json(config, special)))
    (folder / "winnow.json").write_text(json.dumps({"special": special, "context": CONTEXT}))
    return folder


@pytest.fixture(scope="module")
def model(folder: Path) -> CheckpointModel:
    return load_checkpoint_model(str(folder), device="cpu")


class Server(NamedTuple):
    process: subprocess.Popen[str]
    url: str
    started: dict[str, Any]
    log: Path

    def client(self, key: str = "none") -> openai.OpenAI:
        return openai.OpenAI(base_url=self.url, api_key=key, max_retries=0, timeout=60)

    def health(self) -> dict[str, Any]:
        with urllib.request.urlopen(self.url.removesuffix("/v1") + "/health", timeout=10) as answer:
            value: dict[str, Any] = json.loads(answer.read())
            return value


@contextlib.contextmanager
def serving(folder: Path | str, log: Path, *options: str) -> Iterator[Server]:
    """A server on a free port. It is killed at the end unless it was stopped."""
    command = [sys.executable, "-m", "flows.cli.main", "serve", str(folder), "--port", "0", "--device", "cpu", "--json"]
    with log.open("w") as file:
        process = subprocess.Popen([*command, *options], stdout=subprocess.PIPE, stderr=file, text=True)
    with process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line, log.read_text()
            started = json.loads(line)
            yield Server(process, started["url"], started, log)
        finally:
            process.kill()


@pytest.fixture(scope="module")
def server(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    log = tmp_path_factory.mktemp("log") / "log"
    options = ("--slots", "4", "--max-queue", "20", "--max-tokens", "600", "--model-name", "small")
    with serving(folder, log, *options) as server:
        yield server
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(timeout=20) == 130


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[openai.OpenAI]:
    with server.client() as client:
        yield client


def ask(client: openai.OpenAI, text: str, **options: Any) -> Any:
    options = {"model": "small", "max_tokens": 40} | options
    return client.chat.completions.create(messages=[{"role": "user", "content": text}], **options)


def text_of(answer: Any) -> str:
    return answer.choices[0].message.content


# --------------------------------------------------------------------------------------------------------------- texts


def test_texts_are_those_of_generate_for_both_endpoints_and_any_condition(folder: Path, client: openai.OpenAI) -> None:
    for condition in ("direct", "synth,cot"):
        expected = generate(str(folder), QUESTIONS[0], condition, 40, device="cpu").response
        asked = {"condition": condition}
        assert text_of(ask(client, QUESTIONS[0], extra_body=asked)) == expected
        completion = client.completions.create(model="small", prompt=QUESTIONS[0], max_tokens=40, extra_body=asked)
        assert completion.choices[0].text == expected
    messages: Any = [{"role": "system", "content": "synth,cot"}, {"role": "user", "content": QUESTIONS[0]}]
    answer = client.chat.completions.create(model="small", messages=messages, max_tokens=40)
    assert text_of(answer) == expected


def test_sixteen_requests_at_once_get_the_answers_of_one_after_another(
    client: openai.OpenAI, model: CheckpointModel
) -> None:
    expected = [
        made[0] for made in model.generate([Request("direct", question) for question in QUESTIONS], max_tokens=300)
    ]
    with ThreadPoolExecutor(16) as pool:
        together = list(pool.map(lambda question: ask(client, question, max_tokens=300), QUESTIONS))
    assert [text_of(answer) for answer in together] == [completion.text for completion in expected]
    assert [answer.usage.completion_tokens for answer in together] == [completion.tokens for completion in expected]
    assert [answer.usage.prompt_tokens for answer in together] == [completion.prompt_tokens for completion in expected]
    assert [answer.choices[0].finish_reason for answer in together] == [completion.finish for completion in expected]
    assert len({completion.tokens for completion in expected}) > 3


def test_samples_are_those_of_the_seed_and_streams_join_to_them(client: openai.OpenAI, model: CheckpointModel) -> None:
    options: Any = {"n": 3, "temperature": 1.0, "seed": 7, "max_tokens": 60}
    (expected,) = model.generate([Request("direct", QUESTIONS[0])], 3, temperature=1.0, seed=7, max_tokens=60)
    answer = ask(client, QUESTIONS[0], **options)
    assert [choice.message.content for choice in answer.choices] == [completion.text for completion in expected]
    assert len({completion.text for completion in expected}) == 3
    texts, finish, usage = ["", "", ""], {}, None
    for chunk in ask(client, QUESTIONS[0], stream=True, stream_options={"include_usage": True}, **options):
        usage = chunk.usage
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
            finish[choice.index] = choice.finish_reason
    assert texts == [completion.text for completion in expected]
    assert list(finish.values()) == [choice.finish_reason for choice in answer.choices]
    assert usage == answer.usage
    assert ask(client, QUESTIONS[0], **options | {"seed": 8}).choices[0].message.content != texts[0]
    narrow = ask(client, QUESTIONS[0], **options | {"top_p": 1e-9})
    assert {choice.message.content for choice in narrow.choices} == {text_of(ask(client, QUESTIONS[0], max_tokens=60))}


@pytest.mark.parametrize("stream", [False, True])
def test_a_stop_string_ends_an_answer_before_it(client: openai.OpenAI, stream: bool) -> None:
    options: Any = {"temperature": 1.0, "seed": 3, "max_tokens": 80}
    full = text_of(ask(client, QUESTIONS[1], **options))
    stop = [full[len(full) // 2 : len(full) // 2 + 3], "never in it"]  # three characters: of several tokens
    answer = ask(client, QUESTIONS[1], stop=stop, stream=stream, **options)
    if stream:
        text = "".join(chunk.choices[0].delta.content or "" for chunk in answer)
    else:
        text = text_of(answer)
        assert answer.choices[0].finish_reason == "stop"
        assert answer.usage.completion_tokens < 80
    assert text == cut_at_stop(full, stop) != full


def test_log_probabilities_are_those_of_the_tokens(client: openai.OpenAI, model: CheckpointModel) -> None:
    ((expected,),) = model.generate([Request("direct", QUESTIONS[2])], max_tokens=20)
    assert expected.finish == "length"
    answer = ask(client, QUESTIONS[2], max_tokens=20, logprobs=True, top_logprobs=2)
    content = answer.choices[0].logprobs.content
    assert sum(token.logprob for token in content) == pytest.approx(expected.log_prob, rel=1e-5)
    assert bytes(byte for token in content for byte in token.bytes).decode(errors="replace") == expected.text
    assert all(token.top_logprobs[0].logprob == token.logprob for token in content)  # greedy
    assert {len(token.top_logprobs) for token in content} == {2}
    streamed = ask(client, QUESTIONS[2], max_tokens=20, logprobs=True, top_logprobs=2, stream=True)
    chunks = [chunk.choices[0].logprobs for chunk in streamed]
    assert [token for part in chunks if part for token in part.content] == content
    completion = client.completions.create(model="small", prompt=[QUESTIONS[2]] * 2, max_tokens=20, logprobs=1)
    for choice in completion.choices:
        assert choice.logprobs is not None
        assert choice.logprobs.token_logprobs == [token.logprob for token in content]


def test_a_stage_that_rewrites_asks_it_once_and_then_needs_no_server(
    server: Server, model: CheckpointModel, tmp_path: Path
) -> None:
    systems = {"direct": "direct", "synth,cot": "synth,cot"}
    stage = Rewrite(
        endpoint=server.url, model="small", strategy="spiral:min_rounds=2,max_rounds=2", systems=systems, max_tokens=12
    )
    rows = [{"id": q, "condition": "direct", "instruction": q, "response": "7", "prompt": q} for q in QUESTIONS[:3]]
    table = pa.Table.from_pylist(rows, ASKED)
    (first,) = EndpointRewriter(stage).answers([table], str(tmp_path), "me", lambda done: None)
    assert first["tokens"].to_pylist() == [
        sum(call["tokens"] for call in calls) for calls in first["calls"].to_pylist()
    ]
    reasoned = {"role": "integrate", "prompt": QUESTIONS[0]}
    (expected,) = model.generate([Request("synth,cot", QUESTIONS[0])], max_tokens=12)
    (called,) = [call for call in first["calls"][0].as_py() if reasoned.items() <= call.items()]
    assert called["text"] == expected[0].text
    elsewhere = stage.model_copy(update={"endpoint": "http://127.0.0.1:9/v1"})
    (again,) = EndpointRewriter(elsewhere).answers([table], str(tmp_path), "another", lambda done: None)
    assert again.equals(first)


def test_as_a_language_model_of_evaluation_it_is_the_checkpoint(server: Server, model: CheckpointModel) -> None:
    systems = {condition: condition for condition in ("direct", "synth,cot")}
    endpoint = Endpoint(server.url, systems=systems)
    requests = [Request(condition, question) for condition in systems for question in QUESTIONS[:4]]
    answers, expected = (one.generate(requests, max_tokens=30) for one in (endpoint, model))
    for (answer,), (right,) in zip(answers, expected, strict=True):
        assert (answer.text, answer.tokens, answer.finish) == (right.text, right.tokens, right.finish)
        assert answer.log_prob == pytest.approx(right.log_prob, rel=0.2)  # without the end token
    plain = open_model(f"{server.url}/completions").generate(requests[:1], max_tokens=30)
    assert plain[0][0].text == expected[0][0].text
    (spiral,) = parse("spiral:max_rounds=3").run(
        [Question("direct", QUESTIONS[0], lambda text: text[:2] or None)], endpoint, Sampling(max_tokens=8)
    )
    assert spiral.tokens == sum(call.tokens for call in spiral.trace) > 0


# -------------------------------------------------------------------------------------------------------------- limits


def chat(*messages: tuple[str, str]) -> list[dict[str, str]]:
    return [{"role": role, "content": content} for role, content in messages]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools is not supported"),
        ({"frequency_penalty": 0.5}, "frequency_penalty is not supported"),
        ({"response_format": {"type": "json_object"}}, "response_format is not supported"),
        ({"extra_body": {"top_k": 4}}, "unknown parameter 'top_k'"),
        ({"extra_body": {"condition": "fast"}}, "not one of direct, cot, noisy, synth"),
        ({"max_tokens": 601}, "above this server's limit, 600"),
        ({"temperature": -1}, "temperature: input should be greater"),
        ({"n": 25}, "holds at most 24"),
        ({"stop": ["x"] * 17}, "at most 16 items"),
        ({"messages": [{"role": "user", "content": "x " * 700}]}, "the context of 601"),
        ({"messages": [{"role": "user", "content": "\ud800"}]}, "surrogates not allowed"),
        (
            {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]},
            "single instructions",
        ),
        (
            {"messages": [{"role": "system", "content": "Be nice."}, {"role": "user", "content": "a"}]},
            "no system prompt",
        ),
    ],
    ids=range(13),
)
def test_what_cannot_be_answered_is_refused_by_name(server: Server, options: dict[str, Any], message: str) -> None:
    body = {"model": "small", "messages": [{"role": "user", "content": "a"}]} | options
    body |= body.pop("extra_body", {})
    status, answer = post(server, "/chat/completions", json.dumps(body).encode())
    assert status == 400 and message in answer["error"]["message"]
    assert set(answer["error"]) == {"message", "type", "param", "code"}


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/completions", b"{", 400),
        ("/completions", b"[]", 400),
        ("/completions", b'{"prompt": [1, 2]}', 400),
        ("/completions", b'{"prompt": "a", "echo": true}', 400),
        ("/completions", b'{"prompt": "a", "model": "other"}', 404),
        ("/embeddings", b"{}", 404),
        ("/completions", b'{"prompt": "' + b"a" * (1 << 20) + b'"}', 413),
        (
            "/completions",
            b'{"prompt": "a", "best_of": 1, "user": "u", "suffix": null, "n": null, "stop": null, "max_tokens": 2}',
            200,
        ),
    ],
    ids=range(8),
)
def test_statuses(server: Server, path: str, body: bytes, status: int) -> None:
    assert post(server, path, body)[0] == status


def post(server: Server, path: str, body: bytes, key: str = "") -> tuple[int, dict[str, Any]]:
    headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {key}"} if key else {})}
    try:
        with urllib.request.urlopen(urllib.request.Request(server.url + path, body, headers), timeout=30) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


@pytest.mark.fault("clients of a served model go away, the queue is full", "told, and freed")
def test_a_full_queue_is_told_and_a_client_that_goes_away_frees_it(server: Server, client: openai.OpenAI) -> None:
    long: Any = {"n": 24, "temperature": 1.0, "seed": 1, "max_tokens": 550, "stream": True}
    stream = ask(client, QUESTIONS[0], **long)
    next(iter(stream))
    assert server.health()["unfinished"] > 4
    with pytest.raises(openai.RateLimitError, match="the queue is full"):
        ask(client, QUESTIONS[0], **long)
    stream.close()
    wait_until_idle(server)
    assert " 499 /v1/chat/completions" in server.log.read_text()
    with pytest.raises(openai.APITimeoutError):
        ask(client, QUESTIONS[0], **long | {"stream": False}, timeout=0.3)
    wait_until_idle(server)
    assert server.log.read_text().count(" 499 /v1/chat/completions") == 2
    assert text_of(ask(client, QUESTIONS[0], max_tokens=5))


def wait_until_idle(server: Server) -> None:
    deadline = time.monotonic() + 30
    while server.health()["unfinished"]:
        assert time.monotonic() < deadline
        time.sleep(0.02)


# ------------------------------------------------------------------------------------------------------ key and signals


def test_a_key_is_asked_for_and_sigterm_ends_a_server_that_is_generating(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("secret\n")
    options = ("--host", "0.0.0.0", "--api-key-file", str(tmp_path / "key"))
    with contextlib.ExitStack() as opened, serving(folder, tmp_path / "log", *options) as server:
        server = server._replace(url=server.url.replace("0.0.0.0", "127.0.0.1"))
        assert server.started["key"] and server.started["model"] == "small"
        with server.client("wrong") as client, pytest.raises(openai.AuthenticationError, match="API key"):
            client.models.list()
        client = opened.enter_context(server.client("secret"))
        assert [model.id for model in client.models.list()] == ["small"]
        assert client.models.retrieve("small").id == "small"
        assert server.health()["status"] == "ok"
        stream = ask(client, QUESTIONS[0], n=16, temperature=1.0, max_tokens=550, stream=True)
        opened.callback(stream.close)
        next(iter(stream))
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(timeout=20) == 143
        assert "Traceback" not in server.log.read_text()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--host", "0.0.0.0"], "other machines could connect"),
        (["--api-key-file", "/nonexistent"], "cannot be read"),
        (["--precision", "int8"], "known: bf16, fp32"),
        (["--port", "PORT"], "choose another"),
    ],
)
def test_mistakes_are_told_before_a_model_is_loaded(
    folder: Path, server: Server, options: list[str], message: str
) -> None:
    port = server.url.rpartition(":")[2].partition("/")[0]
    options = [port if option == "PORT" else option for option in options]
    command = [sys.executable, "-m", "flows.cli.main", "serve", str(folder), "--port", "0", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and message in done.stderr
