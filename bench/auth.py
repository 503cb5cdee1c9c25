"""What it costs a call that the worker asks for a token: with auth on against off, in one run.

Two servers with the worker's own HTTP face in front of one fixed answer run in a process of
their own; calls to them take turns. One of them has the gate. The check alone is measured in
this process: of a token that was seen before, and of one that was not.
"""

import asyncio
import json
import multiprocessing
import socket
import statistics
import time
import timeit
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection

import httpx
import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm
from starlette.types import ASGIApp, Receive, Scope, Send

from _common import quick, report
from modelworker_api import kube, wire
from modelworker_server.auth import Auth
from modelworker_server.edge import error_response
from modelworker_server.gate import Gate
from modelworker_server.http_server import server_for

ISSUER = "https://kubernetes.default.svc"
WARM_UP = 100
BODY = {"model": "policy", "prompt": "The capital of France is", "max_tokens": 32}
ANSWER = json.dumps({"object": "text_completion", "choices": [{"text": " Paris" * 32}]}).encode()


class Issuer:
    """Signs service-account tokens with RS256, as API servers do."""

    def __init__(self) -> None:
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)

    def trust(self) -> wire.Trust:
        """Trust in every token of it."""
        key = json.loads(RSAAlgorithm.to_jwk(self._key.public_key()))
        key |= {"kid": "key-1", "use": "sig", "alg": "RS256"}
        return wire.Trust(issuer=ISSUER, keys=[key], namespaces=["lab"])

    def token(self, number: int = 0) -> str:
        """A token for an hour; another one for each number."""
        claims = {
            "iss": ISSUER,
            "aud": [kube.INFERENCE_AUDIENCE],
            "sub": "system:serviceaccount:lab:runner",
            "exp": int(time.time()) + 3600,
            "jti": f"00000000-0000-0000-0000-{number:012d}",
            "kubernetes.io": {
                "namespace": "lab",
                "pod": {"name": "runner-0", "uid": "00000000-0000-0000-0000-000000000000"},
                "serviceaccount": {"name": "runner", "uid": "00000000-0000-0000-0000-000000000001"},
            },
        }
        return jwt.encode(claims, self._key, "RS256", headers={"kid": "key-1"})


async def answering(_: Scope, receive: Receive, send: Send) -> None:
    """An application with one answer to everything."""
    while (await receive()).get("more_body"):
        pass
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(ANSWER)),
    ]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": ANSWER})


def serve(pipe: Connection, trust: wire.Trust) -> None:
    """The servers' process: tells the ports of the open one and of the one with a gate."""
    auth = Auth(time.time)
    auth.take(trust)
    gate = Gate(answering, auth, lambda _, error: error_response(error), max_body_bytes=2**23)
    asyncio.run(listen({"off": answering, "on": gate}, pipe))


async def listen(apps: dict[str, ASGIApp], pipe: Connection) -> None:
    """Serve the applications for ever, in one loop."""
    ports, serving = {}, []
    for name, app in apps.items():
        # With the protocol named, or asyncio leaves Nagle on: 40 ms a call.
        listener = socket.socket(proto=socket.IPPROTO_TCP)
        listener.bind(("127.0.0.1", 0))
        ports[name] = listener.getsockname()[1]
        serving.append(server_for(app).serve(sockets=[listener]))
    pipe.send(ports)
    await asyncio.gather(*serving)


@contextmanager
def servers(trust: wire.Trust) -> Iterator[tuple[str, str]]:
    """The addresses of both."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=serve, args=(there, trust), daemon=True)
    process.start()
    try:
        ports = here.recv()
        yield f"http://127.0.0.1:{ports['off']}", f"http://127.0.0.1:{ports['on']}"
    finally:
        process.terminate()
        process.join()


def times(addresses: tuple[str, str], token: str, count: int) -> tuple[list[float], list[float]]:
    """Microseconds of calls to the open server and to the other, which take turns."""
    taken: tuple[list[float], list[float]] = ([], [])
    headers = {"authorization": f"Bearer {token}"}
    with httpx.Client(trust_env=False, headers=headers) as client:
        for number in range(count + WARM_UP):
            for seconds, address in zip(taken, addresses, strict=True):
                began = time.perf_counter()
                client.post(f"{address}/v1/completions", json=BODY).raise_for_status()
                if number >= WARM_UP:
                    seconds.append((time.perf_counter() - began) * 1e6)
    return taken


def checks(issuer: Issuer, count: int) -> tuple[float, float]:
    """Microseconds to check a token that is remembered, and one that is not."""
    auth = Auth(time.time)
    auth.take(issuer.trust())
    shown = [
        [(b"host", b"worker"), (b"authorization", f"Bearer {issuer.token(number)}".encode())]
        for number in range(count)
    ]
    began = time.perf_counter()
    refused = [auth.refusal(headers) for headers in shown]
    new = (time.perf_counter() - began) / count * 1e6
    if any(refused):
        raise SystemExit(f"a good token was refused: {refused}")
    repeats = 20_000
    return timeit.timeit(lambda: auth.refusal(shown[-1]), number=repeats) / repeats * 1e6, new


def main() -> None:
    short = quick(__doc__)
    issuer = Issuer()
    known, new = checks(issuer, 50 if short else 500)
    with servers(issuer.trust()) as addresses:
        off, on = times(addresses, issuer.token(), 300 if short else 5000)
    open_p50, gate_p50 = statistics.median(off), statistics.median(on)
    report(
        [
            ("call, auth off, p50", open_p50),
            ("call, auth on, p50", gate_p50),
            ("check of a token that was seen before", known),
            ("check of a new token (RS256)", new),
        ],
        bench="auth",
        value=round(gate_p50, 1),
        unit="us",
        baseline=round(open_p50, 1),
        ratio=round(gate_p50 / open_p50, 4),
        check_seen_us=round(known, 2),
        check_new_us=round(new, 1),
        calls=len(on),
    )


if __name__ == "__main__":
    main()
