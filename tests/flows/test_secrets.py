"""Credentials in addresses reach the server that asks for them, and nothing that is stored or shown.

A server of this machine gives its files to one user with a password, or for a signature in the query. Each test
searches every file below the root and all output for them.
"""

from __future__ import annotations

import base64
import http.server
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from pipelines import credentials
from pipelines.errors import InputError
from pipelines.ledger import input_files

WINNOW = Path(sys.executable).parent / "winnow"
PASSWORD, SIGNATURE, RENEWED = "pw9Zq4Lx7Ty2", "sig5f0cA81bd27e", "sig77aa01cd93ef"
SECRETS = (PASSWORD, SIGNATURE, RENEWED, base64.b64encode(f"eve:{PASSWORD}".encode()).decode())
WORDS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]


class Place(NamedTuple):
    """folder: of recipes. port: of the server."""

    folder: Path
    port: int

    @property
    def private(self) -> str:
        return f"http://eve:{PASSWORD}@127.0.0.1:{self.port}/private.jsonl"

    def signed(self, signature: str) -> str:
        return f"http://127.0.0.1:{self.port}/signed.jsonl?X-Amz-Date={len(signature)}&X-Amz-Signature={signature}"

    def run(self, *words: str, code: int = 0, **environment: str) -> str:
        """What a command prints, on stdout and stderr."""
        done = subprocess.run(
            [WINNOW, *words],
            cwd=self.folder,
            env=os.environ | {"WINNOW_ROOT": str(self.folder / "root"), "WINNOW_ENGINE": "local"} | environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        text = done.stdout + done.stderr
        assert done.returncode == code, text
        assert not [secret for secret in SECRETS if secret in text], text
        return text


class Files(http.server.BaseHTTPRequestHandler):
    """`/private.jsonl` for a user, `/signed.jsonl` for a signature."""

    def do_GET(self) -> None:
        rows = [
            {"q": f"{self.path[1:4]} say {WORDS[at % 12]} and {WORDS[at * 5 % 12]}", "a": f"{WORDS[at * 7 % 12]} {at}"}
            for at in range(30)
        ]
        body = "".join(json.dumps(row) + "\n" for row in rows).encode()
        user = base64.b64encode(f"eve:{PASSWORD}".encode()).decode()
        allowed = self.headers.get("Authorization") == f"Basic {user}" or re.search(
            f"X-Amz-Signature=({SIGNATURE}|{RENEWED})$", self.path
        )
        allowed = allowed and self.path.startswith(("/private.jsonl", "/signed.jsonl"))
        self.send_response(200 if allowed else 403)
        self.send_header("Content-Length", str(len(body) if allowed else 0))
        self.send_header("ETag", "same")
        self.end_headers()
        if allowed and self.command == "GET":
            self.wfile.write(body)

    do_HEAD = do_GET

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Files)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    folder = tmp_path_factory.mktemp("secrets")
    yield Place(folder, server.server_address[1])
    server.shutdown()
    server.server_close()


def recipe(place: Place, name: str = "few.yaml", signature: str = SIGNATURE) -> str:
    """Write a recipe with both addresses; returns its name."""
    source = {"columns": {"instruction": "q", "response": "a"}, "condition": "direct"}
    sources = [
        {"name": "private", "path": place.private, **source},
        {"name": "signed", "path": place.signed(signature), **source},
    ]
    values = {"name": "few", "sources": sources, "tokenizer": {"vocab_size": 512}}
    (place.folder / name).write_text(json.dumps(values | {"sampling": {"epochs": 1, "context": 257}}))
    return name


def leaks(*folders: Path) -> list[Path]:
    """Files, below folders, with a secret in them."""
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    assert files
    return [path for path in files if any(secret.encode() in path.read_bytes() for secret in SECRETS)]


@pytest.fixture(scope="module")
def built(place: Place, server: dict[str, str]) -> Place:
    """A build that two workers make, which reports to a Prefect server."""
    reported = {name: server[name] for name in ("PREFECT_HOME", "PREFECT_API_URL")}
    place.run("build", recipe(place), "--workers", "2", **reported)
    place.run("build", "few.yaml", "--set", f"sources.0.path={place.private}", "--set", "seed=2", **reported)
    return place


@pytest.mark.fault(
    "a password and a presigned query in the addresses of sources", "read, and in no file, message or database"
)
def test_credentials_of_addresses_are_in_nothing_that_a_build_leaves(built: Place, server: dict[str, str]) -> None:
    root = built.folder / "root"
    assert not leaks(root, Path(server["PREFECT_HOME"]))
    (info,) = [
        json.loads(path.read_text()) for path in root.glob("runs/few-*/run.json") if '"seed": 2' in path.read_text()
    ]
    paths = [source["path"] for source in info["settings"]["sources"]]
    assert paths == [f"http://***@127.0.0.1:{built.port}/{name}.jsonl" for name in ("private", "signed")]


