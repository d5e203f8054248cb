"""The picture as reward: what a response's plan does to its photo is rendered, judged, kept, and never paid for twice.

    reward = PictureReward(PictureSettings("small-world", "pixel", ("rl/images",), "run/pictures"), Weights())
    reward([{"response": "<think> ... </goals>", "ground_truth": '{"case": {"id": "psr-1a2b", ...}}'}])
    -> [{"overall": 0.73, "score": 0.73, "format": 1.0, "picture": 0.71, "renders": 1.0, "unjudged": 0.0, ...}]

    picture = fulfilment/4 x (quality + preservation)/6, in [0, 1]

so that an untouched photo earns 0, where the plain sum of the three gives it 6 of 10. A response that breaks the
format, or names no edit, is not rendered and earns 0. A render or a judgement that fails is no zero: that sample is
left out, and gets the mean reward of its group, which gives it an advantage of 0.

Scored values are multiples of GRAIN, whose sums are exact, so that equal rewards differ in no digit. Groups are the
rows of equal ground truth: EasyR1 passes a batch in mixed order and without the ids of its prompts.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import threading
import time
from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from statistics import fmean, pstdev
from typing import TYPE_CHECKING, Any

from ier1_plugin import prompts
from ier1_plugin.chat import Chat, ChatError, RequestRejected, TransientError, make_chat
from ier1_plugin.editors.base import EditError, Editor, is_flat, join, known_keys
from ier1_plugin.evaluation.judges import PIXEL, base, make_judge
from ier1_plugin.evaluation.judges.base import Judge, read_verdict
from ier1_plugin.evaluation.records import DIMENSIONS, EvaluationError, Score
from ier1_plugin.runs.errors import one_line
from ier1_plugin.runs.folder import write
from ier1_plugin.runs.shared_store import SharedStore
from ier1_plugin.runs.workers import as_completed
from ier1_plugin.task.parsing import parse_response
from ier1_plugin.task.rows import Case, neutralise, read_answer, read_truth
from ier1_plugin.task.schema import Decomposition
from ier1_plugin.task.scoring import GOAL_MATCHES, Gold, score_response

if TYPE_CHECKING:
    from PIL import Image

GRAIN = 2.0**-12
PARTS = ("format", "action", "subject", "goal", "picture")
WORDS = ("action", "subject", "goal")
COMPONENTS = "components"
SMALL_WORLD = "small-world"
# editors that compute in this process, and those that ask a server; others would load weights onto the training's GPUs
COMPUTED, SERVED = (SMALL_WORLD, "pillow"), ("images-api", "gpt-image", "seededit", "nano-banana")
RULE = "rule"
# of an editor's server, unless the run says otherwise: a training waits for one that does not answer
SERVER_LIMITS = {"timeout": 120.0, "retries": 2}
JUDGE_SETTINGS = ("max_side", "rubric", "timeout", "max_tokens", "backoff")
# samples that wanted a render, of which a share may fail before the run stops
WINDOW = 256
NOTHING_JUDGED = 0.5
MILLION = 1_000_000
FAILED, STORED, RENDERED = "failed", "stored", "rendered"
# what `ier1 curves --pictures` shows of the last call, so many of each kind
LAST_CALL, RENDERS, SHOWN = "last_call.json", "renders", 6


@dataclass(frozen=True)
class Weights:
    """The share of each part in the score; a part of weight 0 is only logged. `goal_match`: a key of GOAL_MATCHES."""

    format: float = 1.0
    action: float = 1.0
    subject: float = 1.0
    goal: float = 1.0
    picture: float = 3.0
    goal_match: str = "exact"
    normalise: str = ""
    """COMPONENTS: each part is standardised within its group before the sum (GDPO, arXiv 2601.05242, equation 4)."""

    def __post_init__(self) -> None:
        values = [getattr(self, part) for part in PARTS]
        if not all(value >= 0 for value in values) or not 0 < self.format + self.picture <= sum(values) < float("inf"):
            raise EvaluationError(
                f"reward weights must be >= 0 and finite, those of format and picture not both 0; got "
                f"{dict(zip(PARTS, values, strict=True))}"
            )
        if self.goal_match not in GOAL_MATCHES:
            raise EvaluationError(f"goal_match={self.goal_match!r}; known: {', '.join(GOAL_MATCHES)}")
        if self.normalise not in ("", COMPONENTS):
            raise EvaluationError(f"normalise={self.normalise!r}; wanted {COMPONENTS!r}, or nothing")

    def shares(self, row: Mapping[str, float]) -> dict[str, float]:
        """The weight of each part that counts in a row: of words, only where it has a gold."""
        return {part: getattr(self, part) for part in PARTS if row["has_gold"] or part not in WORDS}

    def score(self, row: Mapping[str, float]) -> float:
        """The weighted mean of a row's parts, a multiple of GRAIN."""
        shares = self.shares(row)
        return _grained(sum(share * row[part] for part, share in shares.items()) / sum(shares.values()))


