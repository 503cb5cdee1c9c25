"""What `LM` asks of workers alone: embeddings, token counts, search, scoring."""

from collections.abc import Sequence
from typing import Any, Unpack, overload

from modelworker import _sync
from modelworker._aio import AsyncLM
from modelworker._beams import Beam
from modelworker._client import SyncClient
from modelworker._requests import Pooling, Prompt, StepOptions
from modelworker._results import Sample


class WorkerCalls(SyncClient[AsyncLM]):
    """The calls of `LM` that other providers have not, and that have no fallback."""

    @overload
    def embed(
        self,
        text: str | list[int],
        *,
        pooling: Pooling = "mean",
        normalize: bool = True,
        timeout: float | None = None,
    ) -> list[float]: ...
    @overload
    def embed(
        self,
        text: list[str] | list[list[int]],
        *,
        pooling: Pooling = "mean",
        normalize: bool = True,
        timeout: float | None = None,
    ) -> list[list[float]]: ...
    def embed(
        self,
        text: Any,
        *,
        pooling: Pooling = "mean",
        normalize: bool = True,
        timeout: float | None = None,
    ) -> Any:
        """The vector of a text, or of each text of a list.

        Args:
            text: text or token ids, or a list of these.
            pooling: `"mean"` over the tokens' last hidden states, or the `"last"` one.
            normalize: whether the vector has length 1.
            timeout: seconds for each group of up to 16 texts, instead of the LM's.

        Returns:
            One vector of the model's hidden size, or for a list a list of them.

        Raises:
            Unsupported: if the LM is not a ModelWorker's.
            ModelWorkerError: see the subclasses for what else can go wrong.
        """
        return _sync.run(
            self.aio.embed(text, pooling=pooling, normalize=normalize, timeout=timeout)
        )

    @overload
    def count_tokens(
        self, text: str, *, add_special_tokens: bool = True, timeout: float | None = None
    ) -> int: ...
    @overload
    def count_tokens(
        self, text: list[str], *, add_special_tokens: bool = True, timeout: float | None = None
    ) -> list[int]: ...
    def count_tokens(
        self, text: Any, *, add_special_tokens: bool = True, timeout: float | None = None
    ) -> Any:
        """Number of tokens of a text, or of each text of a list, as the worker counts.

        Raises:
            ModelWorkerError: see the subclasses for what can go wrong.
        """
        return _sync.run(
            self.aio.count_tokens(text, add_special_tokens=add_special_tokens, timeout=timeout)
        )

    def step(
        self,
        beams: Sequence[Beam],
        *,
        n: int,
        stop: str | Sequence[str] = "\n\n",
        timeout: float | None = None,
        **options: Unpack[StepOptions],
    ) -> list[list[Beam]]:
        """Grow every beam by one step, `n` times: one level of a search tree.

        Works on token ids: the next prompt is the beam's prompt and the tokens that were
        generated after it, as they were; nothing is tokenised twice, so what the model sees
        is what it wrote, and its cache is met. The prompts of new beams are tokenised by a
        worker, once. Requests of one `session` meet the same worker while its load allows.

        Args:
            beams: what to grow, none of them done; the first are made by `Beam.start`.
            n: children of each beam. Equal children stay: drop them if they are not wanted.
            stop: what separates steps, or several such strings; a step's text ends with it.
            timeout: seconds for each request, instead of the LM's.
            **options: `max_tokens` (256) for a step, `temperature` (1.0), `top_p`, `top_k`,
                `min_p`, `repetition_penalty`, `stop_token_ids`, `seed`, `ignore_eos` and
                `extra`, as for `generate`.

        Returns:
            For each beam its `n` children, in the order of the beams.

        Raises:
            InvalidRequest: for a beam that is done, or arguments that no worker accepts.
            Unsupported: if the LM is not a ModelWorker's.
            ModelWorkerError: the first error; the other requests are cancelled.
        """
        return _sync.run(self.aio.step(beams, n=n, stop=stop, timeout=timeout, **options))

    def logprobs(
        self,
        prompts: Sequence[Prompt],
        completions: Sequence[Prompt],
        *,
        session: str | None = None,
        timeout: float | None = None,
    ) -> list[Sample]:
        """Log-probabilities of given continuations; nothing is generated.

        A prompt and its completion are tokenised apart, the completion without special
        tokens, and their ids joined: at the seam this may differ from tokenising the joined
        text. Give token ids to decide that yourself.

        Args:
            prompts: texts or token ids.
            completions: one for each prompt, texts or token ids, with at least one token.
            session: as for `generate`.
            timeout: seconds for each request, instead of the LM's.

        Returns:
            For each pair a `Sample` of the completion: its `token_ids`, `logprobs`, one for
            each, and `text`; `finish_reason` is None.

        Raises:
            InvalidRequest: for lists of unequal length, or something empty in them.
            Unsupported: if the LM is not a ModelWorker's.
            ModelWorkerError: the first error; the other requests are cancelled.
        """
        return _sync.run(self.aio.logprobs(prompts, completions, session=session, timeout=timeout))