def test_no_command_shows_or_exports_credentials(built: Place) -> None:
    for words in (
        ["runs"],
        ["report"],
        ["verify"],
        ["plan", "few.yaml"],
        ["plan", "few.yaml", "--json"],
        ["check", "few.yaml"],
    ):
        built.run(*words)
    built.run("why", "private/private/0")
    for form in ("manifest", "card", "spdx", "openlineage", "hf"):
        built.run("export", "latest", "--format", form, "--out", f"out/{form}")
    assert not leaks(built.folder / "root", built.folder / "out")


def test_an_address_that_is_signed_anew_is_the_same_input(built: Place) -> None:
    text = built.run("build", recipe(built, "again.yaml", RENEWED), "--workers", "1")
    assert text.count("reused") > 5 and " s  " not in text.partition("pack")[0], text


def test_a_stored_recipe_says_what_it_lacks(built: Place) -> None:
    (stored, *_) = (built.folder / "root").glob("runs/few-*/recipe.yaml")
    text = built.run("build", str(stored), "--root", str(built.folder / "other"), code=2)
    assert f"http://***@127.0.0.1:{built.port}/private.jsonl" in text and "never stored" in text and "--set" in text


def test_messages_about_a_refused_address_have_no_credentials(built: Place) -> None:
    wrong = built.signed(SIGNATURE).replace("X-Amz-Signature=", "X-Amz-Signature=no")
    text = built.run("build", "few.yaml", "--set", f"sources.1.path={wrong}", code=2)
    assert "***@127.0.0.1" in text
    built.run("build", f"http://eve:{PASSWORD}@127.0.0.1:{built.port}/none.jsonl", code=1)
    built.run("build", "few.yaml", "--set", f"sources.0.paht={built.private}", code=2)
    built.run("build", "few.yaml", "--set", f"token={SIGNATURE}", code=2)
    assert "are not read" in built.run("scan", f"s3://eve:{PASSWORD}@bucket/a.jsonl", "-b", "a=b.jsonl", code=2)
    assert not leaks(built.folder / "root")


def test_a_recipe_that_is_written_for_an_address_has_no_credentials(built: Place) -> None:
    words = ["--columns", "instruction=q,response=a"]
    text = built.run("init", built.private, *words, "-o", "written/own.yaml")
    assert "no credentials" in text and not leaks(built.folder / "written")
    built.run("build", built.signed(SIGNATURE), *words)
    assert not leaks(built.folder / "root")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://eve:a{b}c|d@h.test/x.csv, gone", "https://***@h.test/x.csv, gone"),
        ("hf://datasets/openai/gsm8k@main/a.parquet", "hf://datasets/openai/gsm8k@main/a.parquet"),
        ("https://h.test/part-?.csv", "https://h.test/part-?.csv"),
        ("Authorization: Bearer abcdefgh.ij", "Authorization: ***"),
        ("aws_secret_access_key = 'xyzxyz'", "aws_secret_access_key = ***"),
        ("tokenizer: {vocab_size: 600}, tokens=100000", "tokenizer: {vocab_size: 600}, tokens=100000"),
    ],
)
def test_messages_hide_credentials_and_nothing_else(text: str, shown: str) -> None:
    assert credentials.masked(text) == shown


def test_queries_that_name_the_file_stay_apart() -> None:
    one, other = ("https://h.test/get?id=1&sig=abc", "https://h.test/get?sig=def&id=2")
    assert credentials.public(one) != credentials.public(other)
    assert credentials.public(one) == credentials.public(one.replace("abc", "xyz"))
    assert input_files.suffix(credentials.public("https://h.test/a.csv.gz?X-Amz-Signature=1.json")) == ".csv"


def test_parameters_of_a_step_have_no_secret_and_a_value_that_may_decide_bytes_still_tells_steps_apart() -> None:
    found = credentials.without_secrets({"api_key": "k" * 20, "token": "a1" * 10, "pad_token": "<pad>", "tokens": [1]})
    assert found["api_key"] == "***" and found["token"].startswith("***") and "a1a1" not in found["token"]
    assert (found["pad_token"], found["tokens"]) == ("<pad>", [1])
    assert found["token"] != credentials.without_secrets({"token": "b2" * 10})["token"]


def test_an_unknown_public_address_says_how_to_give_the_whole_one() -> None:
    with pytest.raises(InputError, match="never stored"):
        credentials.whole("https://***@h.test/other.csv")


@pytest.mark.parametrize(
    "address",
    [
        "http://user:pa's-5ecret@host/it's.csv",
        'http://user:a"5ecret@host/x.csv',
        "zip://a.csv::https://u:5ecret@host/x.zip",
    ],
)
def test_quotes_and_chains_hide_no_credentials(address: str) -> None:
    assert "5ecret" not in credentials.hidden(address) and "***" in credentials.hidden(address)
    if '"' not in address:
        assert "5ecret" not in credentials.masked(f"error: {address}: no such file")