@dataclass(frozen=True)
class PictureSettings:
    """How pictures are made and judged."""

    editor: str
    """Such as "images-api:http://10.0.0.2:8000/v1#black-forest-labs/FLUX.2-klein-4B", "pillow" or "small-world"."""
    judge: str
    """Such as "openai:http://10.0.0.2:8001/v1#Qwen/Qwen3-VL-8B-Instruct"; "pixel" in the small world."""
    image_root: tuple[str, ...]
    """Folders of the case images; a file is in one of them."""
    store: str
    """Folder of the judgements; trainings that share it share what was paid for."""
    sequencer: str = RULE
    """RULE, or a model that writes the sub-requests: "openai:http://10.0.0.2:8002/v1#Qwen/Qwen3-8B"."""
    seed: int = 0
    concurrency: int = 16
    """Renders under way at once, and as many judgements beside them, where the editor or the judge is a server."""
    keep_renders: bool = False
    """True: every render is kept as a PNG file below `store`."""
    max_unjudged: float = 0.25
    """Share of the last WINDOW samples that may fail before the run stops."""
    render_price: float = 0.0
    token_price: float = 0.0
    """Of a render, and of a million tokens of the judge, in any one currency."""
    editor_settings: Mapping[str, Any] | None = None
    judge_settings: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Verdict:
    """What became of one plan: its picture's value in [0, 1], or None and the reason."""

    picture: float | None
    how: str = RENDERED
    reason: str = ""
    tokens: int = 0


@dataclass(frozen=True)
class Question:
    """One plan for one case."""

    case: Case
    sub_requests: tuple[str, ...] = ()
    """In canonical form: equal plans are equal tuples, whatever order they were written in."""
    decomposition: Decomposition | None = None
    """What the sequencer shall make sub-requests of, where there is one."""


def picture_value(score: Score) -> float:
    """fulfilment/4 x (quality + preservation)/6: nothing done earns nothing, however well the photo was preserved."""
    highest = DIMENSIONS["quality"] + DIMENSIONS["preservation"]
    return score.fulfilment / DIMENSIONS["fulfilment"] * (score.quality + score.preservation) / highest


def canonical(sub_requests: Iterable[str]) -> tuple[str, ...]:
    """The sub-requests in alphabetical order, without differences of space or final stops. Capitals stay, since a plan
    may name a text that shall appear in the picture.
    """
    lines = (" ".join(neutralise(sub_request).split()).rstrip(" .;,") for sub_request in sub_requests)
    return tuple(sorted(filter(None, lines)))


