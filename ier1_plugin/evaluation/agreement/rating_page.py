"""The web page on which raters rate: a small server for this machine or a trusted network.

    serve(study, rubric(), host="127.0.0.1", port=7870, started=print)
    # http://127.0.0.1:7870/r/5F1nX...   rater-1

    GET  /r/TOKEN               the page
    GET  /r/TOKEN/pairs         {"rater": "rater-1", "pairs": [{"request": "...", "score": {...} or null, "edited":
                                "9f2c..."}, ...]}; `edited`: hash of the edited image
    GET  /r/TOKEN/7/source      the 7th image of this rater's order as a new PNG; also /7/edited?HASH
    POST /r/TOKEN/7             {"score": {"fulfilment": 4, "quality": 2, "preservation": 3}, "seconds": 12.5,
                                "edited": "9f2c..."}

A link's token is all that lets a rater in; nothing else of the machine can be reached. Names of systems and files never
leave the server, and images are encoded anew, as an edited PNG carries the plan that made it.
"""

from __future__ import annotations

import math
import secrets
import socket
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ier1_plugin.evaluation.agreement.rating_study import Changed, Rater, Study
from ier1_plugin.evaluation.agreement.rubric import Rubric
from ier1_plugin.evaluation.judges.base import content_sha256
from ier1_plugin.evaluation.records import DIMENSIONS, Score
from ier1_plugin.task.images import ImageError, fitted, open_image, png_bytes, read_file

if TYPE_CHECKING:
    from PIL import Image
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

TEMPLATE = Path(__file__).with_name("rating_page.html.jinja")
SOURCE, EDITED = "source", "edited"
MOST_BYTES = 4096
"""Of a rating."""
PATIENCE = 3
"""Seconds that requests under way get when the server ends."""
LONGEST_LOOK = 24 * 3600.0
PRIVATE = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}

KEPT = {"Cache-Control": "private, max-age=86400"}
"""Images: the page fetches the next ones ahead."""


class RequestRejected(Exception):
    """A rating that can't be taken; the message says why."""


def serve(study: Study, rubric: Rubric, host: str, port: int, started: Callable[[dict[str, str]], None]) -> None:
    """Serves until Ctrl-C; `started` gets {rater: link}. OSError: the port is taken, or there is no such address."""
    import uvicorn

    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, port), family=family) as listening:
        # an access log would hold the tokens
        config = uvicorn.Config(
            application(study, rubric),
            log_level="warning",
            access_log=False,
            server_header=False,
            lifespan="off",
            timeout_graceful_shutdown=PATIENCE,
        )
        started(links(study, host, listening.getsockname()[1]))
        uvicorn.Server(config).run(sockets=[listening])


def links(study: Study, host: str, port: int) -> dict[str, str]:
    """{rater: link}; where the server listens everywhere, the links have the name of this machine."""
    name = socket.gethostname() if host in ("0.0.0.0", "::") else host
    name = f"[{name}]" if ":" in name else name
    return {rater.name: f"http://{name}:{port}/r/{rater.token}" for rater in study.raters}


def application(study: Study, rubric: Rubric) -> Starlette:
    """The ASGI application."""
    from starlette.applications import Starlette
    from starlette.responses import PlainTextResponse
    from starlette.routing import Route

    def nothing(request: Request, error: Exception) -> Response:
        return PlainTextResponse("This link leads nowhere.", 404, headers=PRIVATE)

    handlers = _Handlers(study, rubric)
    return Starlette(
        routes=[
            Route("/r/{token}", handlers.page),
            Route("/r/{token}/pairs", handlers.pairs),
            Route("/r/{token}/{place:int}", handlers.rate, methods=["POST"]),
            Route("/r/{token}/{place:int}/{which}", handlers.image),
        ],
        exception_handlers={404: nothing},
    )


