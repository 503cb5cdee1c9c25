"""Rewards, in our own shape."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response

from modelworker_api import rewards
from modelworker_server.openai.serving import json_response
from modelworker_server.rewards import serving, translate
from modelworker_server.rewards.answers import reward_response
from modelworker_server.rewards.translate import RewardJob
from modelworker_server.routes.dependencies import ReadyServer, asked, envelope

router = APIRouter(prefix="/v1")

Job = Annotated[RewardJob, Depends(asked(rewards.RewardRequest, translate.reward_job))]


@router.post("/rewards")
async def score(job: Job, request: Request, server: ReadyServer) -> Response:
    """Score each answer, or say why it has no score."""
    scored = await serving.score_each(server, request, job.inputs)
    return json_response(reward_response(job, scored, server.worker, envelope("rwd", server)))
