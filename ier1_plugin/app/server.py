"""`ier1 demo`: the web page, served from this machine.

    launch(System.read("flux-kontext"), host="127.0.0.1", port=7860, auth=None, small_world=False)
    # The page is on http://127.0.0.1:7860 (Ctrl-C ends it)

Uploads and results are kept in a folder of their own, readable by this user alone, which is removed when the server
ends. Nothing else on the machine is served, nothing is loaded from elsewhere, and no usage is reported.
"""

from __future__ import annotations

import os
import re
import socket
import warnings
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from threading import Event
from typing import Any

from ier1_plugin.app.session import MAX_UPLOAD_MB, Session
from ier1_plugin.pipeline.system import BASE, LOCAL, RULE, System
from ier1_plugin.runs.errors import log
from ier1_plugin.runs.settings import SettingsError

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"

SMALL_WORLD = Path("quickstart") / "model"
EXAMPLES = (
    ("coffee.png", (100, 0, 500, 400), "turn the photo to sepia, also put a white border around it"),
    ("chelsea.png", (60, 0, 360, 300), "mirror the picture left to right, and then make it black and white"),
    ("china.jpg", (60, 0, 480, 420), 'make it brighter and add the word "HELLO" to the photo'),
)
"""Photographs of the small world, the crop to show, and a request."""
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
    """Serves the page until KeyboardInterrupt, which a signal raises.

    SettingsError, PlanError, EditError, ChatError: it can't, for the reason in the message.
    """
    user, _, password = (auth or "").partition(":")
    if auth is not None and not (user and password):
        raise SettingsError("--auth wants USER:PASSWORD, both with at least one character")
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
    except OSError as error:
        reason = f"can't listen on {host}:{port}: {error.strerror or error}"
        raise SettingsError(f"{reason}; name others with --host and --port") from None
    session = session_of(system, small_world)
    if auth is None and host not in ("localhost", "::1") and not host.startswith("127."):
        log("note: whoever can reach this machine can use the page; --auth USER:PASSWORD asks for a password")
    with serving(session, host, port, (user, password) if auth else None) as url:
        log(f"The page is on {url} (Ctrl-C ends it)")
        Event().wait()


def session_of(system: System, small_world: bool = False) -> Session:
    """The system's parts; besides its editor, visitors may choose the exact one, which costs nothing. `small_world`:
    the model of the quickstart with the exact editor, unless the system names others.
    """
    from ier1_plugin.editors import make_editor

    more: dict[str, Any] = {}
    if small_world:
        from ier1_plugin.small_world.pictures import Photo

        model = SMALL_WORLD if SMALL_WORLD.exists() else _HOME / SMALL_WORLD
        if not system.decomposer and not (model / "config.json").is_file():
            raise SettingsError(f"there is no model in {SMALL_WORLD} yet; train it with: bash examples/quickstart.sh")
        system = replace(
            system,
            decomposer=system.decomposer or f"{LOCAL}{model}",
            sequencer=RULE if system.sequencer == BASE else system.sequencer,
            editor=system.editor or "pillow",
        )
        more["about"] = ABOUT_SMALL_WORLD
        # without the packages that carry the photographs there are no examples
        with suppress(ModuleNotFoundError):
            more["examples"] = tuple(
                (Photo(name, crop, False, 1.0).open(EXAMPLE_SIDE), request) for name, crop, request in EXAMPLES
            )
    editors: dict[str, Any] = {system.editor: system.make_editor(log)}
    editors.setdefault("pillow", make_editor("pillow"))
    return Session(*system.agents(log), editors, system.mode, system.method, system.seed, **more)


@contextmanager
def serving(session: Session, host: str, port: int, auth: tuple[str, str] | None = None) -> Iterator[str]:
    """Serves the page in the background and yields its address."""
    with TemporaryDirectory(prefix="ier1-demo-") as made:
        # a path of an upload is compared with that of its folder
        folder = Path(made).resolve()
        # read when blocks are made
        os.environ["GRADIO_TEMP_DIR"] = str(folder / "cache")
        # Gradio below 6.16 uses names that Starlette has renamed, and each visitor would see it said in the log
        warnings.filterwarnings("ignore", module=r"gradio\.")
        from starlette.middleware import Middleware

        from ier1_plugin.app.page import STYLE, build_page, theme

        page = build_page(session, Path(mkdtemp(dir=folder)))
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
                max_file_size=f"{MAX_UPLOAD_MB}mb",
                footer_links=[],
                theme=theme(),
                css_paths=[STYLE],
                app_kwargs={"middleware": [Middleware(WithHeaders)]},
            )
            yield url.rstrip("/")
        finally:
            page.close(verbose=False)


class WithHeaders:
    """ASGI middleware: every response carries HEADERS, and none redirects a browser to another host."""

    def __init__(self, app: Callable[..., Awaitable[None]]) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Any, send: Callable[[Scope], Awaitable[None]]) -> None:
        from starlette.responses import Response

        async def send_with_headers(message: Scope) -> None:
            if message["type"] == "http.response.start":
                own = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
                message["headers"] = [*message.get("headers", ()), *own]
            await send(message)

        refused = scope["type"] == "http" and _ELSEWHERE.search(scope["path"])
        await (Response(status_code=404) if refused else self.app)(scope, receive, send_with_headers)
