"""The operator's settings: the only reader of the environment."""

from collections.abc import Sequence
from importlib.metadata import version
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import Field, field_validator, model_validator
from pydantic_settings import BaseSettings, CliApp, NoDecode, SettingsConfigDict

from modelworker_api import kube

ENV_PREFIX: Final = "MODELWORKER_OPERATOR_"
SERVICE_ACCOUNT_NAMESPACE: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")

Port = Annotated[int, Field(ge=0, le=65535)]


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
        "namespaces", "controller_namespaces", "controller_external_hosts", mode="before"
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
