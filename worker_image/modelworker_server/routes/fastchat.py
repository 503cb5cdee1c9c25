"""FastChat's worker protocol, and the route that OpenR added to it."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response

from modelworker_api import fastchat as shapes
from modelworker_api.rewards import ValueInferenceRequest
from modelworker_server.fastchat import serving, translate
from modelworker_server.fastchat.errors import FailureRoute, FrameFailureRoute
from modelworker_server.fastchat.translate import Generation
from modelworker_server.openai.serving import json_response
from modelworker_server.openai.translate import EmbeddingJob
from modelworker_server.rewards import serving as scoring
from modelworker_server.rewards.answers import value_response
from modelworker_server.rewards.translate import ValueJob, value_job
from modelworker_server.routes.dependencies import ReadyServer, Server, asked, asked_or_nothing

router = APIRouter()
plain = APIRouter(route_class=FailureRoute)
framed = APIRouter(route_class=FrameFailureRoute)

Job = Annotated[Generation, Depends(asked(shapes.GenerateRequest, translate.generation))]
InputJob = Annotated[EmbeddingJob, Depends(asked(shapes.EmbeddingsRequest, translate.embeddings))]
Count = Annotated[shapes.CountAnswer, Depends(asked(shapes.CountRequest, translate.count))]
Details = Annotated[
    shapes.DetailsAnswer,
    Depends(asked_or_nothing(shapes.ModelRequest, translate.details)),
]
Template = Annotated[
    shapes.ConversationAnswer,
    Depends(asked_or_nothing(shapes.ModelRequest, translate.conv_template)),
]
Values = Annotated[ValueJob, Depends(asked(ValueInferenceRequest, value_job))]


@plain.post("/worker_generate")
async def worker_generate(job: Job, request: Request, server: ReadyServer) -> Response:
    """Go on with a prompt."""
    return await serving.generate(server, request, job)


@framed.post("/worker_generate_stream")
async def worker_generate_stream(job: Job, request: Request, server: ReadyServer) -> Response:
    """The same, as the text grows."""
    return await serving.stream(server, request, job)


@plain.post("/worker_get_embeddings")
async def worker_get_embeddings(job: InputJob, request: Request, server: ReadyServer) -> Response:
    """One vector for each text."""
    return await serving.embed(server, request, job)


@plain.post("/worker_get_status")
async def worker_get_status(server: Server) -> Response:
    """The model under each of its names, and the load."""
    return json_response(serving.status(server))


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
    scored = await scoring.score_all(server, request, job.layouts)
    return json_response(value_response(job, scored))


router.include_router(plain)
router.include_router(framed)
