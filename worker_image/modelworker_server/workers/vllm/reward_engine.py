"""Rows from vLLM's engine: the head's numbers for the tokens that it computes."""

import itertools
import math
from collections.abc import Mapping, Sequence
from contextlib import aclosing

from vllm.inputs import TokensPrompt
from vllm.outputs import PoolingRequestOutput
from vllm.pooling_params import PoolingParams
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.exceptions import EngineGenerateError

from modelworker_server.errors import Unavailable
from modelworker_server.scoring.values import Row
from modelworker_server.workers.vllm.failures import as_worker_errors


class EngineRows:
    """`Ask` on an engine whose head gives a row for each token; see `reward_rows`.

    Args:
        engine: started by the flags of `reward_heads.engine_head`.
        cap: soft cap on the numbers, None for none.
    """

    def __init__(self, engine: AsyncLLM, *, cap: float | None) -> None:
        self._engine = engine
        self._cap = cap
        self._numbers = itertools.count()

    async def __call__(
        self, tokens: Sequence[int], reads: Sequence[int], *, cached: bool
    ) -> Mapping[int, Row]:
        """See `Ask`. Cancelling it aborts the request in the engine.

        Raises:
            BadRequest: the engine refuses the input.
            Unavailable: the engine died, or did not finish the input.
        """
        output = await self._run(tokens, cached=cached)
        rows = output.outputs.data
        first = output.num_cached_tokens
        # Else the input was put back for want of memory while it was computed, and the rows
        # of its two runs cannot be told apart.
        if len(rows) != len(tokens) - first:
            if cached:
                return {}
            raise Unavailable(
                "the engine ran out of KV cache while it computed this input; send it again, or "
                "give the worker more memory for it"
            )
        computed = [read for read in reads if read >= first]
        numbers = rows[[read - first for read in computed]].tolist()
        return {read: self._capped(row) for read, row in zip(computed, numbers, strict=True)}

    async def _run(self, tokens: Sequence[int], *, cached: bool) -> PoolingRequestOutput:
        # By default such a request reads nothing of the prefix cache, as it gives no rows for it.
        params = PoolingParams(
            task="token_classify", use_activation=False, skip_reading_prefix_cache=not cached
        )
        prompt = TokensPrompt(prompt_token_ids=list(tokens))
        calls = self._engine.encode(prompt, params, f"reward-{next(self._numbers)}")
        try:
            with as_worker_errors():
                async with aclosing(calls):
                    async for output in calls:
                        return output
        except EngineGenerateError as error:
            raise _unfinished() from error
        raise _unfinished()

    def _capped(self, row: list[float]) -> Row:
        cap = self._cap
        return row if cap is None else [cap * math.tanh(number / cap) for number in row]


def _unfinished() -> Unavailable:
    return Unavailable("the engine did not finish this input; the worker's log has more")
