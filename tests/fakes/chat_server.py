"""A loopback OpenAI-compatible server: the model is fake, the HTTP is real.

    with chat_server(lambda body, number: "done") as server:      # the text of a reply, or an Answer
        make_chat(f"openai:{server.url}#m")(ChatRequest(...)); server.bodies[0]["messages"]
    with serve(flaky(seed=7)) as server:                          # answers as the annotator's model
        annotate(items, AnnotatorSettings("fake-vlm", server.url), folder)
    server.log[0] -> Asked(key="4be1...", request="remove the lamp", nth=0, body={...}, headers={...})

Run as a program it outlives the client that it serves, which a test may then kill:

    python tests/fakes/chat_server.py --seed 7    # prints http://127.0.0.1:PORT/v1
    curl http://127.0.0.1:PORT/count                             # 5213 requests so far
    curl http://127.0.0.1:PORT/stats                             # {"4be1...": {"asked": 2, "answered": 1}, ...}
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from itertools import count
from typing import Any, TypeVar

# what the fake model goes by: a word of the request that begins like one of these stands for the action
VERBS = {
    "Delete": ("remov", "delet", "eras", "eliminat", "expung", "get rid", "nullif", "abolish", "omit", "extract"),
    "Add": ("add", "insert", "place", "put", "affix", "includ"),
    "Replace": ("replac", "swap", "exchang", "substitut", "background", "backdrop"),
    "Recoloring": ("colo", "tint", "hue", "dye"),
    "Apply": ("style", "transfer", "paint", "filter", "blur"),
    "Relighting": ("bright", "light", "radian", "illumin"),
    "Transform": ("rais", "lower", "turn", "rotat", "flip"),
    "Superresolution": ("resol", "sharp", "clar", "detail", "enhanc"),
}
SLOW, CLOSE = "slow", "close"
# of a bad day: the share of answers that are useless, of questions that are always refused, most failures in a row
FAILURES, REFUSED, IN_A_ROW = 0.3, 0.02, 3


@dataclass(frozen=True)
class Asked:
    """One request, as it arrived."""

    key: str
    """Names the question: text and image, whatever the sampling."""
    request: str
    nth: int
    """How many times this question had been asked before."""
    body: dict[str, Any]
    headers: dict[str, str]


@dataclass(frozen=True)
class Answer:
    """One response; `trouble` SLOW waits and closes, CLOSE closes at once."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    trouble: str = ""
    usable: bool = False
    """True for a reply that a client has no reason to ask for again."""


Respond = Callable[[Asked], Answer]


def raw(body: str, kind: str = "application/json", status: int = 200, **headers: str) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(status, body.encode(), {"Content-Type": kind, **named})


def completion(
    content: str | None, finish_reason: str = "stop", refusal: str | None = None, usable: bool = False, **changes: Any
) -> Answer:
    """`changes`: of the keys beside the choices; None takes one out."""
    message = {"role": "assistant", "content": content, "refusal": refusal}
    body = {
        "id": "chatcmpl-x",
        "object": "chat.completion",
        "created": 0,
        "model": "fake-vlm-2026",
        "choices": [{"index": 0, "finish_reason": finish_reason, "message": message}],
        "usage": {"prompt_tokens": 700, "completion_tokens": 30, "total_tokens": 730},
    } | changes
    return replace(raw(json.dumps({key: value for key, value in body.items() if value is not None})), usable=usable)


def error(status: int, message: str = "no luck", code: str | None = None, **headers: str) -> Answer:
    body = {"error": {"message": message, "type": "error", "param": None, "code": code}}
    return raw(json.dumps(body), status=status, **headers)


def slow(seconds: float) -> Answer:
    time.sleep(seconds)
    return completion("too late")


def gold_of(request: str) -> dict[str, list[str]]:
    """What the fake model sees in a request: a plausible decomposition, always the same one."""
    text = request.casefold()
    actions = [name for name, stems in VERBS.items() if any(re.search(rf"\b{stem}", text) for stem in stems)]
    noun = re.search(r"\b(?:the|a|an)\s+([\w'-]+)", text)
    goal = re.search(r"\b(?:to|into|with)\s+(.{3,40}?)(?:[.,;]|$)", text)
    return {
        "actions": actions or ["Adjust"],
        "subjects": [noun.group(1) if noun else "photo"],
        "goals": [goal.group(1)] if goal else [],
    }


def honest(asked: Asked) -> Answer:
    """The fake model on a good day. The reply's model says which request it answers: "fake-vlm-2026-<key>-<nth>"."""
    return completion(json.dumps(gold_of(asked.request)), model=f"fake-vlm-2026-{asked.key}-{asked.nth}", usable=True)


def flaky(seed: int) -> Respond:
    """The fake model on a bad day, by a hash of (seed, key, nth): what becomes of a question does not depend on when
    its client was killed."""

    def respond(asked: Asked) -> Answer:
        good = honest(asked)
        if draw(seed, asked.key, "refused") < REFUSED:
            return completion(None, refusal="I can't help with this image.")
        running = 0
        for nth in range(asked.nth + 1):
            fails = draw(seed, asked.key, nth) < FAILURES and running < IN_A_ROW
            running = running + 1 if fails else 0
        troubles = (
            error(429, "slow down", Retry_After="0"),
            error(500),
            Answer(trouble=SLOW),
            Answer(trouble=CLOSE),
            completion(json.dumps(gold_of(asked.request))[:-9], "length"),
            raw(good.body.decode()[:-40]),
            completion("Sure! I would remove it."),
            completion('{"actions": ["Fix"], "subjects": [], "goals": []}'),
            raw("<html><h1>Bad gateway</h1></html>", "text/html"),
        )
        return troubles[int(draw(seed, asked.key, asked.nth, "kind") * len(troubles))] if running else good

    return respond