class PictureReward:
    """Scores the batches, or the single samples, of one training. Called from one thread at a time."""

    def __init__(self, settings: PictureSettings, weights: Weights) -> None:
        """EvaluationError, EditError: an editor or judge that can't be used here, or a missing folder."""
        self.weights = weights
        self._settings = settings
        self._editor = make_reward_editor(settings.editor, settings.editor_settings or {})
        known_keys(settings.judge_settings or {}, JUDGE_SETTINGS, "the judge of a reward")
        self._judge = make_judge(settings.judge, **(settings.judge_settings or {}))
        self._sequencer = make_reward_sequencer(settings.sequencer)
        self._images = tuple(map(Path, settings.image_root))
        for folder in self._images:
            if not folder.is_dir():
                raise EvaluationError(f"image_root {folder} is no folder; wanted the builder's images/ beside the rows")
        self._store = SharedStore(Path(settings.store))
        # of the last samples that wanted a render: why it failed, or None
        self._outcomes: deque[str | None] = deque(maxlen=WINDOW)
        self._editing, self._judging = (threading.Semaphore(settings.concurrency) for _ in range(2))
        # half of them render while the other half waits for the judge
        in_process = self._editor.local and settings.judge == PIXEL and not self._sequencer
        self._workers = 1 if in_process else 2 * settings.concurrency
        self._pool = ThreadPoolExecutor(self._workers)
        self._under_way: dict[Question, asyncio.Future[tuple[Question, Verdict]]] = {}
        self._known = json.dumps(
            [self._editor.name, dict(self._editor.settings), self._judge.name, self._judge.rubric_sha256],
            sort_keys=True,
            default=str,
        )

    def close(self) -> None:
        self._hang_up()
        self._pool.shutdown(cancel_futures=True)
        self._store.close()

    def __call__(self, reward_inputs: Sequence[Mapping[str, Any]]) -> list[dict[str, float]]:
        """A row of floats with the same keys for each input, in their order. ValueError: a ground truth that can't be
        read or holds no case. EvaluationError: too many samples could not be judged."""
        start = time.perf_counter()
        rows, questions = [], []
        for position, reward_input in enumerate(reward_inputs):
            row, question = self._read(reward_input["response"], reward_input["ground_truth"], position)
            rows.append(row)
            questions.append(question)
        counts = Counter(question for question in questions if question)
        verdicts = self._verdicts(counts)
        self._leave_last_call(verdicts)
        for row, question in zip(rows, questions, strict=True):
            verdict = verdicts[question] if question else None
            # a render that several samples share is split evenly among them
            fresh = 1 / counts[question] if question and verdict and verdict.how != STORED else 0.0
            failed = verdict is not None and verdict.picture is None
            row["picture"] = verdict.picture or 0.0 if verdict else 0.0
            row["unjudged"] = float(failed)
            row["renders"] = fresh
            row["cached"] = 1 - fresh if verdict and not failed else 0.0
        groups = defaultdict(list)
        for row, reward_input in zip(rows, reward_inputs, strict=True):
            groups[reward_input["ground_truth"]].append(row)
        combine(list(groups.values()), self.weights)
        fresh = [verdict for verdict in verdicts.values() if verdict.how != STORED]
        spent = self._spent(start, len(fresh), sum(verdict.tokens for verdict in fresh))
        return [{"overall": row.pop("overall"), **row, **spent} for row in rows]

    async def score_one(self, response: str, ground_truth: str) -> dict[str, float]:
        """The row of one sample, without what needs its group; from one event loop, many at once. Equal plans that are
        under way at once are rendered once.

        ValueError: as from a call. EvaluationError: it could not be rendered or judged; after too many of those, every
        sample raises, so that the training ends.
        """
        start = time.perf_counter()
        if self.weights.normalise:
            raise EvaluationError(f"normalise={self.weights.normalise!r} needs whole groups; leave it out")
        row, question = self._read(response, ground_truth, 0)
        self._stop_if_too_many_failed()
        verdict, first = None, False
        if question and (verdict := self._stored(question)) is None:
            first = question not in self._under_way
            if first:
                work = asyncio.get_running_loop().run_in_executor(self._pool, self._made, question)
                work.add_done_callback(lambda _: self._under_way.pop(question))
                self._under_way[question] = work
            # the others go on waiting where one of them is cancelled
            _, verdict = await asyncio.shield(self._under_way[question])
        if verdict:
            self._outcomes.append(verdict.reason if verdict.picture is None else None)
            if verdict.picture is None:
                self._stop_if_too_many_failed()
                raise EvaluationError(f"the plan could not be rendered or judged, because of {verdict.reason}")
        fresh = first and verdict is not None and verdict.how != STORED
        row["picture"] = verdict.picture or 0.0 if verdict else 0.0
        row["renders"], row["cached"] = float(fresh), float(verdict is not None and not fresh)
        spent = self._spent(start, int(fresh), verdict.tokens if verdict and fresh else 0)
        return {"score": self.weights.score(row), **row, **spent}

    def check(self) -> None:
        """Asks the servers among sequencer, editor and judge one question. UserError: no answer came."""
        from PIL import Image

        if self._sequencer:
            sequence(self._sequencer, Decomposition(("Relighting",), ("photo",), ("brighter",)))
        photo, case = Image.new("RGB", (256, 256), (200, 120, 80)), Case("check", "make the photo brighter", "check")
        edited = photo
        if self._settings.editor not in COMPUTED:
            edited = render(self._editor, photo, Question(case, (case.request,)), self._settings.seed)
        if not self._judge.compares_with_gold:
            try:
                verdict = judge_picture(self._judge, photo, edited, case)
            except ChatError as error:
                raise EvaluationError(f"the judge: {error}") from None
            if verdict.picture is None:
                raise EvaluationError(verdict.reason)

    def _read(self, response: str, ground_truth: Any, position: int) -> tuple[dict[str, float], Question | None]:
        """The parts of a sample's row that need no picture, and what to ask of the editor."""
        from ier1_plugin.pipeline.agents import rule

        gold, case = _read(ground_truth, position)
        row = score_response(response, gold or NO_GOLD, self.weights.goal_match)
        if gold is None:
            row |= dict.fromkeys(WORDS, 0.0)
        question = None
        if row["format"] and (plan := canonical(rule(decomposition := _decomposition(response)))):
            question = Question(case, decomposition=decomposition) if self._sequencer else Question(case, plan)
        return row | {"has_gold": float(gold is not None)}, question

    def _spent(self, start: float, renders: int, tokens: int) -> dict[str, float]:
        return {
            "seconds": time.perf_counter() - start,
            "tokens": float(tokens),
            "cost": renders * self._settings.render_price + tokens * self._settings.token_price / MILLION,
        }

    def _verdicts(self, counts: Mapping[Question, int]) -> dict[Question, Verdict]:
        """Of each question: out of the store, or made now. `counts`: the samples that ask it."""
        self._store.refresh()
        verdicts, missing = {}, []
        for question, count in counts.items():
            if verdict := self._stored(question):
                verdicts[question] = verdict
                self._outcomes.extend([None] * count)
            else:
                missing.append(question)
        with closing(as_completed(missing, self._made, self._workers, lambda: None, print)) as made:
            for question, verdict in made:
                verdicts[question] = verdict
                self._outcomes.extend([verdict.reason if verdict.picture is None else None] * counts[question])
                self._stop_if_too_many_failed()
        return verdicts

    def _stop_if_too_many_failed(self) -> None:
        reasons = Counter(reason for reason in self._outcomes if reason is not None)
        if reasons.total() > self._settings.max_unjudged * WINDOW:
            self._hang_up()
            [(reason, _)] = reasons.most_common(1)
            raise EvaluationError(
                f"{reasons.total()} of the last {len(self._outcomes)} plans could not be rendered or judged, most "
                f"often because of {reason}; once that is mended, the same command goes on from the last checkpoint"
            )

    def _hang_up(self) -> None:
        """Ends the waiting of those that are still under way; there are no further requests."""
        for server in filter(None, (self._sequencer, self._editor, self._judge)):
            server.close()

    def _stored(self, question: Question) -> Verdict | None:
        record = self._store.get(self._key(self._planned(question)))
        return Verdict(record["picture"], STORED) if record else None

    def _planned(self, question: Question) -> Question:
        """The question with the sub-requests that the sequencer has made, if it has."""
        record = self._store.get(self._sequence_key(question.decomposition)) if question.decomposition else None
        return Question(question.case, tuple(record["sub_requests"])) if record else question

    def _made(self, question: Question) -> tuple[Question, Verdict]:
        """The verdict on one new plan; what was judged is stored."""
        planned = self._planned(question)
        if self._sequencer and (decomposition := planned.decomposition):
            try:
                key = self._sequence_key(decomposition)
                with self._store.claim(key):
                    if self._store.get(key) is None:
                        self._store.keep(key, {"sub_requests": sequence(self._sequencer, decomposition)})
            except (TransientError, RequestRejected) as error:
                return question, Verdict(None, FAILED, f"the sequencer: {one_line(error)}")
            planned = self._planned(question)
        key, keep = self._key(planned), self._settings.keep_renders
        # what a server has rendered stays until it is judged: neither a kill nor a failing judge has it rendered again
        kept = Path(self._settings.store, RENDERS, f"{key}.png") if keep or not self._editor.local else None
        with self._store.claim(key):
            if verdict := self._stored(planned):
                return question, verdict
            verdict = self._ask(planned, kept)
            if verdict.picture is not None:
                record = {"picture": verdict.picture, **planned.case._asdict(), "plan": planned.sub_requests}
                self._store.keep(key, record | {"tokens": verdict.tokens})
                if kept and not keep:
                    kept.unlink(missing_ok=True)
        return question, verdict

    def _ask(self, question: Question, kept: Path | None) -> Verdict:
        """Renders and judges. `kept`: where the render is, or is written to."""
        from ier1_plugin.task.images import open_image, png_bytes

        case, photo, exact = question.case, self._photo(question.case), self._settings.editor in COMPUTED
        try:
            if kept and kept.is_file():
                edited = open_image(kept)
            else:
                with self._editing:
                    edited = render(self._editor, photo, question, self._settings.seed)
                    if is_flat(edited) and not (exact or is_flat(photo)):
                        # what safety filters put in the place of an edit
                        return Verdict(None, FAILED, "the editor: it sent an image of one colour")
                    if kept:
                        write(kept, png_bytes(edited))
        except EditError as error:
            # an exact editor that can't do what the plan asks for: that is the plan's fault
            return Verdict(0.0) if exact else Verdict(None, FAILED, f"the editor: {one_line(error)}")
        try:
            with self._judging:
                return judge_picture(self._judge, photo, edited, case)
        except (TransientError, RequestRejected) as error:
            return Verdict(None, FAILED, f"the judge: {one_line(error)}")
        except ChatError as error:
            self._hang_up()
            raise EvaluationError(f"{self._judge.name}: {error}") from None

    def _photo(self, case: Case) -> Image.Image:
        from ier1_plugin.task.images import ImageError

        file = case.photo(self._images)
        if file is None:
            folders = ", ".join(map(str, self._images))
            raise EvaluationError(
                f"the photo {case.image} of {case.id} is not in {folders}; name its folder in image_root"
            )
        try:
            return _opened(file)
        except ImageError as error:
            raise EvaluationError(f"the photo of {case.id}, {file}: {error}") from None

    def _sequence_key(self, decomposition: Decomposition) -> str:
        parts = (self._settings.sequencer, _sequence_prompt(), decomposition.to_json())
        return hashlib.sha256("\0".join(parts).encode("utf-8", "replace")).hexdigest()[:32]

    def _key(self, question: Question) -> str:
        case = question.case
        seed = str(render_seed(self._settings.seed, case))
        # the small world's editor and judge look at the id as well
        more = [case.id] if self._editor.for_item or self._judge.compares_with_gold else []
        parts = [self._known, case.image, case.request, seed, *more, *question.sub_requests]
        return hashlib.sha256("\0".join(parts).encode("utf-8", "replace")).hexdigest()[:32]

    def _leave_last_call(self, verdicts: Mapping[Question, Verdict]) -> None:
        """Writes which plans of this call were best, worst and not judged, for people to look at."""
        judged = sorted(
            (one for one in verdicts.items() if one[1].picture is not None), key=lambda one: one[1].picture or 0.0
        )
        kinds = {
            "best": judged[: -SHOWN - 1 : -1],
            "worst": judged[:SHOWN],
            "unjudged": [one for one in verdicts.items() if one[1].picture is None][:SHOWN],
        }
        cases = [
            {
                "kind": kind,
                **planned.case._asdict(),
                "plan": planned.sub_requests,
                "picture": verdict.picture,
                "reason": verdict.reason,
                "render": f"{RENDERS}/{self._key(planned)}.png",
            }
            for kind, found in kinds.items()
            for planned, verdict in ((self._planned(question), verdict) for question, verdict in found)
        ]
        settings = {"editor": self._settings.editor, "judge": self._judge.name, "seed": self._settings.seed}
        text = json.dumps(
            settings | {"image_root": [str(folder.absolute()) for folder in self._images], "cases": cases}
        )
        if cases:
            write(Path(self._settings.store, LAST_CALL), text)


