"""FastChat's worker protocol, and the route that OpenR added to it."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response

from modelworker_api import fastchat as shapes
from modelworker_api.rewards import ValueInferenceRequest
from modelworker_server import (
    fastchat_serving,
    fastchat_translate,
    serving_rewards,
    translate_rewards,
)
from modelworker_server.answers_rewards import value_response
from modelworker_server.fastchat_errors import FailureRoute, FrameFailureRoute
from modelworker_server.fastchat_translate import Generation
from modelworker_server.routes.dependencies import ReadyServer, Server, asked, asked_or_nothing
from modelworker_server.serving import json_response
from modelworker_server.translate import EmbeddingJob
from modelworker_server.translate_rewards import ValueJob

router = APIRouter()
plain = APIRouter(route_class=FailureRoute)
framed = APIRouter(route_class=FrameFailureRoute)

Job = Annotated[Generation, Depends(asked(shapes.GenerateRequest, fastchat_translate.generation))]
InputJob = Annotated[
    EmbeddingJob, Depends(asked(shapes.EmbeddingsRequest, fastchat_translate.embeddings))
]
Count = Annotated[shapes.CountAnswer, Depends(asked(shapes.CountRequest, fastchat_translate.count))]
Details = Annotated[
    shapes.DetailsAnswer,
    Depends(asked_or_nothing(shapes.ModelRequest, fastchat_translate.details)),
]
Template = Annotated[
    shapes.ConversationAnswer,
    Depends(asked_or_nothing(shapes.ModelRequest, fastchat_translate.conv_template)),
]
Values = Annotated[ValueJob, Depends(asked(ValueInferenceRequest, translate_rewards.value_job))]


@plain.post("/worker_generate")
async def worker_generate(job: Job, request: Request, server: ReadyServer) -> Response:
    """Go on with a prompt."""
    return await fastchat_serving.generate(server, request, job)


@framed.post("/worker_generate_stream")
async def worker_generate_stream(job: Job, request: Request, server: ReadyServer) -> Response:
    """The same, as the text grows."""
    return await fastchat_serving.stream(server, request, job)


@plain.post("/worker_get_embeddings")
async def worker_get_embeddings(job: InputJob, request: Request, server: ReadyServer) -> Response:
    """One vector for each text."""
    return await fastchat_serving.embed(server, request, job)


@plain.post("/worker_get_status")
async def worker_get_status(server: Server) -> Response:
    """The model under each of its names, and the load."""
    return json_response(fastchat_serving.status(server))


@plain.post("/count_token")
async def count_token(count: Count) -> Response:
    """Tokens of a prompt."""
    return json_response(count)


@plain.post("/worker_get_conv_template")
async def worker_get_conv_template(template: Template) -> Response:
    """How a conversation becomes a prompt."""
    return json_response(template)


@plain.post("/model_details")
async def model_details(details: Details) -> Response:
    """The length of the context."""
    return json_response(details)


@router.post("/worker_value_inference")
async def worker_value_inference(job: Values, request: Request, server: ReadyServer) -> Response:
    """Score the steps that the tags in each text end; any failure is the request's."""
    scored = await serving_rewards.score_all(server, request, job.layouts)
    return json_response(value_response(job, scored))


router.include_router(plain)
router.include_router(framed)