def draw(*parts: Any) -> float:
    """A number in [0, 1) that depends on nothing but `parts`."""
    return int(hashlib.sha256(repr(parts).encode()).hexdigest()[:12], 16) / 16**12


class ChatServer:
    """Counts every question; `log` holds the questions themselves unless `keep` is False. `slow`: seconds that SLOW
    takes."""

    def __init__(self, respond: Respond, slow: float = 1.0, keep: bool = True) -> None:
        self.respond = respond
        self.slow = slow
        self.log: list[Asked] = []
        self.asked: Counter[str] = Counter()
        self.answered: Counter[str] = Counter()
        """Usable replies that were sent to their end."""
        self._keep = keep
        self._lock = threading.Lock()
        self._http = _Listener(("127.0.0.1", 0), _handler(self))
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}/v1"

    @property
    def bodies(self) -> list[dict[str, Any]]:
        return [asked.body for asked in self.log]

    def run(self) -> None:
        self._http.serve_forever(poll_interval=0.05)

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()

    def take(self, body: dict[str, Any], headers: dict[str, str]) -> Asked:
        request, key = self.question(body)
        with self._lock:
            asked = Asked(key, request, self.asked[key], body, headers)
            self.asked[key] += 1
            if self._keep:
                self.log.append(asked)
        return asked

    def question(self, body: dict[str, Any]) -> tuple[str, str]:
        """The request between the prompt's triple quotes, or all its text, and the key of request and images."""
        content = body["messages"][0]["content"]
        parts: list[dict[str, Any]] = [{"text": content}] if isinstance(content, str) else content
        text = "".join(part["text"] for part in parts if "text" in part)
        images = "".join(part["image_url"]["url"] for part in parts if "image_url" in part)
        request = text.split('"""')[1].strip() if '"""' in text else text
        return request, hashlib.sha256(f"{request}\0{images}".encode()).hexdigest()[:16]

    def sent(self, asked: Asked, answer: Answer) -> None:
        with self._lock:
            self.answered[asked.key] += answer.usable

    @property
    def total(self) -> int:
        with self._lock:
            return self.asked.total()

    def stats(self) -> dict[str, dict[str, int]]:
        with self._lock:
            return {key: {"asked": count, "answered": self.answered[key]} for key, count in self.asked.items()}


def fields_of(data: bytes, kind: str) -> dict[str, Any]:
    """A JSON object, or the fields of a form, whose files are bytes."""
    if not kind.startswith("multipart/"):
        return json.loads(data)
    from werkzeug.formparser import parse_form_data

    request = {"wsgi.input": BytesIO(data), "CONTENT_TYPE": kind, "CONTENT_LENGTH": str(len(data))}
    _, form, files = parse_form_data(request)
    return form.to_dict() | {name: file.read() for name, file in files.items()}


Server = TypeVar("Server", bound=ChatServer)


@contextmanager
def running(server: Server) -> Iterator[Server]:
    """The server in a thread of this process."""
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.close()
        thread.join()


def serve(respond: Respond = honest) -> AbstractContextManager[ChatServer]:
    return running(ChatServer(respond))


def chat_server(answer: Callable[[dict[str, Any], int], Any]) -> AbstractContextManager[ChatServer]:
    """`answer(body, number)` is a reply's text or an Answer to the request of that number, from 0."""
    numbers = count()

    def respond(asked: Asked) -> Answer:
        reply = answer(asked.body, next(numbers))
        return reply if isinstance(reply, Answer) else completion(reply, model=None, usage=None)

    return serve(respond)


class _Listener(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that was killed is no news."""


def _handler(server: ChatServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            shown = server.total if self.path == "/count" else server.stats()
            self._send(raw(json.dumps(shown)))

        def do_POST(self) -> None:
            body = fields_of(self.rfile.read(int(self.headers["Content-Length"])), self.headers["Content-Type"])
            asked = server.take(body, {name.lower(): value for name, value in self.headers.items()})
            answer = server.respond(asked)
            if answer.trouble:
                time.sleep(server.slow if answer.trouble == SLOW else 0)
                self.close_connection = True
                return
            self._send(answer)
            server.sent(asked, answer)

        def _send(self, answer: Answer) -> None:
            self.send_response(answer.status)
            for name, value in {**answer.headers, "Content-Length": str(len(answer.body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(answer.body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    return Handler


def main() -> None:
    parser = argparse.ArgumentParser(description="A loopback annotator that fails a share of the time.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--slow", type=float, default=1.0, help="seconds before a request that times out is dropped")
    options = parser.parse_args()
    server = ChatServer(flaky(options.seed), options.slow, keep=False)
    print(server.url, flush=True)
    server.run()


if __name__ == "__main__":
    main()
