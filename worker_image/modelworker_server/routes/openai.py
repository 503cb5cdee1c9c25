"""OpenAI's API."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response

from modelworker_api import tokens, wire
from modelworker_server.openai import serving, translate
from modelworker_server.openai.answers import model_list
from modelworker_server.openai.answers_chat import ChatAnswers
from modelworker_server.openai.answers_completions import CompletionAnswers
from modelworker_server.openai.translate import EmbeddingJob, Job
from modelworker_server.routes.dependencies import ReadyServer, asked, envelope

router = APIRouter(prefix="/v1")

CompletionJob = Annotated[Job, Depends(asked(wire.CompletionRequest, translate.completion_job))]
ChatJob = Annotated[Job, Depends(asked(wire.ChatCompletionRequest, translate.chat_job))]
InputJob = Annotated[EmbeddingJob, Depends(asked(tokens.EmbeddingRequest, translate.embedding_job))]


@router.get("/models")
async def models(server: ReadyServer) -> Response:
    """The model under each name that requests may use."""
    return serving.json_response(model_list(server.worker.info))


@router.post("/completions")
async def completions(job: CompletionJob, request: Request, server: ReadyServer) -> Response:
    """Go on with each prompt."""
    worker = server.worker
    answers = CompletionAnswers(job, envelope("cmpl", server), worker.token_text, worker.decode)
    return await serving.generate(server, request, job, answers)


@router.post("/chat/completions")
async def chat_completions(job: ChatJob, request: Request, server: ReadyServer) -> Response:
    """Answer a conversation."""
    answers = ChatAnswers(job, envelope("chatcmpl", server), server.worker.token_text)
    return await serving.generate(server, request, job, answers)


@router.post("/embeddings")
async def embeddings(job: InputJob, request: Request, server: ReadyServer) -> Response:
    """One vector for each input."""
    return await serving.embed(server, request, job)
