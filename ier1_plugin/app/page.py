"""The web page as Gradio blocks: its layout, and which button shows which part of a Session's work.

    build_page(Session(decomposer, rule, {"pillow": make_editor("pillow")}), folder).launch()

Everything that a visitor, a model or an editor wrote is escaped before it becomes HTML.
"""

from __future__ import annotations

import html
import os
import traceback
from collections.abc import Iterator
from functools import partial
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import gradio as gr
from gradio.themes import Soft
from PIL import Image

from ier1_plugin.app.session import Session, Update
from ier1_plugin.pipeline.chain import MAX_REQUEST_CHARACTERS
from ier1_plugin.pipeline.trace import save_image
from ier1_plugin.runs.errors import UserError
from ier1_plugin.runs.folder import write
from ier1_plugin.task.schema import COMPONENTS, MULTI_TURN, SINGLE_TURN, Decomposition

MAX_WAITING, AT_WORK = 16, 8
"""Visitors in the queue, and how many requests are processed at a time (an editor takes one)."""
# seconds: how often old uploads and results are looked for, and how old they may be
CLEANING = (1800, 24 * 3600)
MODES = (("all edits at once (single-turn)", SINGLE_TURN), ("one edit after another (multi-turn)", MULTI_TURN))
STYLE = Path(__file__).with_name("app.css")
TITLE = """<h1>ImageEdit-R1</h1>
<p>Say in plain words what to change. Agents take the request apart and put the edits in order; an editor makes
them.</p>"""
HINT = "Remove the lamp, make the sofa navy and warm the light up a bit"
WELCOME = "Choose a photo, say what to change, press Edit."
FONTS = {"font": ("system-ui", "-apple-system", "Segoe UI", "sans-serif"), "font_mono": ("ui-monospace", "monospace")}
"""Fonts of the visitor's device, so that nothing is loaded from elsewhere."""
# on a narrow screen the result stands below what was pressed
_TO_STATUS = """() => { if (innerWidth < 800) {
    document.getElementById("status").scrollIntoView({behavior: "smooth"}); } }"""
# a plan belongs to its request and photo; cleared in the browser, so that typing asks the server nothing
_NO_PLAN = "() => ['', '']"


def theme() -> gr.Theme:
    own = Soft(primary_hue="teal", secondary_hue="teal", neutral_hue="stone", **FONTS)
    plain = {"background_fill": "transparent", "text_color": "*body_text_color", "text_weight": "500"}
    return own.set(
        **{f"block_title_{name}": value for name, value in plain.items()},
        block_title_padding="0",
        block_label_background_fill="*background_fill_primary",
        block_label_text_color="*body_text_color",
        body_background_fill="*neutral_100",
        # dark enough for white letters
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_hover="*primary_800",
    )


def build_page(session: Session, folder: Path) -> gr.Blocks:
    """The page. `folder`: for the examples."""
    with gr.Blocks(title="ImageEdit-R1", analytics_enabled=False, delete_cache=CLEANING) as page:
        gr.HTML(TITLE + (f"<p><i>{html.escape(session.about)}</i></p>" if session.about else ""), elem_id="title")
        with gr.Row(equal_height=False):
            with gr.Column(scale=5, min_width=320):
                blocks = _inputs(session)
            with gr.Column(scale=6, min_width=320):
                blocks |= _outputs()
        examples = []
        for number, (image, request) in enumerate(session.examples, start=1):
            file = folder / f"example-{number}.png"
            save_image(file, image)
            examples.append([str(file), request])
        if examples:
            gr.Examples(examples, [blocks["photo"], blocks["request"]], label="Try one")
        _connect(session, Path(blocks["photo"].GRADIO_CACHE), blocks | {"plan": gr.State(None)})
    return page.queue(max_size=MAX_WAITING, default_concurrency_limit=AT_WORK)


def parts_html(parts: Decomposition | None) -> str:
    """The decomposition as three rows of chips; nothing for None."""
    rows = []
    for name in COMPONENTS if parts else ():
        chips = "".join(f"<span>{html.escape(string)}</span>" for string in getattr(parts, name)) or "<i>none</i>"
        rows.append(f'<div class="parts {name}"><b>{name}</b><div>{chips}</div></div>')
    return "".join(rows)


