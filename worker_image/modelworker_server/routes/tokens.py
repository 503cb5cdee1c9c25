"""Text to token ids and back, with the names that vLLM gave these routes."""

from typing import Annotated

from fastapi import APIRouter, Depends, Response

from modelworker_api import tokens
from modelworker_server.openai import translate_tokens
from modelworker_server.openai.answers import tokenizer_info
from modelworker_server.openai.serving import json_response
from modelworker_server.routes.dependencies import ReadyServer, asked

router = APIRouter()

Tokens = Annotated[
    tokens.TokenizeResponse, Depends(asked(tokens.TokenizeRequest, translate_tokens.tokenize))
]
Text = Annotated[
    tokens.DetokenizeResponse, Depends(asked(tokens.DetokenizeRequest, translate_tokens.detokenize))
]


@router.post("/tokenize")
async def tokenize(tokens: Tokens) -> Response:
    """Token ids of a text or a conversation."""
    return json_response(tokens)


@router.post("/detokenize")
async def detokenize(text: Text) -> Response:
    """Text of token ids."""
    return json_response(text)


@router.get("/tokenizer_info")
async def info(server: ReadyServer) -> Response:
    """The tokenizer's configuration."""
    return json_response(tokenizer_info(server.worker))
