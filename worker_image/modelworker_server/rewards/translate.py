"""From reward requests to what a reward worker scores; pure but for the worker's tokenizer.

Two kinds of faults are kept apart. A request that is put together wrongly is refused as a
whole. An answer that cannot be scored, which a policy may well have written, is the error of
that input alone, where the route can say so.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from modelworker_api import rewards, wire
from modelworker_server.conversation import plain_messages
from modelworker_server.errors import BadRequest, InputFailed, NoSteps, Unsupported, WorkerError
from modelworker_server.openai.translate import require_served
from modelworker_server.scoring import steps
from modelworker_server.scoring.values import Item, Layout, Templated, Turn
from modelworker_server.workers.base import BaseModelWorker

_PARTS: Final = ("question", "response", "steps", "messages", "text")
_FORMS: Final = (
    {"question", "response"},
    {"question", "steps"},
    {"messages"},
    {"text"},
)
_MISSING: Final[Mapping[frozenset[str], str]] = {
    frozenset({"question"}): ".response",
    frozenset({"response"}): ".question",
    frozenset({"steps"}): ".question",
}
"""The part to add where there is one alone."""


@dataclass(frozen=True, slots=True)
class RewardJob:
    """What `POST /v1/rewards` asks for, checked."""

    inputs: tuple[Layout | WorkerError, ...]
    """In the order of the request; an error where an answer cannot be laid out."""
    aggregation: rewards.Aggregation


@dataclass(frozen=True, slots=True)
class ValueJob:
    """What `POST /worker_value_inference` asks for, checked."""

    input: str | list[str]
    """As it was sent: the answer repeats it."""
    layouts: Mapping[str, Layout | None]
    """By place in the request, such as `input_str[1]`; None for a text without a tag."""


@dataclass(frozen=True, slots=True)
class QueryJob:
    """What `POST /get_reward` asks for, checked."""

    layouts: Mapping[str, Layout]
    """By place in the request, such as `query[1]`."""
    aggregation: rewards.Aggregation


def reward_job(request: rewards.RewardRequest, worker: BaseModelWorker) -> RewardJob:
    """What `POST /v1/rewards` asks for.

    Raises:
        BadRequest: an input is put together wrongly; `param` names it.
        ModelNotServed: for another model.
        Unsupported: this worker gives no rewards.
    """
    scoring = worker.scoring
    require_served(request.model, worker.info)
    # All are checked before the first is tokenised: that takes long.
    items = [
        _item(given, f"inputs[{index}]", scoring.step_separator)
        for index, given in enumerate(request.inputs)
    ]
    return RewardJob(
        inputs=tuple(_laid_out(item, worker) for item in items),
        aggregation=request.aggregation or scoring.aggregation,
    )


def value_job(request: rewards.ValueInferenceRequest, worker: BaseModelWorker) -> ValueJob:
    """What `POST /worker_value_inference` asks for.

    Raises:
        InputFailed: for the first text that cannot be laid out.
        BadRequest: for too many texts.
        ModelNotServed: for another model.
        Unsupported: this worker gives no rewards, or none for each step.
    """
    if worker.scoring.type is rewards.ScoreType.OUTCOME:
        raise Unsupported(
            "this model scores whole answers and no steps; send them to /v1/rewards or /get_reward"
        )
    require_served(request.model, worker.info)
    given = request.input_str
    if isinstance(given, str):
        places = {"input_str": given}
    else:
        _require_few("input_str", given)
        places = {f"input_str[{index}]": text for index, text in enumerate(given)}
    return ValueJob(
        input=given,
        layouts={place: _tagged(text, place, worker) for place, text in places.items()},
    )


def query_job(request: rewards.GetRewardRequest, worker: BaseModelWorker) -> QueryJob:
    """What `POST /get_reward` asks for.

    A model that scores whole answers reads each query as it is. One that scores steps needs
    to know where the answer begins: the query's prompt is taken as the question, what follows
    it as the response.

    Raises:
        InputFailed: for the first query that cannot be laid out.
        BadRequest: too many queries, or prompts that do not fit them.
        Unsupported: this worker gives no rewards.
    """
    scoring = worker.scoring
    _require_few("query", request.query)
    items: Sequence[Item | Templated | NoSteps]
    if scoring.type is rewards.ScoreType.OUTCOME:
        items = [_templated(query, f"query[{i}]") for i, query in enumerate(request.query)]
    else:
        items = _answers(request.query, request.prompts or [], scoring.step_separator)
    layouts = {}
    for index, item in enumerate(items):
        layout = _laid_out(item, worker)
        if isinstance(layout, WorkerError):
            raise InputFailed(layout, f"query[{index}]")
        layouts[f"query[{index}]"] = layout
    return QueryJob(layouts=layouts, aggregation=scoring.aggregation)


def _item(given: rewards.RewardInput, where: str, separator: str) -> Item | Templated | NoSteps:
    """One input; `where` is its place in the request, `separator` the model's own."""
    _require_one_form(given, where)
    if given.separator == "":
        raise BadRequest(
            f"{where}.separator is empty; leave it out to use the model's own",
            param=f"{where}.separator",
        )
    if given.text is not None:
        if given.separator is not None:
            raise BadRequest(
                f"{where}.separator has no use with text, which is scored as it is",
                param=f"{where}.separator",
            )
        return _templated(given.text, f"{where}.text")
    separator = given.separator or separator
    if given.messages is not None:
        *context, answer = _conversation(given.messages, f"{where}.messages")
        return _item_of(tuple(context), answer[1], separator)
    context = [("user", given.question or "")]
    if given.steps is not None:
        _require_steps(given.steps, f"{where}.steps")
        return steps.item_from_steps(tuple(context), given.steps, separator)
    return _item_of(tuple(context), given.response or "", separator)


