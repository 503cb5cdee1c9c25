"""vLLM's own HTTP application on an engine of this process."""

from argparse import Namespace
from http import HTTPStatus
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse
from vllm.entrypoints.launchers.api_server.app_state import init_app_state
from vllm.entrypoints.launchers.app import build_app
from vllm.entrypoints.serve.exception_handling.error_response import create_error_response
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError

from modelworker_server.workers.vllm.failures import ENGINE_DIED
from modelworker_server.workers.vllm.prefill import continue_in_tokens


async def application(engine: AsyncLLM, arguments: Namespace, root: str) -> Any:
    """The application, with every route that the engine's model and the flags allow.

    Args:
        engine: Answers the requests.
        arguments: What `parse` returned for the flags that the engine was started with.
        root: What `/v1/models` tells of where the model comes from.
    """
    shown = Namespace(**{**vars(arguments), "model": root})
    tasks = await engine.get_supported_tasks()
    app = build_app(shown, tasks, engine.model_config)
    # vLLM's own handler of these stops vLLM's server, of which there is none here.
    for error in (EngineDeadError, EngineGenerateError):
        app.add_exception_handler(error, _engine_error)
    # It was built already, with what SageMaker wants; so it is built again, without.
    app.middleware_stack = None
    await init_app_state(engine, app.state, shown, tasks)
    continue_in_tokens(engine.get_tokenizer())
    return app


async def _engine_error(_: Request, error: Exception) -> JSONResponse:
    if isinstance(error, EngineDeadError):
        body = create_error_response(
            ENGINE_DIED, "ServiceUnavailableError", HTTPStatus.SERVICE_UNAVAILABLE
        )
    else:
        body = create_error_response(error.__cause__ or error)
    return JSONResponse(body.model_dump(), body.error.code)
