"""The route of OpenRLHF's remote reward models."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response

from modelworker_api.rewards import GetRewardRequest
from modelworker_server.openai.serving import json_response
from modelworker_server.rewards import serving, translate
from modelworker_server.rewards.answers import query_response
from modelworker_server.rewards.translate import QueryJob
from modelworker_server.routes.dependencies import ReadyServer, asked

router = APIRouter()

Job = Annotated[QueryJob, Depends(asked(GetRewardRequest, translate.query_job))]


@router.post("/get_reward")
async def get_reward(job: Job, request: Request, server: ReadyServer) -> Response:
    """One score for each query; any failure is the request's."""
    scored = await serving.score_all(server, request, job.layouts)
    return json_response(query_response(job, scored))
