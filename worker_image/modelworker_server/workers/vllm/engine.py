"""Starts and ends vLLM's engine, whose model runs in processes of its own."""

from argparse import Namespace
from collections.abc import Sequence
from typing import Any

from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.entrypoints.launchers.cli_args import make_arg_parser, validate_parsed_serve_args
from vllm.usage.usage_lib import UsageContext
from vllm.utils.argparse_utils import FlexibleArgumentParser
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.exceptions import EngineDeadError

from modelworker_api.wire import FailureReason
from modelworker_server.errors import LoadError
from modelworker_server.workers.vllm.executors import executor_for
from modelworker_server.workers.vllm.failures import LastWords, sentence, start_failure
from modelworker_server.workers.vllm.stats import EngineStats

SHUTDOWN_SECONDS = 1.0
"""How long the engine's processes may take to end by themselves."""


def parse(flags: Sequence[str]) -> Namespace:
    """What vLLM's own parser makes of the flags of `vllm serve`.

    Raises:
        LoadError: for flags that it does not take.
    """
    parser = make_arg_parser(FlexibleArgumentParser(exit_on_error=False, allow_abbrev=False))
    try:
        parsed: Namespace = parser.parse_args(list(flags))
        validate_parsed_serve_args(parsed)
    except (SystemExit, Exception) as error:
        raise LoadError(
            FailureReason.LOAD_FAILED, f"vLLM does not take these arguments: {sentence(error)}"
        ) from error
    return parsed


def start(arguments: Namespace, stats: EngineStats | None = None) -> AsyncLLM:
    """The running engine; blocks for as long as the model loads, so call it in a thread.

    Args:
        arguments: What `parse` returned.
        stats: Told of every step of the engine.

    Raises:
        LoadError: the engine does not start: why, and what to do.
    """
    loggers: list[Any] | None = None if stats is None else [lambda _config, _index: stats]
    last_words = LastWords.of_this_process()
    last_words.forget()
    try:
        config = AsyncEngineArgs.from_cli_args(arguments).create_engine_config(
            UsageContext.OPENAI_API_SERVER
        )
        return AsyncLLM(
            config,
            executor_class=executor_for(config),
            log_stats=not arguments.disable_log_stats,
            log_requests=arguments.enable_log_requests,
            usage_context=UsageContext.OPENAI_API_SERVER,
            stat_loggers=loggers,
        )
    except Exception as error:
        raise start_failure(error, last_words.read()) from error
    finally:
        last_words.forget()


def stop(engine: AsyncLLM) -> None:
    """End the engine and its processes; open calls on it end with `EngineDeadError`.

    Call it in the event loop of those calls.
    """
    engine.output_processor.propagate_error(EngineDeadError())
    engine.shutdown(timeout=SHUTDOWN_SECONDS)