def _item_of(context: tuple[Turn, ...], response: str, separator: str) -> Item | NoSteps:
    spans = steps.split(response, separator)
    if not spans:
        return NoSteps("the response is blank: it has no step to score")
    return Item(context=context, response=response, spans=spans)


def _templated(text: str, where: str) -> Templated:
    if not text:
        raise BadRequest(f"{where} is empty; send the whole templated text", param=where)
    return Templated(text)


def _answers(
    queries: Sequence[str], prompts: Sequence[str], separator: str
) -> list[Item | Templated | NoSteps]:
    """The queries, cut where their prompts end."""
    if len(prompts) != len(queries):
        raise BadRequest(
            f"query has {len(queries)} texts and prompts has {len(prompts)}; this model scores "
            "steps and needs a prompt for each query",
            param="prompts",
        )
    items: list[Item | Templated | NoSteps] = []
    for index, (query, prompt) in enumerate(zip(queries, prompts, strict=True)):
        if not query.startswith(prompt):
            raise BadRequest(
                f"query[{index}] does not begin with prompts[{index}]; this model scores steps "
                "and has to know where the answer begins",
                param=f"query[{index}]",
            )
        items.append(_item_of((("user", prompt),), query[len(prompt) :], separator))
    return items


def _require_one_form(given: rewards.RewardInput, where: str) -> None:
    parts = {part for part in _PARTS if getattr(given, part) is not None}
    if parts in _FORMS:
        return
    both = {"response", "steps"} <= parts
    field = ".steps" if both else _MISSING.get(frozenset(parts), "")
    has = " and ".join(part for part in _PARTS if part in parts) or "nothing to score"
    raise BadRequest(
        f"{where} has {has}; give question with either response or steps, or messages alone, "
        "or text alone",
        param=where + field,
    )


def _require_steps(given: Sequence[str], where: str) -> None:
    if not given:
        raise BadRequest(f"{where} is empty; give at least one step", param=where)
    for index, step in enumerate(given):
        if not step.strip():
            raise BadRequest(f"{where}[{index}] is blank; leave it out", param=where)


def _require_few(field: str, given: Sequence[str]) -> None:
    if len(given) > rewards.MAX_INPUTS:
        raise BadRequest(
            f"{field} has {len(given)} texts; at most {rewards.MAX_INPUTS} are allowed, "
            "split the batch",
            param=field,
        )


def _conversation(given: wire.Messages, where: str) -> list[Turn]:
    turns = [(message.role, message.content) for message in plain_messages(given, where)]
    if [role for role, _ in turns[-2:]] != ["user", "assistant"]:
        raise BadRequest(
            f"{where} must end with a user's message and the assistant's answer to score",
            param=where,
        )
    return turns


def _laid_out(item: Item | Templated | NoSteps, worker: BaseModelWorker) -> Layout | WorkerError:
    if isinstance(item, NoSteps):
        return item
    try:
        return worker.lay_out(item)
    except WorkerError as error:
        return error


def _tagged(text: str, where: str, worker: BaseModelWorker) -> Layout | None:
    try:
        return worker.lay_out_tagged(text)
    except WorkerError as error:
        raise InputFailed(error, where) from error
