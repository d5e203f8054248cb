"""The records that travel through the whole chain.

    Decomposition(actions=("Recoloring",), subjects=("coat", "hair"), goals=("scarlet or copper red",))

is what the decomposition agent says about "Change the color of her coat and possibly hair to scarlet or copper red"
(paper, section 2.1). A Plan adds the ordered sub-requests, a Trace what an editor made of them. Records are frozen;
text becomes a record once, in `parsing.py`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any

from ier1_plugin import __version__
from ier1_plugin.runs.errors import UserError
from ier1_plugin.runs.secrets import without_secrets

if TYPE_CHECKING:
    from PIL import Image

COMPONENTS = ("actions", "subjects", "goals")
CHAIN, ORIGINAL = "imageedit-r1", "original"
METHODS = (CHAIN, ORIGINAL)
"""How a request becomes instructions: through the agents, or word for word (the paper's "Original")."""
SINGLE_TURN, MULTI_TURN = "single-turn", "multi-turn"
MODES = (SINGLE_TURN, MULTI_TURN)
"""All sub-requests in one instruction, or one edit after another (paper, Figure 5: one instruction does better)."""
SEQUENCER_INPUTS = SEES_IMAGE, SEES_REQUEST = "image", "request"
"""What the sequencer may see beside the decomposition; nothing else in the paper's equation 2."""


def distinct(strings: Iterable[str]) -> tuple[str, ...]:
    """The strings without repetitions, in the order of their first appearance."""
    return tuple(dict.fromkeys(strings))


@dataclass(frozen=True)
class Decomposition:
    """A request taken apart: ordered tuples of distinct strings, compared as sets by the rewards."""

    actions: tuple[str, ...] = ()
    """Names out of `actions.ACTIONS`."""
    subjects: tuple[str, ...] = ()
    """What is edited, as a person would name it."""
    goals: tuple[str, ...] = ()
    """What it should become."""

    @classmethod
    def of(cls, actions: Iterable[str], subjects: Iterable[str], goals: Iterable[str]) -> Decomposition:
        return cls(distinct(actions), distinct(subjects), distinct(goals))

    @classmethod
    def from_json(cls, text: str) -> Decomposition:
        """Reads what `to_json` wrote. ValueError says what is wrong with `text`; nothing is repaired."""
        try:
            fields = json.loads(text)
        except (ValueError, TypeError, RecursionError) as error:
            raise ValueError(f"not JSON ({error})") from None
        if not isinstance(fields, dict) or set(fields) != set(COMPONENTS):
            raise ValueError(f"wanted a JSON object with exactly the keys {', '.join(COMPONENTS)}")
        for name in COMPONENTS:
            if not isinstance(fields[name], list) or not all(isinstance(item, str) for item in fields[name]):
                raise ValueError(f"{name} is not an array of strings")
        return cls.of(**fields)

    def to_json(self) -> str:
        return json.dumps(asdict(self), ensure_ascii=False)


class PlanError(UserError):
    """A plan or a trace that can't be used."""


@dataclass(frozen=True)
class AgentTrace:
    """How one agent came to its answer."""

    model: str
    """Such as "openai:http://127.0.0.1:8000/v1#decomposer"."""
    replies: tuple[str, ...] = ()
    """What the model wrote, word for word; two where the first could not be read."""
    fallback: str = ""
    """What was done in place of an answer that could not be read, and why; "" for a proper answer."""
    seconds: float = 0.0


@dataclass(frozen=True)
class Plan:
    """What shall be done to an image, in order."""

    request: str
    sub_requests: tuple[str, ...]
    method: str = CHAIN
    decomposition: Decomposition | None = None
    """None: nobody was asked, or no readable answer came."""
    decomposer: AgentTrace | None = None
    sequencer: AgentTrace | None = None

    @property
    def fallbacks(self) -> tuple[str, ...]:
        """A line for every agent whose answer could not be read."""
        return tuple(agent.fallback for agent in (self.decomposer, self.sequencer) if agent and agent.fallback)

    @classmethod
    def from_dict(cls, values: Any) -> Plan:
        """Reads a plan, or the plan in a trace; `{"sub_requests": ["Delete lamp"]}` will do. PlanError otherwise."""
        if isinstance(values, Mapping) and isinstance(values.get("plan"), Mapping):
            values = values["plan"]
        if not isinstance(values, Mapping):
            raise PlanError("wanted a JSON object")
        known = [field.name for field in fields(cls)]
        if unknown := sorted(set(map(str, values)) - set(known)):
            raise PlanError(f"a plan has no {', '.join(unknown)}; it has {', '.join(known)}")
        plan = {"request": "", "method": CHAIN, **values}
        if not isinstance(plan["request"], str):
            raise PlanError("request is not a string")
        lines = plan.get("sub_requests")
        if not isinstance(lines, list) or not lines or not all(isinstance(one, str) and one.strip() for one in lines):
            raise PlanError("sub_requests is not an array of one or more strings with words in them")
        plan["sub_requests"] = tuple(lines)
        if plan["method"] not in METHODS:
            raise PlanError(f"method is {plan['method']!r}; known: {', '.join(METHODS)}")
        if plan.get("decomposition") is not None:
            try:
                plan["decomposition"] = Decomposition.from_json(json.dumps(plan["decomposition"]))
            except ValueError as error:
                raise PlanError(f"decomposition: {error}") from None
        for agent in ("decomposer", "sequencer"):
            if plan.get(agent) is not None:
                try:
                    trace: dict[str, Any] = dict(plan[agent])
                    trace["replies"] = tuple(map(str, trace.get("replies", ())))
                    plan[agent] = AgentTrace(**trace)
                except (TypeError, ValueError):
                    raise PlanError(f"{agent} is not what a trace says of an agent") from None
        return cls(**plan)


@dataclass(frozen=True)
class Step:
    """One call of the editor."""

    instruction: str
    seed: int
    seconds: float
    sha256: str
    """Of the image's RGB bytes: equal for equal pixels."""
    size: tuple[int, int]
    """Width and height as the editor returned them."""
    image: Image.Image | None = field(default=None, repr=False, compare=False)
    """The image after this step; not in the JSON."""


@dataclass(frozen=True)
class Trace:
    """How an edited image was made: enough to make it again."""

    plan: Plan
    mode: str
    seed: int
    editor: str
    editor_settings: Mapping[str, Any]
    image_size: tuple[int, int]
    """Width and height of the upright input."""
    image_sha256: str
    canvas: tuple[int, int]
    """Width and height in which all turns ran."""
    steps: tuple[Step, ...]
    seconds: float
    """From the plan to the edited image, the plan not counted."""
    notes: tuple[str, ...] = ()
    """What the user was told: fallbacks, a size that the editor changed."""
    imageedit_r1: str = __version__

    def to_json(self) -> str:
        shown = [known.name for known in fields(Step) if known.name != "image"]
        steps = [{name: getattr(step, name) for name in shown} for step in self.steps]
        values = {known.name: getattr(self, known.name) for known in fields(self)}
        values |= {"plan": asdict(self.plan), "steps": steps}
        # the words of the user and of the models stay as they are, so that the plan can be repeated
        values |= {name: without_secrets(values[name]) for name in ("editor", "editor_settings", "notes")}
        return json.dumps(values, ensure_ascii=False, default=str)


@dataclass(frozen=True)
class EditResult:
    """An edited image and how it came about."""

    image: Image.Image
    """As large as the input, unless another size is what was asked for."""
    trace: Trace


def plan_json(plan: Plan) -> str:
    """The plan as JSON, for a person to read and change; `Plan.from_dict` reads it back."""
    return json.dumps(asdict(plan), ensure_ascii=False, indent=2)
