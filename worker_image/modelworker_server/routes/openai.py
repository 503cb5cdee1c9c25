"""OpenAI's API."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response

from modelworker_api import wire
from modelworker_server import serving, translate
from modelworker_server.answers import ChatAnswers, CompletionAnswers, Envelope, model_list
from modelworker_server.routes.dependencies import ReadyServer, body_of
from modelworker_server.state import ServerState

router = APIRouter(prefix="/v1")

CompletionBody = Annotated[wire.CompletionRequest, Depends(body_of(wire.CompletionRequest))]
ChatBody = Annotated[wire.ChatCompletionRequest, Depends(body_of(wire.ChatCompletionRequest))]
EmbeddingBody = Annotated[wire.EmbeddingRequest, Depends(body_of(wire.EmbeddingRequest))]


@router.get("/models")
async def models(server: ReadyServer) -> Response:
    """The model under each name that requests may use."""
    return serving.json_response(model_list(server.worker.info))


@router.post("/completions")
async def completions(body: CompletionBody, request: Request, server: ReadyServer) -> Response:
    """Go on with each prompt."""
    job = translate.completion_job(body, server.worker)
    answers = CompletionAnswers(job, _envelope("cmpl", server), server.worker.token_text)
    return await serving.generate(server, request, job, answers)


@router.post("/chat/completions")
async def chat_completions(body: ChatBody, request: Request, server: ReadyServer) -> Response:
    """Answer a conversation."""
    job = translate.chat_job(body, server.worker)
    answers = ChatAnswers(job, _envelope("chatcmpl", server), server.worker.token_text)
    return await serving.generate(server, request, job, answers)


@router.post("/embeddings")
async def embeddings(body: EmbeddingBody, request: Request, server: ReadyServer) -> Response:
    """One vector for each input."""
    return await serving.embed(server, request, translate.embedding_job(body, server.worker))


def _envelope(kind: str, server: ServerState) -> Envelope:
    return Envelope(
        id=f"{kind}-{server.new_id()}", created=int(server.now()), model=server.worker.info.name
    )
