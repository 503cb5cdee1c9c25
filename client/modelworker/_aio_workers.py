"""What `AsyncLM` asks of workers alone: embeddings, token counts, search, scoring."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, TypeVar, Unpack, overload

from modelworker import _answers, _beams, _calls, _prompts, _requests
from modelworker._affinity import key_of
from modelworker._answers import Answer
from modelworker._beams import Beam
from modelworker._calls import Call
from modelworker._client import AsyncClient
from modelworker._errors import InvalidRequest, Unsupported
from modelworker._requests import Body, Message, Pooling, Prompt, Sampling, StepOptions
from modelworker._results import Generation, Sample
from modelworker._settings import LMSettings

COMPLETIONS: Final = "/v1/completions"
EMBEDDINGS: Final = "/v1/embeddings"
TOKENIZE: Final = "/tokenize"
EMBED_TOGETHER: Final = 16
"""Inputs that share one embedding request, so that a list spreads over the workers."""

Item = TypeVar("Item")
Result = TypeVar("Result")


class AsyncWorkerCalls(AsyncClient[LMSettings]):
    """The calls of `AsyncLM` that other providers have not, and that have no fallback."""

    @overload
    async def embed(
        self,
        text: str | list[int],
        *,
        pooling: Pooling = "mean",
        normalize: bool = True,
        timeout: float | None = None,
    ) -> list[float]: ...
    @overload
    async def embed(
        self,
        text: list[str] | list[list[int]],
        *,
        pooling: Pooling = "mean",
        normalize: bool = True,
        timeout: float | None = None,
    ) -> list[list[float]]: ...
    async def embed(
        self,
        text: Prompt | Sequence[Prompt],
        *,
        pooling: Pooling = "mean",
        normalize: bool = True,
        timeout: float | None = None,
    ) -> list[float] | list[list[float]]:
        """The vector of a text, or of each text of a list; see `LM.embed`."""
        self._check_workers("embed")

        def body(group: Sequence[Prompt], model: str) -> Body:
            return _requests.embedding(group, model=model, pooling=pooling, normalize=normalize)

        def parse(answer: Answer, group: Sequence[Prompt]) -> list[list[float]]:
            return _answers.embeddings(answer, count=len(group))

        call = Call(EMBEDDINGS, body, parse, self._seconds(timeout))
        if _prompts.is_one_prompt(text):
            return (await _calls.one(self._sessions.here(), call, [_prompts.checked_prompt(text)]))[
                0
            ]
        prompts = _prompts.checked_prompts(text)
        groups = [prompts[i : i + EMBED_TOGETHER] for i in range(0, len(prompts), EMBED_TOGETHER)]
        return [vector for group in await self._every(call, groups) for vector in group]

    @overload
    async def count_tokens(
        self, text: str, *, add_special_tokens: bool = True, timeout: float | None = None
    ) -> int: ...
    @overload
    async def count_tokens(
        self, text: list[str], *, add_special_tokens: bool = True, timeout: float | None = None
    ) -> list[int]: ...
    async def count_tokens(
        self,
        text: str | Sequence[str],
        *,
        add_special_tokens: bool = True,
        timeout: float | None = None,
    ) -> int | list[int]:
        """Number of tokens of a text, or of each text of a list; see `LM.count_tokens`."""
        self._check_workers("count_tokens")
        call = self._tokenize(
            _answers.token_count, add_special_tokens=add_special_tokens, timeout=timeout
        )
        if isinstance(text, str):
            return await _calls.one(self._sessions.here(), call, text)
        return await self._every(call, _prompts.checked_texts(text))

    async def step(
        self,
        beams: Sequence[Beam],
        *,
        n: int,
        stop: str | Sequence[str] = "\n\n",
        timeout: float | None = None,
        **options: Unpack[StepOptions],
    ) -> list[list[Beam]]:
        """One level of a search tree; see `LM.step`."""
        self._check_workers("step")
        params = _step_sampling(n, stop, options)
        roots = _beams.checked(beams)
        grown = await self._with_prompt_ids(roots, timeout)

        def body(beam: Beam, model: str) -> Body:
            return _requests.completion(_beams.prompt_of(beam), params, model=self._named(model))

        def parse(answer: Answer, beam: Beam) -> list[Beam]:
            generation: Generation = _answers.completion(answer, n=n)
            return _beams.children(beam, generation, params.stops)

        call = Call(
            COMPLETIONS,
            body,
            parse,
            self._seconds(timeout),
            lambda beam: key_of(beam.session, None, ""),
        )
        return await self._every(call, grown)

    async def logprobs(
        self,
        prompts: Sequence[Prompt],
        completions: Sequence[Prompt],
        *,
        session: str | None = None,
        timeout: float | None = None,
    ) -> list[Sample]:
        """The log-probabilities of given continuations; see `LM.logprobs`."""
        self._check_workers("logprobs")
        before, after = _listed(prompts, "prompt"), _listed(completions, "completion")
        if len(before) != len(after):
            raise InvalidRequest(
                f"{len(before)} prompts and {len(after)} completions: give one for each"
            )
        key_of(session, None, "")
        head = await self._ids(before, timeout, add_special_tokens=True)
        tail = await self._ids(after, timeout, add_special_tokens=False)
        for index, ids in enumerate(tail):
            if not ids:
                raise InvalidRequest(f"completion {index} has no tokens")

        def body(index: int, model: str) -> Body:
            return _requests.echo(head[index], tail[index], model=self._named(model))

        def parse(answer: Answer, index: int) -> Sample:
            text = after[index]
            return _answers.echoed(
                answer,
                prompt=len(head[index]),
                completion=tail[index],
                text=text if isinstance(text, str) else None,
            )

        def affinity(index: int) -> str | None:
            return key_of(session, self._settings.affinity, head[index])

        call = Call(COMPLETIONS, body, parse, self._seconds(timeout), affinity)
        return await self._every(call, range(len(before)))

    # --- token ids -------------------------------------------------------------------

    async def _with_prompt_ids(self, beams: Sequence[Beam], timeout: float | None) -> list[Beam]:
        """The beams with their prompts' token ids; equal prompts are asked for once."""
        unknown = [beam for beam in beams if beam.prompt_token_ids is None]
        prompts = {repr(beam.prompt): beam.prompt for beam in unknown}
        call = self._tokenize(_answers.tokens, add_special_tokens=True, timeout=timeout)
        found = dict(zip(prompts, await self._every(call, list(prompts.values())), strict=True))
        return [
            beam
            if beam.prompt_token_ids is not None
            else replace(beam, prompt_token_ids=tuple(found[repr(beam.prompt)]))
            for beam in beams
        ]

    async def _ids(
        self, items: Sequence[Prompt], timeout: float | None, *, add_special_tokens: bool
    ) -> list[Sequence[int]]:
        """The token ids of each item; equal texts are asked for once."""
        texts = list(dict.fromkeys(item for item in items if isinstance(item, str)))
        call = self._tokenize(
            _answers.tokens, add_special_tokens=add_special_tokens, timeout=timeout
        )
        found = dict(zip(texts, await self._every(call, texts), strict=True))
        return [found[item] if isinstance(item, str) else item for item in items]

    def _tokenize(
        self, parse: Callable[[Answer], Result], *, add_special_tokens: bool, timeout: float | None
    ) -> Call[Any, Result]:
        def body(item: str | Sequence[Message], model: str) -> Body:
            return _requests.tokenize(
                item, model=self._named(model), add_special_tokens=add_special_tokens
            )

        return Call(TOKENIZE, body, lambda answer, _: parse(answer), self._seconds(timeout))

    # --- the way to the workers ------------------------------------------------------

    def _named(self, model: str) -> str:
        """The model that requests name."""
        return self._settings.adapter or model

    def _check_workers(self, method: str) -> None:
        if self._settings.provider != "modelworker":
            raise Unsupported(
                f"{method} is for ModelWorkers: provider {self._settings.provider!r} does not do "
                "that; ask an LM of a ModelWorker"
            )

    async def _every(self, call: Call[Item, Result], items: Sequence[Item]) -> list[Result]:
        found: list[Any] = await _calls.many(
            self._sessions.here(), call, items, on_error="raise", progress=self._settings.progress
        )
        return found


def _step_sampling(n: int, stop: str | Sequence[str], options: Mapping[str, Any]) -> Sampling:
    """How to sample a step, whose separator stays in its text.

    Raises:
        InvalidRequest: for an unknown name or a value that no worker accepts.
    """
    if unknown := sorted(options.keys() - StepOptions.__annotations__.keys()):
        known = ", ".join(StepOptions.__annotations__)
        raise InvalidRequest(f"unknown argument {', '.join(unknown)} of step; known are {known}")
    params = _requests.sampling(
        {**options, "n": n, "stop": stop, "include_stop_str_in_output": True}
    )
    if not params.stops:
        raise InvalidRequest("step needs a separator: stop must not be empty")
    return params


def _listed(items: object, what: str) -> list[Prompt]:
    if isinstance(items, str | bytes) or not isinstance(items, Sequence):
        raise InvalidRequest(f"{what}s must be a list, with a {what} in each place")
    return [_prompts.checked_prompt(item, f"{what} {i}") for i, item in enumerate(items)]