NO_GOLD = Gold.of(Decomposition())


def combine(groups: Sequence[Sequence[dict[str, float]]], weights: Weights) -> None:
    """Adds `score`, `overall`, `spread` and `keep` to the rows of every group, and replaces what could not be judged.

    A sample that could not be judged gets the mean of the others in its group. Where none of a group could be, all of
    it gets the mean of what was rendered and judged elsewhere, and 0.5 without any.
    """
    for group in groups:
        counted = [row for row in group if not row["unjudged"]]
        for row in counted:
            row["score"] = row["overall"] = weights.score(row)
        if weights.normalise == COMPONENTS and len(counted) > 1:
            _standardise(counted, weights)
    every = [row for group in groups for row in group]
    judged = [row for row in every if row["renders"] + row["cached"] > 0 and not row["unjudged"]]
    spreads = []
    for group in groups:
        counted = [row for row in group if not row["unjudged"]]
        for row in group:
            if row["unjudged"]:
                for name in ("picture", "score", "overall"):
                    mean = fmean([other[name] for other in counted or judged] or [NOTHING_JUDGED])
                    # a mean has an advantage of 0 among the values that it is the mean of; alone, it must be exact
                    row[name] = mean if counted else _grained(mean)
        spreads.append(pstdev([row["score"] for row in counted]) if counted else 0.0)
    for group, spread in zip(groups, spreads, strict=True):
        for row in group:
            row["spread"] = spread
            row["keep"] = float(spread > 0 or not any(spreads))