def status_html(text: str, failed: bool = False) -> str:
    """The first line is the status, the others are notes."""
    first, *notes = (html.escape(line) for line in text.splitlines())
    kind = "failed" if failed else "working" if first.endswith("…") else "quiet"
    return f'<p class="{kind}" role="status">{first}</p>' + "".join(f"<p class='note'>{note}</p>" for note in notes)


def _inputs(session: Session) -> dict[str, Any]:
    """The left half: the visitor's input."""
    photo = gr.Image(
        label="Photo", type="filepath", image_mode=None, sources=["upload", "clipboard"], height=300, elem_id="photo"
    )
    # Gradio opens and converts a photo in its own way, which is not that of the package
    photo.preprocess = partial(_uploaded, Path(photo.GRADIO_CACHE))
    text: Any = {"lines": 3, "max_lines": 12, "max_length": MAX_REQUEST_CHARACTERS}
    example = session.examples[0][1] if session.examples else HINT
    request = gr.Textbox(label="What should change?", placeholder=example, elem_id="request", **text)
    with gr.Row(elem_id="buttons"):
        edit = gr.Button("Edit", variant="primary", elem_id="edit", min_width=90, scale=2)
        only_plan = gr.Button("Plan only", elem_id="plan", min_width=90)
        stop = gr.Button("Stop", elem_id="stop", min_width=70)
    parts = gr.HTML(elem_id="parts")
    hint = "The agents fill this in. Change it and press Edit, or write your own."
    sub_requests = gr.Textbox(label="Sub-requests, one a line", placeholder=hint, elem_id="sub-requests", **text)
    names = list(session.editors)
    with gr.Accordion("Settings", open=False, elem_id="settings"):
        mode = gr.Radio(list(MODES), value=session.mode, label="Mode", elem_id="mode")
        with gr.Row():
            editor = gr.Dropdown(names, value=names[0], label="Editor", filterable=False, elem_id="editor")
            seed = gr.Number(session.seed, label="Seed", precision=0, elem_id="seed")
    # odd values that a program sends are the session's to refuse: Gradio's own checks fail with a traceback in the log
    refused_later: list[Any] = [mode, editor, seed]
    for block in refused_later:
        block.preprocess = lambda payload: payload
    return {
        **{"photo": photo, "request": request, "parts": parts, "sub_requests": sub_requests},
        **{"edit": edit, "only_plan": only_plan, "stop": stop, "mode": mode, "editor": editor, "seed": seed},
    }


def _uploaded(folder: Path, payload: Any) -> str | None:
    """The file of an upload. None, as without a photo, for a file outside `folder`. Gradio checks only paths that are
    sent with type metadata, and a program may send any. A path elsewhere is never looked up, so that no answer reveals
    which files exist.
    """
    named = os.path.normpath(getattr(payload, "path", None) or "")
    if "\0" in named or not Path(named).is_relative_to(folder):
        return None
    file = os.path.realpath(named)
    return file if Path(file).is_relative_to(folder) and os.path.isfile(file) else None


def _outputs() -> dict[str, Any]:
    """The right half: the results."""
    status = gr.HTML(status_html(WELCOME), elem_id="status")
    pair = gr.ImageSlider(label="Before and after", buttons=["fullscreen"], max_height=560, elem_id="pair")
    steps = gr.Gallery(label="Steps", columns=3, height="auto", object_fit="contain", buttons=[], elem_id="steps")
    with gr.Row(elem_id="downloads"):
        image_file = gr.DownloadButton("Image (PNG)", interactive=False, elem_id="image-file", min_width=120)
        trace_file = gr.DownloadButton("Trace (JSON)", interactive=False, elem_id="trace-file", min_width=120)
    return {"status": status, "pair": pair, "steps": steps, "image_file": image_file, "trace_file": trace_file}


