"""The operator's settings: the only reader of the environment."""

import re
from collections.abc import Sequence
from importlib.metadata import version
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator
from pydantic_settings import BaseSettings, CliApp, NoDecode, SettingsConfigDict

from modelworker_api import kube

ENV_PREFIX: Final = "MODELWORKER_OPERATOR_"
SERVICE_ACCOUNT_NAMESPACE: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")

Port = Annotated[int, Field(ge=0, le=65535)]

_LABEL: Final = "[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"
_SUBDOMAIN: Final = rf"{_LABEL}(\.{_LABEL})*"
_PATTERNS: Final = {
    "worker_auth_namespaces": (rf"\*|{_LABEL}", "the name of a namespace, or *"),
    "worker_image_pull_secrets": (_SUBDOMAIN, "the name of a Secret"),
    "worker_gpu_resource_name": (
        r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?/[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?",
        "DOMAIN/NAME, such as nvidia.com/gpu",
    ),
    "worker_runtime_class": (f"({_SUBDOMAIN})?", "the name of a RuntimeClass"),
    "trusted_repositories": (
        r"[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*@[0-9a-f]{40}",
        "OWNER/NAME@COMMIT with all 40 digits of the commit: a branch may move to other code",
    ),
    "publish_service": (f"({_LABEL})?", "the name of a Service"),
}
"""What each value of a setting, or each item of it, has to look like, and in words."""


def own_namespace(file: Path = SERVICE_ACCOUNT_NAMESPACE) -> str:
    """The namespace that this process runs in; `default` outside a cluster."""
    try:
        return file.read_text().strip()
    except OSError:
        return "default"


class Config(BaseSettings):
    """Settings of the operator: flags, else `MODELWORKER_OPERATOR_*`, else the defaults."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX,
        frozen=True,
        extra="forbid",
        cli_prog_name="modelworker-operator",
        cli_kebab_case=True,
        cli_implicit_flags=True,
        cli_hide_none_type=True,
    )

    namespaces: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(), description="Namespaces to serve, comma-separated; empty: all."
    )
    namespace: str = Field(
        default_factory=own_namespace,
        min_length=1,
        description="The operator's own namespace, where its Service and its Lease are.",
    )
    worker_image: str = Field(
        default_factory=lambda: f"modelworker/worker:{version('modelworker')}",
        min_length=1,
        description="Image of workers whose spec.image is not set.",
    )
    worker_image_pull_secrets: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="Secrets, in the worker's namespace, for the registry of images, "
        "comma-separated; of workers whose spec.imagePullSecrets is not set.",
    )
    worker_gpu_resource_name: str = Field(
        default="nvidia.com/gpu",
        description="Name of the nodes' GPUs for workers whose spec.gpu.resourceName is not set.",
    )
    worker_runtime_class: str = Field(
        default="",
        description="RuntimeClass of workers whose spec.scheduling.runtimeClassName is not set; "
        "empty: the nodes' own.",
    )
    worker_auth: Literal["token", "none"] = Field(
        default="token",
        description="Whether callers of workers whose spec.auth.mode is not set have to show a "
        "service-account token.",
    )
    worker_auth_required: bool = Field(
        default=False, description="Refuse objects whose spec.auth.mode is None."
    )
    worker_auth_namespaces: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        max_length=1000,
        description="Namespaces whose service accounts may call workers of every namespace, "
        "comma-separated; *: all. Those of the worker's own namespace always may.",
    )
    trusted_repositories: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="Repositories of the hub whose own code workers may run, comma-separated, "
        "each OWNER/NAME@COMMIT.",
    )
    worker_bind_host: str = Field(
        default="0.0.0.0",  # noqa: S104 - a worker is called by other pods
        min_length=1,
        description="Address that workers listen on; may refer to $(MODELWORKER_POD_IP).",
    )
    heartbeat_url: str = Field(
        default="",
        description="Base URL that workers post heartbeats to; "
        f"default http://modelworker-operator.NAMESPACE.svc:{kube.HEARTBEAT_PORT}.",
    )
    heartbeat_host: str = Field(
        default="0.0.0.0",  # noqa: S104 - workers post from other pods
        description="Address of the heartbeat listener.",
    )
    heartbeat_port: Port = Field(
        default=kube.HEARTBEAT_PORT, description="Port of the heartbeat listener."
    )
    health_host: str = Field(
        default="0.0.0.0",  # noqa: S104 - the kubelet probes it from outside the pod
        description="Address of /healthz, /readyz and /metrics.",
    )
    health_port: Port = Field(
        default=kube.HEALTH_PORT, description="Port of /healthz, /readyz and /metrics."
    )
    publish_service: str = Field(
        default="",
        description="Service, without a selector and in NAMESPACE, that the leader alone answers "
        "for; empty: none.",
    )
    pod_ip: str = Field(
        default="", description="Address of this pod, which the leader publishes for the Service."
    )
    controller_host: str = Field(
        default="127.0.0.1",
        min_length=1,
        description="Address of FastChat's controller protocol; it asks nobody for a token.",
    )
    controller_port: Port | None = Field(
        default=None, description="Port of FastChat's controller protocol; default: not served."
    )
    controller_namespaces: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="Namespaces whose models it tells of, comma-separated; default, or *: all "
        "that are served.",
    )
    controller_allow_external: bool = Field(
        default=False,
        description="Let workers outside the cluster register with it, from the hosts below.",
    )
    controller_external_hosts: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="Host names, addresses and networks of these workers, comma-separated.",
    )
    leader_elect: bool = Field(
        default=True,
        description="Hold a Lease while reconciling, so that several operators are safe.",
    )
    lease_namespace: str = Field(
        default="", description="Namespace of the Lease; default NAMESPACE."
    )
    lease_name: str = Field(default=kube.LEASE_NAME, min_length=1, description="Name of the Lease.")
    identity: str | None = Field(
        default=None, description="Holder name in the Lease; default HOSTNAME_UUID."
    )
    resync_seconds: Annotated[float, Field(gt=0)] = Field(
        default=600.0, description="Seconds after which every object is looked at again."
    )
    workers: Annotated[int, Field(ge=1)] = Field(
        default=8, description="How many objects are reconciled at once."
    )
    fail_at: str | None = Field(
        default=None, description="For tests: the reconcile step at which the process kills itself."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Least severe level that is logged."
    )
    kubeconfig: Path | None = Field(
        default=None, description="kubeconfig file; default: in-cluster, else the usual places."
    )
    context: str | None = Field(default=None, description="Context in the kubeconfig.")

    @field_validator(
        "namespaces",
        "controller_namespaces",
        "controller_external_hosts",
        "worker_image_pull_secrets",
        "worker_auth_namespaces",
        "trusted_repositories",
        mode="before",
    )
    @classmethod
    def _split(cls, value: Any) -> Any:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("controller_namespaces")
    @classmethod
    def _all(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return () if "*" in value else value

    @field_validator(*_PATTERNS)
    @classmethod
    def _check_pattern(cls, value: Any, info: ValidationInfo) -> Any:
        pattern, words = _PATTERNS[str(info.field_name)]
        for one in (value,) if isinstance(value, str) else value:
            if not re.fullmatch(pattern, one):
                raise ValueError(f"{one!r} is not {words}")
        return value

    @field_validator("pod_ip")
    @classmethod
    def _check_address(cls, value: str) -> str:
        return str(ip_address(value)) if value else value

    @field_validator("controller_external_hosts")
    @classmethod
    def _check_hosts(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for host in value:
            if "/" in host:
                ip_network(host)
        return value

    @model_validator(mode="after")
    def _check_controller(self) -> "Config":
        strange = set(self.controller_namespaces) - set(self.namespaces)
        if self.namespaces and strange:
            raise ValueError(
                f"controller_namespaces has {', '.join(sorted(strange))}, which namespaces has "
                "not; the operator knows nothing of it"
            )
        if self.controller_allow_external != bool(self.controller_external_hosts):
            raise ValueError(
                "controller_allow_external and controller_external_hosts need each other: "
                "say both that workers may register and from which hosts"
            )
        return self

    @model_validator(mode="after")
    def _check_worker_auth(self) -> "Config":
        if self.worker_auth_required and self.worker_auth == "none":
            raise ValueError(
                "worker_auth_required refuses what worker_auth none is: set worker_auth to token, "
                "or leave worker_auth_required out"
            )
        return self

    @model_validator(mode="after")
    def _check_publishing(self) -> "Config":
        if self.publish_service and not self.pod_ip:
            raise ValueError(
                "publish_service needs pod_ip, the address to publish: set it from the field "
                "status.podIP of the pod"
            )
        if self.publish_service and 0 in (self.heartbeat_port, self.controller_port):
            raise ValueError("publish_service needs ports that are known: set none of them to 0")
        return self

    @model_validator(mode="before")
    @classmethod
    def _fill(cls, values: dict[str, Any]) -> dict[str, Any]:
        namespace = values.get("namespace") or own_namespace()
        return {
            **values,
            "namespace": namespace,
            "lease_namespace": values.get("lease_namespace") or namespace,
            "heartbeat_url": values.get("heartbeat_url")
            or f"http://modelworker-operator.{namespace}.svc:{kube.HEARTBEAT_PORT}",
        }


def load_config(arguments: Sequence[str]) -> Config:
    """Settings from command-line arguments, then the environment, then the defaults.

    Raises:
        SystemExit: after printing the help, or what is wrong with an argument.
        pydantic.ValidationError: a value is out of range; the message names the field.
    """
    return CliApp.run(Config, cli_args=list(arguments))
