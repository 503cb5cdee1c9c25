"""Puts the controller together and serves it while this process leads."""

from collections.abc import Awaitable, Callable

from modelworker_operator.config import Config
from modelworker_operator.controller.external import Externals
from modelworker_operator.controller.protocol import Controller
from modelworker_operator.controller.server import ControllerServer, Prober, http_client
from modelworker_operator.controller.workers import ClusterModels
from modelworker_operator.heartbeats import Registry
from modelworker_operator.serving import serve
from modelworker_operator.store import Store


async def serve_controller(
    config: Config,
    port: int,
    *,
    store: Store,
    registry: Registry,
    until_synced: Callable[[], Awaitable[None]],
    monotonic: Callable[[], float],
) -> None:
    """Serve the controller protocol until cancelled.

    It listens once the store holds every object: before that a client would be told that
    nothing is served, and there is no way in the protocol to say "not yet".

    Args:
        config: The settings.
        port: Where to listen.
        store: The objects and their pods.
        registry: The heartbeats.
        until_synced: Returns once the store holds every object.
        monotonic: The clock, in seconds.

    Raises:
        CannotListen: the address is not one of this machine, or the port needs other rights.
    """
    await until_synced()
    models = ClusterModels(
        store, lambda uids: registry.beats(uids, monotonic()), config.controller_namespaces
    )
    async with http_client() as client:
        externals = Externals(config.controller_external_hosts, Prober(client), monotonic)
        server = ControllerServer(Controller(models, externals), client)
        await serve(server.app(), config.controller_host, port, "controller")