def _standardise(rows: Sequence[dict[str, float]], weights: Weights) -> None:
    """Writes `overall` as the weighted mean of parts of mean 0 and deviation 1 over `rows`; equal parts are 0."""
    shares = weights.shares(rows[0])
    scales = {part: (fmean(row[part] for row in rows), pstdev([row[part] for row in rows])) for part in shares}
    for row in rows:
        standard = {part: (row[part] - mean) / spread if spread else 0.0 for part, (mean, spread) in scales.items()}
        row["overall"] = _grained(sum(share * standard[part] for part, share in shares.items()) / sum(shares.values()))


def render(editor: Editor, photo: Image.Image, question: Question, seed: int) -> Image.Image:
    """The edit of a plan. EditError: the editor failed."""
    edit = editor.for_item(question.case.id) if editor.for_item else editor
    return edit(photo.copy(), join(question.sub_requests), render_seed(seed, question.case))


def render_seed(seed: int, case: Case) -> int:
    """The seed of a case's renders: the same at every step, or else no render would ever be found again."""
    return int.from_bytes(hashlib.sha256(f"{seed}\0{case.id}".encode()).digest()[:4], "big") >> 1


def judge_picture(judge: Judge, photo: Image.Image, edited: Image.Image, case: Case) -> Verdict:
    """The judge's verdict, after as many replies as it takes at most. ChatError passes through."""
    shown = base.Case(photo, edited, case.request)
    if judge.compares_with_gold:
        from ier1_plugin.pipeline.agents import rule
        from ier1_plugin.small_world.world import edits_of, gold_image, gold_of, told_order

        # in the order in which the gold plan is rendered
        edits = told_order(edits_of(case.id))
        plan = rule(gold_of(edits))
        if len(plan) == len(edits):
            edits = tuple(edits[at] for at in sorted(range(len(plan)), key=lambda at: canonical(plan[at : at + 1])))
        shown = replace(shown, gold=gold_image(photo, edits))
    question, tokens, reason = judge.question(shown), 0, ""
    for attempt in range(judge.attempts):
        completion = judge.ask(question, 0, attempt)
        tokens += (completion.prompt_tokens or 0) + (completion.completion_tokens or 0)
        score, reason = read_verdict(completion)
        if score:
            return Verdict(picture_value(score), tokens=tokens)
    return Verdict(None, FAILED, f"the judge: {reason}", tokens)