class _Handlers:
    """What answers the requests of one study."""

    def __init__(self, study: Study, rubric: Rubric) -> None:
        self._study, self._rubric = study, rubric

    def page(self, request: Request) -> Response:
        from starlette.responses import HTMLResponse

        rater = self._rater(request)
        nonce = secrets.token_urlsafe(16)
        policy = (
            f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; img-src 'self' data:; "
            "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )
        text = _rendered(rater=rater.name, nonce=nonce, rubric=self._rubric, count=len(self._study.pairs))
        return HTMLResponse(text, headers=PRIVATE | {"Content-Security-Policy": policy})

    def pairs(self, request: Request) -> Response:
        from starlette.responses import JSONResponse

        rater = self._rater(request)
        scores = self._study.scores(rater)
        pairs = [
            {
                "request": pair.request,
                "score": asdict(score) if score else None,
                "edited": self._study.edited_sha256(pair),
            }
            for pair, score in zip(self._study.order(rater), scores, strict=True)
        ]
        return JSONResponse({"rater": rater.name, "pairs": pairs}, headers=PRIVATE)

    def image(self, request: Request) -> Response:
        from starlette.responses import PlainTextResponse, Response

        rater = self._rater(request)
        pair = self._study.order(rater)[self._place(request)]
        which = request.path_params["which"]
        if which not in (SOURCE, EDITED):
            raise _not_found()
        try:
            image = open_image(self._study.folder / pair.source)
            if which == EDITED:
                # as judges see it: brought to the size of the source, so that the size gives no editor away
                image = fitted(_edited(self._study.folder / pair.edited, request.url.query), image.size)
        except ImageError:
            # the reason would name the file, and with it the system
            return PlainTextResponse("image missing", 410, headers=PRIVATE)
        return Response(png_bytes(image), media_type="image/png", headers=PRIVATE | KEPT)

    async def rate(self, request: Request) -> Response:
        from starlette.concurrency import run_in_threadpool
        from starlette.responses import PlainTextResponse, Response

        rater, place = self._rater(request), self._place(request)
        try:
            score, seconds, seen = read_rating(await _body(request))
            await run_in_threadpool(self._study.rate, rater, place, score, seconds, seen)
        except Changed:
            return PlainTextResponse("this edit was made again; reload the page to see it", 409, headers=PRIVATE)
        except RequestRejected as error:
            return PlainTextResponse(str(error), 422, headers=PRIVATE)
        except OSError as error:
            return PlainTextResponse(f"the disk does not take it: {error.strerror}", 507, headers=PRIVATE)
        return Response(status_code=204, headers=PRIVATE)

    def _rater(self, request: Request) -> Rater:
        token = request.path_params["token"].encode()
        for rater in self._study.raters:
            if secrets.compare_digest(rater.token.encode(), token):
                return rater
        raise _not_found()

    def _place(self, request: Request) -> int:
        place = request.path_params["place"]
        if place >= len(self._study.pairs):
            raise _not_found()
        return place


def _edited(file: Path, sha256: str) -> Image.Image:
    """ImageError: missing, no image, or not the one of that hash ("": any)."""
    data = read_file(file)
    if sha256 and content_sha256(data) != sha256:
        raise ImageError("the edit was made again")
    return open_image(data)


def read_rating(body: bytes) -> tuple[Score, float, str]:
    """(score, seconds that it took, hash of the image that was seen or "").

    RequestRejected: it isn't a whole number in range for each dimension.
    """
    import json

    try:
        values = json.loads(body)
        score, seconds = values["score"], float(values.get("seconds", 0))
        if set(score) != set(DIMENSIONS) or any(type(number) is not int for number in score.values()):
            raise RequestRejected(f"wanted a whole number for each of {', '.join(DIMENSIONS)}")
        kept = min(max(seconds, 0.0), LONGEST_LOOK) if math.isfinite(seconds) else 0.0
        return Score(**score), kept, str(values.get("edited") or "")
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise RequestRejected(f"no rating: {error}") from None


async def _body(request: Request) -> bytes:
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > MOST_BYTES:
            raise RequestRejected(f"more than {MOST_BYTES} bytes")
    return body


def _not_found() -> Exception:
    from starlette.exceptions import HTTPException

    return HTTPException(404)


def _rendered(**values: Any) -> str:
    from jinja2 import Environment, StrictUndefined

    environment = Environment(undefined=StrictUndefined, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(**values)
