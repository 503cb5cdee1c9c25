"""From a reward worker's scores to wire answers. Only set fields are sent."""

import math
from collections.abc import Mapping, Sequence

from modelworker_api import rewards
from modelworker_server.errors import InputFailed, NonFiniteScore, WorkerError
from modelworker_server.openai.answers import Envelope, usage
from modelworker_server.rewards.translate import QueryJob, RewardJob, ValueJob
from modelworker_server.scoring import steps
from modelworker_server.scoring.values import Layout, Scores
from modelworker_server.workers.base import BaseModelWorker


def reward_response(
    job: RewardJob,
    scored: Sequence[Scores | WorkerError],
    worker: BaseModelWorker,
    envelope: Envelope,
) -> rewards.RewardResponse:
    """The answer to `/v1/rewards`, from the scores or the error of each input, in order."""
    data = [
        _result(index, given, scores, job.aggregation)
        for index, (given, scores) in enumerate(zip(job.inputs, scored, strict=True))
    ]
    scoring = worker.scoring
    return rewards.RewardResponse(
        id=envelope.id,
        object="list",
        created=envelope.created,
        model=envelope.model,
        recipe=scoring.family,
        recipe_hash=scoring.recipe_hash,
        revision=worker.info.revision,
        data=data,
        usage=usage(sum(one.reward.token_count for one in data if one.reward is not None), 0),
    )


def value_response(job: ValueJob, scored: Mapping[str, Scores]) -> rewards.ValueInferenceResponse:
    """The answer to `/worker_value_inference`, from the scores by place in the request."""
    values = [
        [step.value for step in scored[place].steps] if place in scored else []
        for place in job.layouts
    ]
    value = values[0] if isinstance(job.input, str) else values
    return rewards.ValueInferenceResponse(input=job.input, value=value)


def query_response(job: QueryJob, scored: Mapping[str, Scores]) -> rewards.GetRewardResponse:
    """The answer to `/get_reward`, from the scores by place in the request.

    Raises:
        InputFailed: scores whose aggregate is no number.
    """
    values = []
    for place in job.layouts:
        try:
            values.append(aggregated(scored[place], job.aggregation))
        except NonFiniteScore as error:
            raise InputFailed(error, place) from error
    tokens = [float(len(layout.token_ids)) for layout in job.layouts.values()]
    return rewards.GetRewardResponse(rewards=values, scores=values, extra_logs={"tokens": tokens})


def aggregated(scores: Scores, aggregation: rewards.Aggregation) -> float:
    """One score from those of the steps.

    Raises:
        NonFiniteScore: it is beyond what a float holds, as a product of large scores may be.
    """
    values = [step.value for step in scores.steps]
    try:
        value = steps.aggregate(values, aggregation)
    except OverflowError:
        value = math.inf
    if not math.isfinite(value):
        raise NonFiniteScore(
            f"the {aggregation} of the steps' scores is beyond a float's range; ask for another "
            "aggregation"
        )
    return value


def _result(
    index: int,
    given: Layout | WorkerError,
    scores: Scores | WorkerError,
    aggregation: rewards.Aggregation,
) -> rewards.RewardResult:
    if isinstance(given, WorkerError):
        return _failed(index, given)
    if isinstance(scores, WorkerError):
        return _failed(index, scores)
    try:
        value = aggregated(scores, aggregation)
    except NonFiniteScore as error:
        return _failed(index, error)
    reward = rewards.Reward(
        score=value,
        steps=_steps(given, scores),
        aggregation=aggregation,
        truncated=given.truncated,
        token_count=len(given.token_ids),
    )
    return rewards.RewardResult(index=index, object="reward", reward=reward)


def _failed(index: int, error: WorkerError) -> rewards.RewardResult:
    told = rewards.RewardError(type=error.type, message=error.message, step=error.step)
    return rewards.RewardResult(index=index, object="reward", error=told)


def _steps(layout: Layout, scores: Scores) -> list[rewards.StepReward]:
    return [
        rewards.StepReward(
            score=step.value,
            start_char=place.chars[0],
            end_char=place.chars[1],
            start_token=place.tokens[0],
            end_token=place.tokens[1],
            details=step.details,
        )
        for place, step in zip(layout.places, scores.steps, strict=True)
    ]
