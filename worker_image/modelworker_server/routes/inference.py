"""Tokens in, tokens out, with the name that vLLM gave this route."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response

from modelworker_api import inference
from modelworker_server.openai import serving, translate_inference
from modelworker_server.openai.answers_inference import TokensAnswers
from modelworker_server.openai.translate import Job
from modelworker_server.routes.dependencies import ReadyServer, asked, envelope

router = APIRouter(prefix="/inference/v1")

TokensJob = Annotated[Job, Depends(asked(inference.TokensRequest, translate_inference.tokens_job))]


@router.post("/generate")
async def generate(job: TokensJob, request: Request, server: ReadyServer) -> Response:
    """Go on with a prompt of token ids."""
    answers = TokensAnswers(job, envelope("tokens", server), server.worker.token_text)
    return await serving.generate(server, request, job, answers)
