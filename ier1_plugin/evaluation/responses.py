"""Responses of models to RL rows: each asked for once, stored as they arrive, reused by later runs.

    ask_models(Path("out"), ["local:decomposer"], Path("val.parquet"), ["psr-1f3k"], jobs=8, on_warning=print)
    -> {"local:decomposer": {"psr-1f3k": ["<think> ..."]}}      # and a record in out/responses.sqlite

    identity("local:decomposer")
    -> {"model": "local:decomposer", "files_sha256": "9f2c...", "prompt_sha256": "0d5f...", "min_pixels": 3136, ...}

A response is stored with everything that it depends on: retrained weights are asked again. Weights in a folder are
identified by their content, models of the hub by their commit, served ones by address and name alone: what a server
loads under a name can't be seen from outside.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from ier1_plugin.chat import BUDGET, RequestRejected, TransientError, make_chat
from ier1_plugin.chat.local import MAX_BATCH, check_weights, decomposer_facts
from ier1_plugin.data.tables import Rejected, read, read_jsonl
from ier1_plugin.evaluation.records import EvaluationError
from ier1_plugin.pipeline.agents import decomposition_request
from ier1_plugin.prompts import path as prompt_path
from ier1_plugin.runs.errors import UserError, one_line, with_class
from ier1_plugin.runs.fingerprint import fingerprint, sha256_of
from ier1_plugin.runs.store import Store
from ier1_plugin.runs.workers import as_completed, progress
from ier1_plugin.task.images import ImageError, open_image
from ier1_plugin.task.rows import IMAGE_PLACEHOLDER

STORE, LINES = "responses.sqlite", "responses.jsonl"
WANTED, SHOWN = '{"id": "...", "response": "..."}', 80
# what one row can do wrong; any other UserError would befall the others too
ROW_ERRORS = (ImageError, RequestRejected, TransientError)

Answers = dict[str, list[str] | str]
"""By row: the responses, several of a model that samples, or the reason why there is none."""


def ask_models(
    out: Path,
    models: Sequence[str],
    rows_file: Path,
    ids: Collection[str],
    jobs: int,
    on_warning: Callable[[str], None],
) -> dict[str, Answers]:
    """The answers of every model to the rows in `ids`; those in the store are not asked for again. A row that failed is
    retried by the next run. ChatError, OSError: a model is not available, which is checked before any is asked.
    """
    known = {model: identity(model) for model in models}
    answers: dict[str, Answers] = {}
    if not models:
        return answers
    with Store(out / STORE) as store:
        for model in models:
            whose = hashlib.sha256(json.dumps(known[model], sort_keys=True).encode()).hexdigest()[:32]
            kept = {id: store.get(f"{whose} {id}") for id in ids}
            found: Answers = {id: [records[-1]["response"]] for id, records in kept.items() if records}
            answers[model] = found
            missing = frozenset(ids) - set(found)
            if not missing:
                continue
            chat = make_chat(model, on_warning=on_warning)

            def ask(row: dict[str, Any], chat: Any = chat) -> tuple[str, list[str] | str]:
                try:
                    photo = open_image(row["images"][0]["bytes"])
                    request = decomposition_request(photo, row["problem"].removeprefix(IMAGE_PLACEHOLDER), chat)
                    completion = chat(request)
                    if completion.only_thoughts:
                        return row["id"], completion.flaw(request.max_tokens)
                    return row["id"], [completion.text or completion.refusal]
                except ROW_ERRORS as error:
                    return row["id"], one_line(error)
                except UserError:
                    raise
                except Exception as error:
                    return row["id"], with_class(error)

            lines = read(str(rows_file), None, ("id", "problem", "images"))
            rows = (line.row for line in lines if line.row["id"] in missing)
            threads = max(jobs, MAX_BATCH) if chat.local else jobs
            with closing(as_completed(rows, ask, threads, chat.close, on_warning)) as results:
                for id, answer in progress(results, chat.name, len(missing)):
                    found[id] = answer
                    if isinstance(answer, list):
                        store.append(f"{whose} {id}", {"id": id, "response": answer[0], **known[model]})
        store.export(out / LINES)
    return answers


def identity(model: str) -> dict[str, Any]:
    """The identity of "local:FOLDER" or a served model. ChatError, OSError: there is no such model."""
    kind, _, place = model.partition(":")
    prompt, budget, known = prompt_path("decompose"), BUDGET, {}
    if kind != "local":
        chat = make_chat(model)
        chat.close()
        model = chat.name
    else:
        check_weights(place)
        if Path(place).exists():
            known = {"files_sha256": fingerprint(Path(place))}
            if facts := decomposer_facts(Path(place)):
                prompt, budget = Path(place) / facts.prompt, (facts.min_pixels, facts.max_pixels)
        else:
            known = {"revision": _revision(place)}
    sizes = dict(zip(("min_pixels", "max_pixels"), budget, strict=True))
    return {"model": model, **known, "prompt_sha256": sha256_of(prompt), **sizes}


def read_responses(file: Path) -> Answers:
    """A file of responses, one per line in the form of WANTED; a list of "responses" may take the place of "response".
    EvaluationError: it can't be read, a line has another form, or two lines have the same id.
    """
    answers: Answers = {}
    try:
        for line in read_jsonl(file, (file.parent,)):
            where = f"{file}, line {line.row['line'] if isinstance(line, Rejected) else line.number}"
            id = line.row.get("id")
            responses: Any = line.row.get("responses") or [line.row.get("response")]
            texts = isinstance(responses, list) and all(isinstance(text, str) for text in responses)
            if not isinstance(id, str) or not texts:
                raise EvaluationError(f"{where}: wanted {WANTED}, got {str(line.row)[:SHOWN]!r}")
            if id in answers:
                raise EvaluationError(f"{where}: a second response to {id!r}; leave one of the two")
            answers[id] = responses
    except OSError as error:
        raise EvaluationError(f"{file} can't be read: {error.strerror}") from None
    return answers


def _revision(model_id: str) -> str | None:
    """The commit that the hub, or the cache without it, has under this id; None: neither can be asked."""
    try:
        from huggingface_hub import hf_hub_download

        return Path(hf_hub_download(model_id, "config.json")).parent.name
    except Exception:  # the hub client raises its own and those of the HTTP client below it
        return None
