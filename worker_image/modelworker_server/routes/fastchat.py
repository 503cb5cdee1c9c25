"""The route that OpenR added to FastChat's workers."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response

from modelworker_api.rewards import ValueInferenceRequest
from modelworker_server import serving_rewards, translate_rewards
from modelworker_server.answers_rewards import value_response
from modelworker_server.routes.dependencies import ReadyServer, asked
from modelworker_server.serving import json_response
from modelworker_server.translate_rewards import ValueJob

router = APIRouter()

Job = Annotated[ValueJob, Depends(asked(ValueInferenceRequest, translate_rewards.value_job))]


@router.post("/worker_value_inference")
async def worker_value_inference(job: Job, request: Request, server: ReadyServer) -> Response:
    """Score the steps that the tags in each text end; any failure is the request's."""
    scored = await serving_rewards.score_all(server, request, job.layouts)
    return json_response(value_response(job, scored))
