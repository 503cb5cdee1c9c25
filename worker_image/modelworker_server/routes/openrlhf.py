"""The route of OpenRLHF's remote reward models."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response

from modelworker_api.rewards import GetRewardRequest
from modelworker_server import serving_rewards, translate_rewards
from modelworker_server.answers_rewards import query_response
from modelworker_server.routes.dependencies import ReadyServer, asked
from modelworker_server.serving import json_response
from modelworker_server.translate_rewards import QueryJob

router = APIRouter()

Job = Annotated[QueryJob, Depends(asked(GetRewardRequest, translate_rewards.query_job))]


@router.post("/get_reward")
async def get_reward(job: Job, request: Request, server: ReadyServer) -> Response:
    """One score for each query; any failure is the request's."""
    scored = await serving_rewards.score_all(server, request, job.layouts)
    return json_response(query_response(job, scored))
