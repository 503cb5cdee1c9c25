"""The worker's settings from flags and environment, which nothing else reads."""

import os
import re
import socket
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, Field, ValidationError, field_validator, model_validator
from pydantic_core import ErrorDetails, PydanticCustomError
from pydantic_settings import BaseSettings, SettingsConfigDict

from modelworker_api import engine, kube, rewards

Source = Literal["huggingFace", "local"]
PREFIX = "MODELWORKER_"
_SAID = "said"
_COMMIT = re.compile(r"[0-9a-f]{40}")
_VLLM_ONLY = ("vllm", "adapter_dir")
"""Settings that no other backend reads."""


class Settings(BaseSettings):
    """Serve one model over HTTP.

    That is a language model with OpenAI's API, or with --scoring a reward model that
    scores answers. Every option is also read from the environment variable
    MODELWORKER_<OPTION>; a flag wins over the variable.
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_ignore_empty=True,
        cli_kebab_case=True,
        cli_hide_none_type=True,
        cli_avoid_json=True,
        cli_prog_name="python -m modelworker_server",
        extra="ignore",
        frozen=True,
    )

    model: Annotated[
        str,
        Field(
            min_length=1,
            max_length=512,
            description="repository id on the hub, or a folder with the model",
        ),
    ]
    source: Source | None = Field(
        None,
        description="where the model is; without it, local if --model begins with / or .",
    )
    revision: str | None = Field(None, description="revision on the hub: a commit, tag or branch")
    gguf_file: str | None = Field(
        None, description="name of the GGUF file inside the folder or repository, if it is one"
    )
    backend: Literal["transformers", "vllm"] = Field(
        "transformers", description="engine that runs the model"
    )
    dtype: Literal["auto", "float16", "bfloat16", "float32"] = Field(
        "auto", description="precision of the weights; auto takes the model's own"
    )
    max_model_len: int | None = Field(
        None,
        ge=1,
        description="longest prompt and answer together in tokens; without it the model's limit",
    )
    scoring: str | None = Field(
        None,
        description="how a reward model scores: JSON such as "
        '{"type": "Process", "family": "MathShepherd"}; without it, a language model',
    )
    vllm: str | None = Field(
        None,
        description='how vLLM runs the model: JSON such as {"tensor_parallel_size": 2}; '
        "for --backend vllm",
    )
    adapter_dir: str | None = Field(
        None,
        description="folder that local LoRA adapters must be in; without it the folder around "
        "a local --model; for --backend vllm",
    )
    name: str | None = Field(
        None, description="name of the custom resource; accepted as the model of a request"
    )
    namespace: str | None = Field(
        None, description="namespace of the custom resource; NAMESPACE/NAME is accepted as well"
    )
    served_name: str | None = Field(
        None,
        max_length=512,
        description="model name that answers carry; without it --name, else --model",
    )
    max_running: int = Field(
        16,
        ge=1,
        le=4096,
        description="sequences decoded together; of a reward model, inputs taken together",
    )
    max_queued: int = Field(
        256, ge=0, le=65536, description="requests that may wait; more are answered 429"
    )
    max_body_bytes: int = Field(
        8 * 1024 * 1024, ge=1024, description="longest request body in bytes; more is answered 413"
    )
    host: str = Field("127.0.0.1", min_length=1, description="address to listen on")
    port: int = Field(kube.WORKER_PORT, ge=0, le=65535, description="port to listen on; 0: any")
    drain_seconds: float = Field(
        30.0, ge=0, le=86400, description="seconds to finish accepted requests after SIGTERM"
    )
    pod_name: str = Field(
        default_factory=socket.gethostname,
        description="name that answers carry as their worker",
    )
    heartbeat_url: str | None = Field(
        None,
        pattern=r"^https?://",
        description="base URL of the operator's heartbeat listener; without it no heartbeat",
    )
    heartbeat_interval_seconds: float = Field(
        10.0, ge=1, le=300, description="seconds between heartbeats"
    )
    heartbeat_token_file: Path | None = Field(
        None, description="file with the bearer token of the heartbeat, read again each time"
    )
    auth: Literal["token", "none"] = Field(
        "none",
        description="who may call: token takes callers with a service-account token, by what "
        "the operator's answers to heartbeats say; none takes everybody",
    )
    trust_remote_code: bool = Field(
        False,
        description="run the model's own code from its repository: of --source huggingFace, "
        "with a commit as --revision",
    )
    termination_log: Path | None = Field(
        None, description="file that takes one line saying why the worker ended"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="least severe level that is logged"
    )

    @field_validator("scoring")
    @classmethod
    def _describes_scoring(cls, value: str | None) -> str | None:
        return _fits(rewards.ScoringConfig, value)

    @field_validator("vllm")
    @classmethod
    def _describes_engine(cls, value: str | None) -> str | None:
        _fits(engine.VLLMConfig, value)
        config = engine.VLLMConfig.model_validate_json(value or "{}")
        if flag := engine.reserved_in(config.extra_args):
            raise _wrong(
                f"extra_args may not hold {flag}: the worker sets it, or it is unsafe here"
            )
        return value

    @model_validator(mode="after")
    def _fits_the_backend(self) -> Self:
        given = [name for name in _VLLM_ONLY if getattr(self, name) is not None]
        if given and self.backend != "vllm":
            flags = " and ".join(f"--{name.replace('_', '-')}" for name in given)
            raise _wrong(f"{flags}: for --backend vllm, this one is {self.backend}; leave it out")
        return self

    @model_validator(mode="after")
    def _hears_whose_tokens_to_take(self) -> Self:
        if self.auth == "token" and self.heartbeat_url is None:
            raise _wrong(
                "--auth token: needs --heartbeat-url, as the operator's answers say whose tokens "
                "to take; set it, or --auth none"
            )
        return self

    @model_validator(mode="after")
    def _names_the_code(self) -> Self:
        named = self.where == "huggingFace" and _COMMIT.fullmatch(self.revision or "")
        if self.trust_remote_code and not named:
            raise _wrong(
                "--trust-remote-code: needs --source huggingFace and the 40 hex digits of a "
                "commit as --revision, so that what was looked at is what runs; set both, or "
                "leave it out"
            )
        return self

    @property
    def where(self) -> Source:
        """Where the model is: `source`, or what its name looks like."""
        by_name: Source = "local" if self.model.startswith(("/", ".")) else "huggingFace"
        return self.source or by_name

    @property
    def scoring_config(self) -> rewards.ScoringConfig | None:
        """What `scoring` says, None for a language model."""
        if self.scoring is None:
            return None
        return rewards.ScoringConfig.model_validate_json(self.scoring)

    @property
    def vllm_config(self) -> engine.VLLMConfig:
        """What `vllm` says."""
        return engine.VLLMConfig.model_validate_json(self.vllm or "{}")


class InvalidSettings(Exception):
    """The settings do not describe a worker; one line for each problem."""


def tune_libraries(settings: Settings) -> None:
    """Defaults for libraries that read the environment when they are imported.

    libgomp's idle threads spin for so long that two workers on two cores, or a worker
    beside any other load, stand in each other's way: they are to yield soon. Progress bars
    make no lines and would break those of the log. What the user set stays.
    """
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    os.environ.setdefault("TQDM_DISABLE", "1")
    # The hub's client and vLLM report what they are used for unless they are told not to.
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    # The engine's processes are all here: what they tell one another is not for the network.
    os.environ.setdefault("VLLM_HOST_IP", "127.0.0.1")
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    # A domain that requests may name must not lead the worker to another one.
    os.environ.setdefault("VLLM_MEDIA_URL_ALLOW_REDIRECTS", "0")
    # As vLLM's own server does: a process with threads is not to be forked.
    os.environ.setdefault("VLLM_WORKER_MULTIPROC_METHOD", "spawn")
    if settings.trust_remote_code and "HF_MODULES_CACHE" not in os.environ:
        # Nobody else may write into what is imported: HF_HOME can be a volume of many pods.
        os.environ["HF_MODULES_CACHE"] = tempfile.mkdtemp(prefix="modelworker-code-")
    if settings.vllm_config.development_routes:
        os.environ["VLLM_SERVER_DEV_MODE"] = "1"
    else:
        os.environ.pop("VLLM_SERVER_DEV_MODE", None)


def load(arguments: Sequence[str]) -> Settings:
    """Settings from flags and environment.

    Raises:
        InvalidSettings: with one line per problem.
        SystemExit: after `--help`, or for an unknown flag, with its usage.
    """
    try:
        return Settings(_cli_parse_args=list(arguments))  # type: ignore[call-arg]
    except ValidationError as error:
        raise InvalidSettings("\n".join(map(_explain, error.errors()))) from error


def _wrong(message: str) -> PydanticCustomError:
    """A problem whose message says all of it."""
    return PydanticCustomError(_SAID, "{message}", {"message": message})


def _fits(shape: type[BaseModel], text: str | None) -> str | None:
    """The text, if it is None or the JSON of such a shape."""
    if text is None:
        return None
    try:
        shape.model_validate_json(text)
    except ValidationError as error:
        lines = "; ".join(_told(problem, _path(problem)) for problem in error.errors())
        raise _wrong(lines) from error
    return text


def _explain(problem: ErrorDetails) -> str:
    if not problem["loc"]:  # of several settings: the message names them
        return problem["msg"]
    field = str(problem["loc"][0])
    return _told(problem, f"--{field.replace('_', '-')} ({PREFIX}{field.upper()})")


def _told(problem: ErrorDetails, where: str) -> str:
    """One problem in words, with what was given where that is not the whole story."""
    said = problem["type"] in {"missing", _SAID}
    given = "" if said else f"; got {problem['input']!r:.100}"
    return f"{where}: {problem['msg']}{given}" if where else f"{problem['msg']}{given}"


def _path(problem: ErrorDetails) -> str:
    """Where in the JSON a problem is, such as `custom.link`."""
    return ".".join(map(str, problem["loc"]))
