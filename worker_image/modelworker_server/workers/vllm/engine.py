"""Starts vLLM's engine from flags."""

from argparse import Namespace
from collections.abc import Sequence

from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.entrypoints.launchers.cli_args import make_arg_parser, validate_parsed_serve_args
from vllm.usage.usage_lib import UsageContext
from vllm.utils.argparse_utils import FlexibleArgumentParser
from vllm.v1.engine.async_llm import AsyncLLM

from modelworker_api.wire import FailureReason
from modelworker_server.errors import LoadError


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
            FailureReason.LOAD_FAILED, f"vLLM does not take these arguments: {error}"
        ) from error
    return parsed


def start(arguments: Namespace) -> AsyncLLM:
    """The running engine; blocks for as long as the model loads, so call it in a thread."""
    config = AsyncEngineArgs.from_cli_args(arguments).create_engine_config(
        UsageContext.OPENAI_API_SERVER
    )
    return AsyncLLM.from_vllm_config(config, usage_context=UsageContext.OPENAI_API_SERVER)
