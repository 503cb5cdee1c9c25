"""Text to token ids and back, with the names that vLLM gave these routes."""

from typing import Annotated

from fastapi import APIRouter, Depends, Response

from modelworker_api import wire
from modelworker_server import translate
from modelworker_server.routes.dependencies import ReadyServer, body_of
from modelworker_server.serving import json_response

router = APIRouter()

TokenizeBody = Annotated[wire.TokenizeRequest, Depends(body_of(wire.TokenizeRequest))]
DetokenizeBody = Annotated[wire.DetokenizeRequest, Depends(body_of(wire.DetokenizeRequest))]


@router.post("/tokenize")
async def tokenize(body: TokenizeBody, server: ReadyServer) -> Response:
    """Token ids of a text or a conversation."""
    return json_response(translate.tokenize(body, server.worker))


@router.post("/detokenize")
async def detokenize(body: DetokenizeBody, server: ReadyServer) -> Response:
    """Text of token ids."""
    return json_response(translate.detokenize(body, server.worker))
