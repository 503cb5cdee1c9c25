"""Start a worker: `python -m modelworker_server --model FOLDER`."""

import asyncio
import logging
import os
import random
import signal
import socket
import sys
import time
import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec

import httpx
from prometheus_client import CollectorRegistry, ProcessCollector, disable_created_metrics

from modelworker_server import logs
from modelworker_server.adapting import Adapting
from modelworker_server.app import create_app
from modelworker_server.auth import Auth
from modelworker_server.credentials import DevelopmentSettings, HubSettings
from modelworker_server.heartbeat import Heartbeats
from modelworker_server.http_server import server_for
from modelworker_server.lifecycle import Lifecycle
from modelworker_server.limits import Limiter
from modelworker_server.process import Process, Stop
from modelworker_server.reading import Reader
from modelworker_server.settings import (
    InvalidSettings,
    Settings,
    load,
    tune_libraries,
)
from modelworker_server.state import ServerState
from modelworker_server.workers import registry
from modelworker_server.workers.base import ModelConfig

BACKLOG = 2048
READERS = 2
"""Threads that read long requests; the other processors are the engine's."""

_log = logging.getLogger("modelworker_server")


def main(arguments: Sequence[str]) -> int:
    """Run a worker to its end; 0 after a clean end, 1 after a failure, 2 for wrong settings."""
    try:
        settings = load(arguments)
        development_token = DevelopmentSettings().token_for(settings)
        config = what_to_load(settings, HubSettings(), created=int(time.time()))
    except InvalidSettings as error:
        print(error, file=sys.stderr)
        return 2
    logs.configure(settings.log_level)
    tune_libraries(settings)
    try:
        listener = listen(settings.host, settings.port)
    except OSError as error:
        where = f"{settings.host} port {settings.port}"
        print(f"cannot listen on {where}: {error}; choose others", file=sys.stderr)
        return 1
    _log.info("listening on http://%s:%d", settings.host, listener.getsockname()[1])
    work = serve(settings, config, listener, development_token)
    return new_loop(settings).run_until_complete(work)


def new_loop(settings: Settings) -> asyncio.AbstractEventLoop:
    """The event loop for the backend: vLLM's own server runs on uvloop, which it brings along."""
    if settings.backend != "vllm":
        return asyncio.new_event_loop()
    try:
        import uvloop  # noqa: PLC0415 - an extra
    except ImportError:  # then vLLM is missing as well, which the load tells
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; `::` takes IPv4 as well."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.create_server(
        (host, port), family=family, backlog=BACKLOG, dualstack_ipv6=host == "::"
    )
    # Connections inherit it; without it a small answer can wait 40 ms for an acknowledgement.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def what_to_load(settings: Settings, hub: HubSettings, created: int) -> ModelConfig:
    """What the worker is built from; `created` is the time of now in seconds since the epoch.

    Raises:
        InvalidSettings: the hub's token is none.
    """
    source = settings.where
    name = settings.served_name or settings.name or settings.model
    aliases = {settings.name or name}
    if source == "huggingFace":  # where a folder lies is no name, and no caller's business
        aliases.add(settings.model)
    if settings.name and settings.namespace:
        aliases.add(f"{settings.namespace}/{settings.name}")
    return ModelConfig(
        source=source,
        model=settings.model,
        name=name,
        created=created,
        aliases=frozenset(aliases - {name}),
        revision=settings.revision,
        gguf_file=settings.gguf_file,
        dtype=settings.dtype,
        max_model_len=settings.max_model_len,
        max_running=settings.max_running,
        scoring=settings.scoring_config,
        vllm=settings.vllm_config,
        adapter_dir=settings.adapter_dir,
        trust_remote_code=settings.trust_remote_code,
        token=hub.usable_token(),
        endpoint=hub.endpoint,
    )


async def serve(
    settings: Settings, config: ModelConfig, listener: socket.socket, development_token: str | None
) -> int:
    """Put the parts together and run them."""
    disable_created_metrics()  # type: ignore[no-untyped-call]
    prometheus = CollectorRegistry()
    ProcessCollector(registry=prometheus)
    auth = Auth(time.time) if settings.auth == "token" else None
    lifecycle = Lifecycle(awaits_trust=auth is not None)
    state = ServerState(
        lifecycle=lifecycle,
        limiter=Limiter(
            max_running=settings.max_running, max_queued=settings.max_queued, timer=time.monotonic
        ),
        registry=prometheus,
        pod_name=settings.pod_name,
        reader=Reader(
            max_body_bytes=settings.max_body_bytes,
            limiter=Limiter(
                max_running=READERS, max_queued=settings.max_queued, timer=time.monotonic
            ),
            executor=ThreadPoolExecutor(max_workers=READERS, thread_name_prefix="reader"),
        ),
        now=time.time,
        timer=time.monotonic,
        new_id=lambda: uuid.uuid4().hex,
        auth=auth,
    )
    adapting = Adapting(state)
    stop = Stop()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.ask)
    # The heartbeat stays inside the cluster: no proxy of the environment, no redirect.
    async with httpx.AsyncClient(trust_env=False, follow_redirects=False) as client:
        heartbeats = settings.heartbeat_url and Heartbeats(
            client,
            url=settings.heartbeat_url,
            token_file=settings.heartbeat_token_file,
            interval=settings.heartbeat_interval_seconds,
            lifecycle=lifecycle,
            beat=state.heartbeat,
            want=adapting.want,
            trust=state.trust,
            random=random.random,
        )
        process = Process(
            state=state,
            server=server_for(
                create_app(state, development_token),
                # As vLLM's own server, which brings httptools along.
                native=settings.backend == "vllm" and find_spec("httptools") is not None,
            ),
            listener=listener,
            heartbeats=heartbeats or None,
            adapting=adapting,
            stop=stop,
            create_worker=lambda: registry.create(settings.backend, config),
            drain_seconds=settings.drain_seconds,
            termination_log=settings.termination_log,
        )
        return await process.run()


if __name__ == "__main__":
    code = main(sys.argv[1:])
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    # A load that cannot be interrupted, or an engine that hangs, must not hold up the end.
    os._exit(code)
