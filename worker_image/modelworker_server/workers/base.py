"""The contract of every worker: what the routes, the heartbeat and the limits rely on."""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from prometheus_client import CollectorRegistry
from starlette.types import ASGIApp

from modelworker_api import adapters, engine, rewards, wire
from modelworker_server.errors import Unsupported, WorkerError
from modelworker_server.scoring.values import Item, Layout, Scores, ScoringInfo, Templated

Progress = Callable[[wire.LoadState, int | None], None]
"""Called on the event loop while a worker loads: the state, and its percent done if known."""


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """What to load and how, as plain values: what a worker is built from."""

    source: Literal["huggingFace", "local"]
    model: str
    """Repository of the hub, or a folder."""
    name: str
    """The served name; `aliases` are accepted in requests as well."""
    created: int
    """Seconds since the epoch, for `ModelInfo.created`."""
    aliases: frozenset[str] = frozenset()
    revision: str | None = None
    """Branch, tag or commit of the hub, its default branch if None; unused for a folder."""
    gguf_file: str | None = None
    """File inside the repository or folder; None loads its safetensors."""
    dtype: Literal["auto", "float16", "bfloat16", "float32"] = "auto"
    max_model_len: int | None = None
    """Longest prompt and answer together in tokens, the model's own limit if None."""
    max_running: int = 32
    """Sequences that are decoded together."""
    token: str | None = field(default=None, repr=False)
    endpoint: str | None = None
    """Base URL of the hub, the public one if None."""
    scoring: rewards.ScoringConfig | None = None
    """How to score; None for a language model."""
    vllm: engine.VLLMConfig = field(default_factory=engine.VLLMConfig)
    """How vLLM runs it; the other backends do not read it."""
    adapter_dir: str | None = None
    """Folder that is the model's volume, which local adapters must be in; the folder around a
    local model if None."""
    trust_remote_code: bool = False
    """Whether the code of this very commit of the repository may run."""


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What was loaded."""

    name: str
    """The name that answers carry; `aliases` are accepted in requests as well."""
    aliases: frozenset[str]
    root: str
    revision: str
    """Commit of the hub, or a fingerprint of the files where there is no commit."""
    dtype: str
    max_model_len: int
    created: int
    """Seconds since the epoch."""
    vocab_size: int
    """Token ids are below it; a request with another id is refused before it gets here."""


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How to sample; every value has been checked before one of these exists.

    `temperature == 0` is greedy. `logprobs` is the number of alternatives wanted beside
    the sampled token's own, None for no log-probabilities at all.
    """

    max_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = -1
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    """Taken from the logit of every token that was generated already; OpenAI's, -2 to 2."""
    frequency_penalty: float = 0.0
    """The same, once for each time that the token was generated."""
    logit_bias: tuple[tuple[int, float], ...] = ()
    """Token ids and what is added to their logits; OpenAI's, -100 to 100."""
    n: int = 1
    seed: int | None = None
    stop: tuple[str, ...] = ()
    stop_token_ids: frozenset[int] = frozenset()
    include_stop_str_in_output: bool = False
    ignore_eos: bool = False
    logprobs: int | None = None
    skip_special_tokens: bool = True


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """The log-probability of one token, sampled or given, and of the most likely ones."""

    token_id: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()
    rank: int | None = None
    """How many tokens are at least as likely, so 1 for the likeliest one; None where the
    worker does not count them."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One sample, or in a stream the part of it that is new.

    `finish_reason` is `"stop"` (EOS, a stop id or a stop string), `"length"`, or None
    while the sample goes on. `stop_reason` is the stop string or id, None for EOS.
    `token_ids` holds every generated token: also those of a stop string cut from `text`.
    """

    index: int
    text: str
    token_ids: tuple[int, ...]
    logprobs: tuple[TokenLogprob, ...] | None = None
    finish_reason: str | None = None
    stop_reason: str | int | None = None


@dataclass(frozen=True, slots=True)
class Load:
    """Requests in the worker now."""

    running: int = 0
    waiting: int = 0
    kv_usage: float | None = None
    """Share of the KV cache in use, 0 to 1; None where there is no such cache."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a conversation, its content as plain text."""

    role: str
    content: str
    extra: Mapping[str, Any] = field(default_factory=dict)


