"""`ier1 demo`: the web page, served from this machine.

    launch(System.read("flux-kontext"), host="127.0.0.1", port=7860, auth=None, small_world=False)
    # The page is on http://127.0.0.1:7860 (Ctrl-C ends it)

Uploads and results lie in a folder of their own, readable by this user alone, which goes when the page does. Nothing
else of the machine is served, nothing is loaded from elsewhere, and nothing is reported to anyone.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import warnings
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from threading import Event
from typing import Any

from PIL import Image

from ier1_plugin.app.session import Session
from ier1_plugin.pipeline.system import BASE, LOCAL, RULE, SettingsError, System
from ier1_plugin.runs.errors import log

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"

MAX_UPLOAD = "32mb"
SMALL_WORLD = Path("quickstart") / "model"
EXAMPLES = (
    ("coffee.png", (100, 0, 500, 400), "turn the photo to sepia, also put a white border around it"),
    ("chelsea.png", (60, 0, 360, 300), "mirror the picture left to right, and then make it black and white"),
    ("china.jpg", (60, 0, 480, 420), 'make it brighter and add the word "HELLO" to the photo'),
)
"""Photographs of the small world, what of them is shown, and a request."""
EXAMPLE_SIDE = 512
ABOUT_SMALL_WORLD = (
    "The small world: a model of a million parameters that the quickstart trained. It knows requests such as the "
    "examples, about the whole photo or a half of it; the edits are computed, not painted."
)
_HOME = Path(__file__).resolve().parents[2]
_OWN = "'self' data: blob:"
HEADERS = {
    # Gradio's page has inline scripts, and names a script and fonts of other hosts that are not needed
    "content-security-policy": f"default-src {_OWN} 'unsafe-inline' 'unsafe-eval'; frame-ancestors 'self'",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}
# where Gradio would send a visitor's browser on to any address that stands in its own
_ELSEWHERE = re.compile(r"/file[=/]\s*https?:", re.IGNORECASE)
Scope = MutableMapping[str, Any]


def launch(system: System, *, host: str, port: int, auth: str | None, small_world: bool) -> None:
    """Serves the page until Ctrl-C. SettingsError, PlanError, EditError, ChatError: it can't be, in one line."""
    credentials = _credentials(auth)
    _check_address(host, port)
    desk = desk_of(_on_small_world(system) if small_world else system, small_world)
    if credentials is None and not _is_own(host):
        log("note: whoever reaches this machine can use the page; --auth USER:PASSWORD asks for a password")
    # before there is a folder to leave behind
    signal.signal(signal.SIGTERM, _interrupt)
    with serving(desk, host, port, credentials) as url:
        log(f"The page is on {url} (Ctrl-C ends it)")
        Event().wait()


@contextmanager
def serving(desk: Session, host: str, port: int, auth: tuple[str, str] | None = None) -> Iterator[str]:
    """Serves the page in the background and gives its address."""
    with TemporaryDirectory(prefix="ier1-demo-") as made:
        # a path of an upload is compared with that of its folder
        folder = Path(made).resolve()
        # what lies elsewhere is copied there, so results on their way need another one; read when blocks are made
        os.environ["GRADIO_TEMP_DIR"] = str(folder / "cache")
        # Gradio below 6.16 uses names that Starlette has renamed, and each visitor would see it said in the log
        warnings.filterwarnings("ignore", module=r"gradio\.")
        from starlette.middleware import Middleware

        from ier1_plugin.app.page import STYLE, build_page, theme

        page = build_page(desk, Path(mkdtemp(dir=folder)))
        try:
            _, url, _ = page.launch(
                server_name=host,
                server_port=port,
                auth=auth,
                prevent_thread_lock=True,
                quiet=True,
                share=False,
                ssr_mode=False,
                enable_monitoring=False,
                allowed_paths=[],
                max_file_size=MAX_UPLOAD,
                footer_links=[],
                theme=theme(),
                css_paths=[STYLE],
                app_kwargs={"middleware": [Middleware(WithHeaders)]},
            )
            yield url.rstrip("/")
        finally:
            page.close(verbose=False)


class WithHeaders:
    """ASGI middleware: every answer carries HEADERS, and none sends a browser to another host."""

    def __init__(self, app: Callable[..., Awaitable[None]]) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Any, send: Callable[[Scope], Awaitable[None]]) -> None:
        async def sent(message: Scope) -> None:
            if message["type"] == "http.response.start":
                own = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
                message["headers"] = [*message.get("headers", ()), *own]
            await send(message)

        refused = scope["type"] == "http" and _ELSEWHERE.search(scope["path"])
        await (_not_found() if refused else self.app)(scope, receive, sent)


def desk_of(system: System, small_world: bool = False) -> Session:
    """The system's parts; beside its editor visitors may choose the exact one, which costs nothing."""
    from ier1_plugin.editors import make_editor

    editors: dict[str, Any] = {system.editor: system.make_editor(log)}
    editors.setdefault("pillow", make_editor("pillow"))
    decomposer, sequencer = system.agents(log)
    more: dict[str, Any] = {"examples": _examples(), "about": ABOUT_SMALL_WORLD} if small_world else {}
    return Session(decomposer, sequencer, editors, system.mode, system.method, system.seed, **more)


def _on_small_world(system: System) -> System:
    """The model of the quickstart with the exact editor, where the command line names no other."""
    model = SMALL_WORLD if SMALL_WORLD.exists() else _HOME / SMALL_WORLD
    if not system.decomposer and not (model / "config.json").is_file():
        raise SettingsError(f"there is no model in {SMALL_WORLD} yet; train it with: bash examples/quickstart.sh")
    return replace(
        system,
        decomposer=system.decomposer or f"{LOCAL}{model}",
        sequencer=RULE if system.sequencer == BASE else system.sequencer,
        editor=system.editor or "pillow",
    )


def _examples() -> tuple[tuple[Image.Image, str], ...]:
    """None where the packages that carry the photographs are not installed."""
    from ier1_plugin.small_world.pictures import Photo

    try:
        return tuple((Photo(name, crop, False, 1.0).open(EXAMPLE_SIDE), words) for name, crop, words in EXAMPLES)
    except ModuleNotFoundError:
        return ()


def _credentials(auth: str | None) -> tuple[str, str] | None:
    if auth is None:
        return None
    user, _, password = auth.partition(":")
    if not user or not password:
        raise SettingsError("--auth wants USER:PASSWORD, both with at least one character")
    return user, password


def _check_address(host: str, port: int) -> None:
    """SettingsError: nobody can listen there."""
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
    except OSError as error:
        reason = f"can't listen on {host}:{port}: {error.strerror or error}"
        raise SettingsError(f"{reason}; name others with --host and --port") from None


def _is_own(host: str) -> bool:
    return host == "localhost" or host.startswith("127.") or host == "::1"


def _not_found() -> Callable[..., Awaitable[None]]:
    from starlette.responses import Response

    return Response(status_code=404)


def _interrupt(*_: Any) -> None:
    # a second one must not disturb the cleaning up
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise KeyboardInterrupt
