"""Leads the operator's Service to the leader alone: workers report to nobody else."""

from modelworker_operator.cluster import Cluster
from modelworker_operator.config import Config
from modelworker_operator.desired import leader_slice
from modelworker_operator.errors import CannotPublish
from modelworker_operator.periodic import repeat
from modelworker_operator.resources import SERVICES

PUBLISH_SECONDS = 60.0
"""How soon an EndpointSlice that somebody deleted or edited is repaired."""


async def keep_published(cluster: Cluster, config: Config) -> None:
    """Keep the Service leading to this process until cancelled, if there is one."""
    if config.publish_service:
        await repeat(
            f"leading Service {config.namespace}/{config.publish_service} to this process",
            lambda: publish(cluster, config),
            seconds=min(PUBLISH_SECONDS, config.resync_seconds),
        )


async def publish(cluster: Cluster, config: Config) -> None:
    """Have the Service lead to this process.

    Raises:
        CannotPublish: there is no such Service, or it has a selector.
        OperatorError: the API server is away, or refuses the EndpointSlice.
    """
    where = f"Service {config.namespace}/{config.publish_service}"
    service = await cluster.get(SERVICES, config.namespace, config.publish_service)
    if service is None:
        raise CannotPublish(f"{where} does not exist; create it, or correct --publish-service")
    if service["spec"].get("selector"):
        raise CannotPublish(
            f"{where} has a selector, which leads to operators that do not lead; remove it"
        )
    await cluster.apply(leader_slice(config, service["metadata"]["uid"]))