def make_reward_editor(spec: str, settings: Mapping[str, Any]) -> Editor:
    """The editor of a reward. EditError: it would load weights in the reward's process, which sees all GPUs."""
    from ier1_plugin.editors import make_editor

    name = spec.partition(":")[0].strip()
    if name == SMALL_WORLD:
        from ier1_plugin.evaluation.benchmarks.small_world import small_world_editor

        return small_world_editor(spec.partition(":")[2])
    if name not in COMPUTED + SERVED:
        raise EditError(
            f"the editor of a reward is {spec!r}; wanted {', '.join(COMPUTED + SERVED)}: other editors would load "
            "weights beside the training's own, so serve them on GPUs of their own, as images-api:URL#MODEL"
        )
    limits = {} if name in COMPUTED else SERVER_LIMITS
    return make_editor(spec, partial(print, flush=True), **{**limits, **settings})


def make_reward_sequencer(spec: str) -> Chat | None:
    """The sequencer of a reward; None: the rule. EvaluationError: it would load weights. ChatError: see `make_chat`."""
    if spec == RULE:
        return None
    if spec.partition(":")[0] not in ("openai", "gemini"):
        raise EvaluationError(
            f"the sequencer of a reward is {spec!r}; wanted {RULE}, or a model behind an address such as "
            "openai:http://10.0.0.2:8002/v1#MODEL: others would load weights beside the training's own"
        )
    return make_chat(spec, on_warning=partial(print, flush=True))