def _connect(session: Session, cache: Path, on: dict[str, Any]) -> None:
    # a program may leave a text out
    def plan(photo: str | None, request: str | None) -> Iterator[dict[Any, Any]]:
        yield from _served(session.plan(photo, request or ""), on, cache)

    def edit(
        photo: str | None, request: str | None, sub_requests: str | None, plan: Any, mode: str, editor: str, seed: Any
    ) -> Iterator[dict[Any, Any]]:
        updates = session.edit(photo, request or "", sub_requests or "", plan, mode, editor, seed)
        yield from _served(updates, on, cache)

    shows: Any = {"show_progress": "hidden"}
    hidden: Any = {"queue": False, "api_visibility": "private"}
    planned = [on[name] for name in ("status", "parts", "sub_requests", "plan")]
    planning = on["only_plan"].click(plan, [on["photo"], on["request"]], planned, api_name="plan", **shows)
    given = [on[name] for name in ("photo", "request", "sub_requests", "plan", "mode", "editor", "seed")]
    edited = planned + [on[name] for name in ("pair", "steps", "image_file", "trace_file")]
    presses = [on["edit"].click, on["request"].submit, on["sub_requests"].submit]
    editing = gr.on(presses, edit, given, edited, api_name="edit", **shows)
    files = [on["image_file"], on["trace_file"]]
    editing.success(lambda: [gr.DownloadButton(interactive=True)] * 2, None, files, **hidden)
    on["edit"].click(None, js=_TO_STATUS, **hidden)
    cancels = [planning, editing]
    on["stop"].click(lambda: status_html("Stopped."), None, on["status"], cancels=cancels, **shows, **hidden)
    for changed in (on["photo"], on["request"]):
        changed.change(None, outputs=[on["sub_requests"], on["parts"]], js=_NO_PLAN, **hidden)


def _served(updates: Iterator[Update], on: dict[str, Any], cache: Path) -> Iterator[dict[Any, Any]]:
    """Every update as new values for blocks; errors are shown on the page and sent to callers of the API. Files are
    written into the `cache`, from which Gradio serves them as they are.
    """
    shown: dict[Any, Any] = {}
    cache.mkdir(parents=True, exist_ok=True)
    folder = Path(mkdtemp(dir=cache))
    try:
        for update in updates:
            values = {name: value for name, value in update.items() if name in ("pair", "plan")}
            if "status" in update:
                values["status"] = status_html(update["status"])
            if "parts" in update:
                values["parts"] = parts_html(update["parts"])
            if "sub_requests" in update:
                values["sub_requests"] = "\n".join(update["sub_requests"])
            if update.get("pair"):
                values["pair"] = tuple(_saved(image, folder) for image in update["pair"])
            if "steps" in update:
                values["steps"] = [(_saved(image, folder), caption) for image, caption in update["steps"]]
            if "result" in update:
                image, trace = folder / "edited.png", folder / "trace.json"
                save_image(image, update["result"].image, update["result"].trace.to_json())
                write(trace, update["result"].trace.to_json() + "\n")
                values |= {"image_file": str(image), "trace_file": str(trace)}
            elif "steps" in update:
                values |= {"image_file": None, "trace_file": None}
            new = {on[name]: value for name, value in values.items()}
            shown |= new
            # a program gets the last values only
            yield shown if "result" in update else new
        return
    except UserError as error:
        reason = " ".join(str(error).split())
    except Exception as error:
        # the details are for whoever runs the server
        traceback.print_exc()
        reason = f"something went wrong on the server ({type(error).__name__}); its log has the details"
    yield {on["status"]: status_html(f"Not done: {reason}", failed=True)}
    raise gr.Error(html.escape(reason, quote=False), visible=False, print_exception=False)


def _saved(image: Image.Image, folder: Path) -> str:
    """The file of a preview, written once and whole: a browser may be fetching what an earlier update named."""
    digest = sha256(image.tobytes()).hexdigest()
    file = folder / f"{image.width}x{image.height}-{digest[:16]}.webp"
    if not file.exists():
        buffer = BytesIO()
        image.save(buffer, "WEBP")
        write(file, buffer.getvalue())
    return str(file)
