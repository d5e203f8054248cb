"""The web page on which raters rate: a small server for this machine or a trusted network.

    serve(study, read_rubric(), host="127.0.0.1", port=7870, on_start=print)
    # http://127.0.0.1:7870/r/5F1nX...   rater-1

    GET  /r/TOKEN               the page
    GET  /r/TOKEN/pairs         {"rater": "rater-1", "pairs": [{"request": "...", "score": {...} or null, "edited":
                                "9f2c..."}, ...]}; `edited`: hash of the edited image
    GET  /r/TOKEN/7/source      the 7th image of this rater's order as a new PNG; also /7/edited?HASH
    POST /r/TOKEN/7             {"score": {"fulfilment": 4, "quality": 2, "preservation": 3}, "seconds": 12.5,
                                "edited": "9f2c..."}

A rater gets in only by the token of a link; nothing else on the machine can be reached. Names of systems and files
never leave the server, and images are encoded anew, as an edited PNG carries the plan that made it.
"""

from __future__ import annotations

import json
import math
import secrets
import socket
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from ier1_plugin.evaluation.agreement.rating_study import EditChanged, RatedPair, Rater, Rubric, Study
from ier1_plugin.evaluation.judges.base import content_sha256, shown_size
from ier1_plugin.evaluation.records import DIMENSIONS, Score
from ier1_plugin.runs.folder import RunError
from ier1_plugin.task.images import ImageError, fitted, open_image, png_bytes, read_file

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

TEMPLATE = Path(__file__).with_name("rating_page.html.jinja")
SOURCE, EDITED = "source", "edited"
MAX_BYTES = 4096
"""Of the JSON of a rating."""
SHUTDOWN_SECONDS = 3
"""For requests under way when the server ends."""
MAX_SECONDS = 24 * 3600.0
PRIVATE = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
# images: the page fetches the next ones ahead
CACHED = PRIVATE | {"Cache-Control": "private, max-age=86400"}


class InvalidRating(ValueError):
    """The message says why."""


def serve(study: Study, rubric: Rubric, host: str, port: int, on_start: Callable[[dict[str, str]], None]) -> None:
    """Serves until KeyboardInterrupt, which a signal raises; `on_start` gets {rater: link}.

    OSError: the port is taken, or there is no such address.
    """
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
            timeout_graceful_shutdown=SHUTDOWN_SECONDS,
        )
        # a server that listens everywhere is reached by the name of this machine
        name = socket.gethostname() if host in ("0.0.0.0", "::") else host
        address = f"http://{f'[{name}]' if ':' in name else name}:{listening.getsockname()[1]}"
        on_start({rater.name: f"{address}/r/{rater.token}" for rater in study.raters})
        uvicorn.Server(config).run(sockets=[listening])


def application(study: Study, rubric: Rubric) -> Starlette:
    """The ASGI application."""
    from jinja2 import Environment, StrictUndefined
    from starlette.applications import Starlette
    from starlette.concurrency import run_in_threadpool
    from starlette.exceptions import HTTPException
    from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
    from starlette.routing import Route

    environment = Environment(undefined=StrictUndefined, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))

    def rater_of(request: Request) -> Rater:
        token = request.path_params["token"].encode()
        for rater in study.raters:
            if secrets.compare_digest(rater.token.encode(), token):
                return rater
        raise HTTPException(404)

    def pair_of(request: Request, rater: Rater) -> RatedPair:
        if request.path_params["position"] >= len(study.pairs):
            raise HTTPException(404)
        return study.order(rater)[request.path_params["position"]]

    def page(request: Request) -> Response:
        rater, nonce = rater_of(request), secrets.token_urlsafe(16)
        policy = (
            f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; img-src 'self' data:; "
            "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )
        text = template.render(rater=rater.name, nonce=nonce, rubric=rubric, count=len(study.pairs))
        return HTMLResponse(text, headers=PRIVATE | {"Content-Security-Policy": policy})

    def pairs(request: Request) -> Response:
        rater = rater_of(request)
        pairs = [
            {"request": pair.request, "score": score and asdict(score), "edited": study.edited_sha256(pair)}
            for pair, score in zip(study.order(rater), study.scores(rater), strict=True)
        ]
        return JSONResponse({"rater": rater.name, "pairs": pairs}, headers=PRIVATE)

    def image(request: Request) -> Response:
        pair, which = pair_of(request, rater_of(request)), request.path_params["which"]
        if which not in (SOURCE, EDITED):
            raise HTTPException(404)
        try:
            shown = open_image(study.folder / pair.source)
            if which == EDITED:
                data, seen = read_file(study.folder / pair.edited), request.url.query
                if seen and content_sha256(data) != seen:
                    raise ImageError("the edit was redone")
                # as judges see it: in its own shape, at a size that gives no editor away
                edited = open_image(data)
                shown = fitted(edited, shown_size(edited.size, shown.size))
        except ImageError:
            # the reason would name the file, and with it the system
            return PlainTextResponse("image missing", 410, headers=PRIVATE)
        return Response(png_bytes(shown), media_type="image/png", headers=CACHED)

    async def rate(request: Request) -> Response:
        rater, position, body = rater_of(request), request.path_params["position"], b""
        pair_of(request, rater)
        try:
            async for part in request.stream():
                body += part
                if len(body) > MAX_BYTES:
                    raise InvalidRating(f"more than {MAX_BYTES} bytes")
            score, seconds, seen = read_rating(body)
            await run_in_threadpool(study.rate, rater, position, score, seconds, seen)
        except EditChanged as error:
            return PlainTextResponse(str(error), 409, headers=PRIVATE)
        except InvalidRating as error:
            return PlainTextResponse(str(error), 422, headers=PRIVATE)
        except RunError:
            return PlainTextResponse("the server could not write it", 507, headers=PRIVATE)
        return Response(status_code=204, headers=PRIVATE)

    def not_found(request: Request, error: Exception) -> Response:
        return PlainTextResponse("This link is not valid.", 404, headers=PRIVATE)

    return Starlette(
        routes=[
            Route("/r/{token}", page),
            Route("/r/{token}/pairs", pairs),
            Route("/r/{token}/{position:int}", rate, methods=["POST"]),
            Route("/r/{token}/{position:int}/{which}", image),
        ],
        exception_handlers={404: not_found},
    )


def read_rating(body: bytes) -> tuple[Score, float, str]:
    """(score, seconds that it took, hash of the image that was seen or "").

    InvalidRating: it isn't a whole number in range for each dimension.
    """
    try:
        values = json.loads(body)
        score, seconds = values["score"], float(values.get("seconds", 0))
        if set(score) != set(DIMENSIONS) or any(type(number) is not int for number in score.values()):
            raise ValueError(f"wanted a whole number for each of {', '.join(DIMENSIONS)}")
        kept = min(max(seconds, 0.0), MAX_SECONDS) if math.isfinite(seconds) else 0.0
        return Score(**score), kept, str(values.get("edited") or "")
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise InvalidRating(f"no rating: {error}") from None