@lru_cache(maxsize=1)
def _sequence_prompt() -> str:
    return prompts.path("sequence").read_text(encoding="utf-8")


def sequence(chat: Chat, decomposition: Decomposition) -> tuple[str, ...]:
    """The sequencer's sub-requests, in canonical form; after two unreadable replies the rule's, as in the chain.
    ChatError passes through.
    """
    from ier1_plugin.pipeline import agents

    return canonical(agents.sequence(decomposition, chat=chat).value)


def _read(ground_truth: Any, position: int) -> tuple[Gold | None, Case]:
    """ValueError: it can't be read, or has no case."""
    decomposition, case = read_truth(read_answer, ground_truth, position)
    if case is None:
        raise ValueError(
            f"ground_truth of item {position} has no case, which the picture reward needs; build the rows with "
            "--case-images"
        )
    return decomposition and Gold.of(decomposition), case


def _decomposition(response: str) -> Decomposition:
    parsed = parse_response(response)
    return Decomposition(parsed.actions or (), parsed.subjects or (), parsed.goals or ())


@lru_cache(maxsize=256)
def _opened(file: Path) -> Image.Image:
    from ier1_plugin.task.images import open_image

    return open_image(file)


def _grained(value: float) -> float:
    return round(value / GRAIN) * GRAIN
