"""A page on the last call of a picture reward: its best, worst and unjudged plans, with photo, plan, edit and scores.

    write_picture_page(Path("checkpoints/run/pictures"), Path("pictures.html"))

Edits are shown where they were kept (`keep_renders`), or can be computed again in this process.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ier1_plugin.editors.base import EditError
from ier1_plugin.evaluation.picture import COMPUTED, LAST_CALL, Question, make_reward_editor, render
from ier1_plugin.runs.folder import read_settings, write
from ier1_plugin.task.images import ImageError, open_image, preview_url
from ier1_plugin.task.rows import Case

TEMPLATE = Path(__file__).with_suffix(".html.jinja")
SIDE = 512
TITLES = {"best": "Best", "worst": "Worst", "unjudged": "Not rendered or not judged"}


def write_picture_page(store: Path, out: Path) -> None:
    """RunError: `store` holds no call of a picture reward."""
    from jinja2 import Environment, StrictUndefined

    call = read_settings(store / LAST_CALL)
    editor = make_reward_editor(call["editor"], {}) if call["editor"] in COMPUTED else None
    groups: dict[str, list[dict[str, Any]]] = {title: [] for title in TITLES.values()}
    for found in call["cases"]:
        question = Question(Case(*(found[name] for name in Case._fields)), tuple(found["plan"]))
        photo = question.case.photo(call["image_root"])
        before = after = ""
        try:
            if photo:
                image = open_image(photo)
                before = preview_url(image, SIDE)
                if (store / found["render"]).is_file():
                    after = preview_url(open_image(store / found["render"]), SIDE)
                elif editor:
                    after = preview_url(render(editor, image, question, call["seed"]), SIDE)
        except (ImageError, EditError) as error:
            found["reason"] = found["reason"] or str(error)
        groups[TITLES[found["kind"]]].append(found | {"before": before, "after": after})
    environment = Environment(undefined=StrictUndefined, autoescape=True, trim_blocks=True)
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    write(out, template.render(groups=groups, editor=call["editor"], judge=call["judge"]))
