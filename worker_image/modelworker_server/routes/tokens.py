"""Text to token ids and back, with the names that vLLM gave these routes."""

from typing import Annotated

from fastapi import APIRouter, Depends, Response

from modelworker_api import wire
from modelworker_server import translate
from modelworker_server.routes.dependencies import asked
from modelworker_server.serving import json_response

router = APIRouter()

Tokens = Annotated[wire.TokenizeResponse, Depends(asked(wire.TokenizeRequest, translate.tokenize))]
Text = Annotated[
    wire.DetokenizeResponse, Depends(asked(wire.DetokenizeRequest, translate.detokenize))
]


@router.post("/tokenize")
async def tokenize(tokens: Tokens) -> Response:
    """Token ids of a text or a conversation."""
    return json_response(tokens)


@router.post("/detokenize")
async def detokenize(text: Text) -> Response:
    """Text of token ids."""
    return json_response(text)