class BaseModelWorker(ABC):
    """One model, loaded once, answering many requests.

    `load` is awaited once before anything else; every other method is called from the
    event loop that ran it, but those on tokens also from another thread, as long texts
    take long. Cancelling a call, or closing the iterator of `stream`, ends
    the work on the model at the next step.
    """

    @property
    @abstractmethod
    def info(self) -> ModelInfo:
        """What was loaded. Raises `NotReady` before `load` is done."""

    @abstractmethod
    async def load(self, progress: Progress) -> None:
        """Fetch and load the model, then answer one warm request.

        Raises:
            LoadError: with the `FailureReason` and what to do about it.
        """

    @abstractmethod
    async def close(self) -> None:
        """Give back everything; calls still under way end with `Unavailable`."""

    @abstractmethod
    def alive(self) -> bool:
        """False when the engine has died and only a restart helps."""

    @abstractmethod
    def load_now(self) -> Load:
        """How many requests are running and waiting inside the engine."""

    @property
    def api(self) -> ASGIApp | None:
        """The engine's own HTTP application; None where this package's routes are the API."""
        return None

    @property
    def counters(self) -> CollectorRegistry | None:
        """Where the engine counts for Prometheus; None where it counts nothing of its own."""
        return None

    # --- adapters --------------------------------------------------------------------

    async def want_adapters(self, wanted: Sequence[adapters.Adapter]) -> None:
        """Load and unload until these adapters are served; failures are told in `adapters`."""
        if wanted:
            raise Unsupported("this worker serves no adapters; use backend VLLM with spec.lora")

    @property
    def adapters(self) -> tuple[adapters.AdapterReport, ...]:
        """Every adapter that was asked for, in that order, and how far it is."""
        return ()

    # --- tokens ----------------------------------------------------------------------

    @abstractmethod
    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        """Token ids of a text."""

    @abstractmethod
    def decode(self, token_ids: Sequence[int], *, skip_special_tokens: bool = False) -> str:
        """Text of token ids."""

    @abstractmethod
    def token_text(self, token_id: int) -> str:
        """One token as log-probabilities print it."""

    @abstractmethod
    def encode_chat(
        self,
        messages: Sequence[Message],
        *,
        add_generation_prompt: bool = True,
        continue_final_message: bool = False,
    ) -> list[int]:
        """Token ids of a conversation by the model's chat template.

        With `continue_final_message` the last message's content follows the rendered
        rest unchanged, so a template that trims cannot eat a step separator.
        """

    def count_tokens(self, text: str) -> int:
        """Number of tokens of `text`, special tokens included."""
        return len(self.encode(text))

    @abstractmethod
    def conversation_template(self) -> str | None:
        """The model's chat template in Jinja, None if it has none."""

    def tokenizer_info(self) -> Mapping[str, Any]:
        """The tokenizer's configuration, as its `tokenizer_config.json` has it."""
        raise Unsupported("this worker does not tell its tokenizer's configuration")

    # --- work ------------------------------------------------------------------------

    async def generate(
        self,
        prompt_ids: Sequence[int],  # noqa: ARG002 - a subclass uses them
        params: SamplingParams,  # noqa: ARG002
    ) -> tuple[Sample, ...]:
        """`params.n` samples for one prompt, in index order, complete."""
        raise Unsupported("this worker generates no text; call a ModelWorker")

    def stream(
        self,
        prompt_ids: Sequence[int],  # noqa: ARG002
        params: SamplingParams,  # noqa: ARG002
    ) -> AsyncIterator[Sample]:
        """The same, part by part as it is decoded; parts of the samples interleave."""
        raise Unsupported("this worker generates no text; call a ModelWorker")

    async def score_tokens(
        self,
        token_ids: Sequence[int],  # noqa: ARG002 - a subclass uses them
        *,
        top: int,  # noqa: ARG002
        start: int = 1,  # noqa: ARG002
    ) -> tuple[TokenLogprob, ...]:
        """The log-probability of each given token from position `start` (1 or more) on.

        Each is that of the token after those before it, with the `top` likeliest ones and
        its rank.
        """
        raise Unsupported("this worker gives no log-probabilities of given tokens")

    async def embed(
        self,
        inputs: Sequence[Sequence[int]],  # noqa: ARG002 - a subclass uses them
        *,
        pooling: str | None,  # noqa: ARG002
        normalize: bool,  # noqa: ARG002
    ) -> list[list[float]]:
        """One vector of hidden size for each input.

        `pooling` None is the way that the model was made for, the mean where it was for none.
        """
        raise Unsupported("this worker gives no embeddings")

    # --- rewards ---------------------------------------------------------------------

    @property
    def scoring(self) -> ScoringInfo:
        """How this worker scores. Raises `NotReady` before `load` is done."""
        raise _no_rewards()

    def lay_out(self, item: Item | Templated) -> Layout:  # noqa: ARG002
        """Tokens and positions of one input; see `Scorer.lay_out`."""
        raise _no_rewards()

    def lay_out_tagged(self, text: str) -> Layout | None:  # noqa: ARG002
        """The layout of a text with the recipe's tags in it; see `Scorer.lay_out_tagged`."""
        raise _no_rewards()

    async def score(
        self,
        layouts: Sequence[Layout],  # noqa: ARG002
    ) -> list[Scores | WorkerError]:
        """The scores of each input, or the error of that input alone, in order."""
        raise _no_rewards()


def _no_rewards() -> Unsupported:
    return Unsupported("this worker gives no rewards; call a RewardModel")
