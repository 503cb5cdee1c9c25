"""Text to token ids and back, with the names that vLLM gave these routes."""

from typing import Annotated

from fastapi import APIRouter, Depends, Response

from modelworker_api import tokens
from modelworker_server import translate
from modelworker_server.routes.dependencies import asked
from modelworker_server.serving import json_response

router = APIRouter()

Tokens = Annotated[
    tokens.TokenizeResponse, Depends(asked(tokens.TokenizeRequest, translate.tokenize))
]
Text = Annotated[
    tokens.DetokenizeResponse, Depends(asked(tokens.DetokenizeRequest, translate.detokenize))
]


@router.post("/tokenize")
async def tokenize(tokens: Tokens) -> Response:
    """Token ids of a text or a conversation."""
    return json_response(tokens)


@router.post("/detokenize")
async def detokenize(text: Text) -> Response:
    """Text of token ids."""
    return json_response(text)
