"""Embeddings, text to token ids and back, and the list of models over HTTP.

Names are OpenAI's where OpenAI has one and vLLM's where it has not.
"""

from typing import Literal

from modelworker_api.wire import Messages, Prompts, TokenIds, Usage, Wire


class EmbeddingRequest(Wire):
    """`POST /v1/embeddings`. `pooling` and `normalize` are ours; normalised mean by default."""

    input: Prompts
    model: str | None = None
    encoding_format: Literal["float", "base64"] | None = "float"
    pooling: Literal["mean", "last"] = "mean"
    normalize: bool = True


class EmbeddingData(Wire):
    """One vector: floats, or little-endian float32 in base64."""

    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | str


class EmbeddingResponse(Wire):
    """Answer to `/v1/embeddings`."""

    object: Literal["list"] = "list"
    data: list[EmbeddingData]
    model: str
    usage: Usage


class TokenizeRequest(Wire):
    """`POST /tokenize`: either `prompt` or `messages`."""

    model: str | None = None
    prompt: str | None = None
    messages: Messages | None = None
    add_special_tokens: bool = True
    add_generation_prompt: bool = True


class TokenizeResponse(Wire):
    """Answer to `/tokenize`."""

    count: int
    max_model_len: int
    tokens: list[int]


class DetokenizeRequest(Wire):
    """`POST /detokenize`."""

    model: str | None = None
    tokens: TokenIds
    skip_special_tokens: bool = False


class DetokenizeResponse(Wire):
    """Answer to `/detokenize`."""

    prompt: str


class ModelCard(Wire):
    """One entry of `/v1/models`."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: Literal["modelworker"] = "modelworker"
    root: str
    max_model_len: int


class ModelList(Wire):
    """Answer to `GET /v1/models`."""

    object: Literal["list"] = "list"
    data: list[ModelCard]
