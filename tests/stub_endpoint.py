"""A process on loopback that speaks the protocol of OpenAI-compatible endpoints, with answers given in a file.

    python -m tests.stub_endpoint FOLDER

FOLDER/script.json is read at every request, so a test may change it:

    answers: pairs of a pattern and what is answered to prompts in which it is found; the first that is found counts.
    {prompt} in an answer is the prompt. A list of answers gives one after the other.
    fail: pairs of a pattern and a list of status codes, of the first requests for such a prompt.
    hang: a pattern; requests for such a prompt are never answered.
    seconds: that every answer takes.

FOLDER/log.jsonl has a line per POST: the body, and the status of the answer. FOLDER/url has the URL once it listens.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

LOCK = threading.Lock()


class Handler(BaseHTTPRequestHandler):
    """Answers as the script in `folder` says. counts: requests by prompt."""

    folder: Path
    counts: dict[str, int]

    def log_message(self, *_: Any) -> None:
        """Nothing on stderr."""

    def reply(self, status: int, value: Any) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        if status == 429:
            self.send_header("Retry-After", "0")
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self) -> None:
        self.reply(200, {"object": "list", "data": [{"id": "stub"}]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        script = json.loads((self.folder / "script.json").read_text(encoding="utf-8"))
        prompt = body["messages"][-1]["content"]
        with LOCK:
            number = self.counts[prompt] = self.counts.get(prompt, 0) + 1
        status, value = self.answer(script, body, prompt, number)
        with LOCK, (self.folder / "log.jsonl").open("a", encoding="utf-8") as log:
            log.write(
                json.dumps({"status": status, "body": body, "authorized": "Authorization" in self.headers}) + "\n"
            )
        self.reply(status, value)

    def answer(self, script: Mapping[str, Any], body: Mapping[str, Any], prompt: str, number: int) -> tuple[int, Any]:
        if script.get("hang") and re.search(script["hang"], prompt):
            time.sleep(600)
        time.sleep(script.get("seconds", 0))
        for pattern, statuses in script.get("fail", ()):
            if re.search(pattern, prompt) and number <= len(statuses):
                return statuses[number - 1], {"error": {"message": f"refused by the script ({statuses[number - 1]})"}}
        for pattern, texts in script["answers"]:
            if re.search(pattern, prompt):
                texts = [texts] if isinstance(texts, str) else texts
                chosen = [texts[index % len(texts)].replace("{prompt}", prompt) for index in range(body.get("n") or 1)]
                choices = [
                    {"index": index, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
                    for index, text in enumerate(chosen)
                ]
                tokens = sum(len(text.split()) for text in chosen)
                return 200, {
                    "choices": choices,
                    "usage": {"prompt_tokens": len(prompt.split()), "completion_tokens": tokens},
                }
        return 400, {"error": {"message": f"the script has no answer to {prompt!r}"}}


class Stub:
    """A running process. folder: of its script and log."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder, self.url = folder, url

    def script(self, **script: Any) -> None:
        """Say what is answered from now on."""
        aside = self.folder / "script.new"
        aside.write_text(json.dumps(script), encoding="utf-8")
        aside.replace(self.folder / "script.json")

    @property
    def log(self) -> list[dict[str, Any]]:
        """The requests so far."""
        path = self.folder / "log.jsonl"
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []

    @property
    def prompts(self) -> list[str]:
        """The prompts that were answered so far."""
        return [line["body"]["messages"][-1]["content"] for line in self.log if line["status"] == 200]


@contextmanager
def running_stub(folder: Path, **script: Any) -> Iterator[Stub]:
    """A stub with this script."""
    stub = Stub(folder, "")
    stub.script(**{"answers": [], **script})
    command = [sys.executable, "-m", "tests.stub_endpoint", str(folder.resolve())]
    process = subprocess.Popen(command, cwd=Path(__file__).parents[1])
    try:
        for _ in range(600):
            if (folder / "url").exists():
                break
            assert process.poll() is None
            time.sleep(0.02)
        stub.url = (folder / "url").read_text(encoding="utf-8")
        yield stub
    finally:
        process.kill()
        process.wait()


def main() -> None:
    """Serve until it is killed."""
    Handler.folder, Handler.counts = Path(sys.argv[1]), {}
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    aside = Handler.folder / "url.new"
    aside.write_text(f"http://127.0.0.1:{server.server_address[1]}/v1", encoding="utf-8")
    aside.replace(Handler.folder / "url")
    server.serve_forever()


if __name__ == "__main__":
    main()
