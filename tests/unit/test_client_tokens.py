"""Which token is shown, and when another one is asked for; no network."""

import asyncio
import logging
import os
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from modelworker import AccessDenied, ClusterUnavailable, InvalidRequest, ModelWorkerError
from modelworker import _settings as settings_module
from modelworker._settings import Settings, access_of, service_account_of
from modelworker._tokens import (
    FRESH_SECONDS,
    FileToken,
    GivenToken,
    Issued,
    IssuedToken,
    NoToken,
    chosen,
)
from modelworker_api import kube
from tests.client_support import until


@dataclass
class Clock:
    """A clock that a test moves."""

    now: float = 1_000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Issuer:
    """Issues `t1`, `t2`, ... for 1000 s each, unless it fails."""

    name: str
    clock: Clock = field(default_factory=Clock)
    failure: ModelWorkerError | None = None
    asked: int = 0

    async def issue(self) -> Issued:
        self.asked += 1
        number = self.asked
        await asyncio.sleep(0)
        if self.failure is not None:
            raise self.failure
        return Issued(f"t{number}", "ns/default", 1000.0)

    def tokens(self) -> IssuedToken:
        # The name of the test keeps what a process keeps apart.
        return IssuedToken(self.issue, lambda: (self.name, "ns", ""), self.clock)


@pytest.fixture
def issuer(request: pytest.FixtureRequest) -> Issuer:
    return Issuer(request.node.nodeid)


def run(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(scenario())


# --- which one -----------------------------------------------------------------------


@pytest.fixture
def mounted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a pod mounts its token, for this test; nothing is there yet."""
    monkeypatch.setattr(kube, "INFERENCE_TOKEN_DIR", str(tmp_path))
    for name in ("ACCESS", "SERVICE_ACCOUNT", "TOKEN_FILE"):
        monkeypatch.delenv(f"MODELWORKER_{name}", raising=False)
    return tmp_path / kube.INFERENCE_TOKEN_FILE


def test_without_anything_one_is_asked_for_later(mounted: Path) -> None:
    assert not mounted.exists()
    assert chosen(Settings("policy")) is None


def test_the_argument_goes_before_the_files_and_the_variable_before_the_mount(
    mounted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mounted.write_text("mounted\n")
    found = chosen(Settings("policy"))
    assert found is not None
    assert found.now() == "mounted"
    named = tmp_path / "named"
    named.write_text("named")
    monkeypatch.setenv(settings_module.ENV_TOKEN_FILE, str(named))
    found = chosen(Settings("policy"))
    assert found is not None
    assert found.now() == "named"
    assert str(named) in found.source
    given = chosen(Settings("policy", api_key="given"))
    assert isinstance(given, GivenToken)
    assert given.now() == "given"


@pytest.mark.parametrize(
    ("variable", "read", "given", "expected"),
    [
        pytest.param(None, access_of, {}, "auto", id="access-default"),
        pytest.param("proxy", access_of, {}, "proxy", id="access-variable"),
        pytest.param("proxy", access_of, {"access": "direct"}, "direct", id="access-argument"),
        pytest.param(None, service_account_of, {}, None, id="account-default"),
        pytest.param("lab/a", service_account_of, {}, "lab/a", id="account-variable"),
        pytest.param("a", service_account_of, {"service_account": "b.c"}, "b.c", id="account"),
    ],
)
def test_arguments_go_before_variables(
    variable: str | None,
    read: Callable[[Settings], object],
    given: dict[str, Any],
    expected: object,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names: dict[object, str] = {access_of: settings_module.ENV_ACCESS}
    name = names.get(read, settings_module.ENV_SERVICE_ACCOUNT)
    monkeypatch.delenv(name, raising=False)
    if variable is not None:
        monkeypatch.setenv(name, variable)
    assert read(Settings("policy", **given)) == expected


@pytest.mark.parametrize(
    ("name", "value", "read"),
    [
        pytest.param("MODELWORKER_ACCESS", "tunnel", access_of, id="access"),
        pytest.param("MODELWORKER_SERVICE_ACCOUNT", "a/b/c", service_account_of, id="account"),
    ],
)
def test_a_wrong_variable_is_named(
    name: str, value: str, read: Callable[[Settings], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(InvalidRequest, match=f"{name} must be .* not '{value}'"):
        read(Settings("policy"))


# --- from a file ---------------------------------------------------------------------


def test_a_file_is_looked_at_once_a_second_and_read_when_it_changed(tmp_path: Path) -> None:
    path, clock = tmp_path / "token", Clock()
    path.write_text("one\n")
    tokens = FileToken(path, clock)
    assert tokens.now() == "one"
    path.write_text("another")
    assert tokens.now() == "one"
    clock.now += 1.0
    assert tokens.now() == "another"
    path.unlink()
    clock.now += 1.0
    assert tokens.now() == "another", "what is known stays while the file is away"


def test_a_refused_file_is_read_at_once(tmp_path: Path) -> None:
    async def scenario() -> None:
        path = tmp_path / "token"
        path.write_text("one")
        tokens = FileToken(path, Clock())
        assert tokens.now() == "one"
        assert await tokens.instead_of("one") is None
        os.replace(_written(tmp_path / "next", "two"), path)  # noqa: PTH105 - as a kubelet does
        assert await tokens.instead_of("one") == "two"

    run(scenario)


def _written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("content", "words"),
    [
        pytest.param(None, "cannot be read: No such file.*MODELWORKER_TOKEN_FILE", id="missing"),
        pytest.param(b"", "one word of printable ASCII.*kubectl create token", id="empty"),
        pytest.param(b"secret two", "one word of printable ASCII", id="two-words"),
        pytest.param(b"\xff\xfe", "cannot be read: it is no text", id="binary"),
    ],
)
def test_a_file_that_holds_none(tmp_path: Path, content: bytes | None, words: str) -> None:
    path = tmp_path / "token"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(AccessDenied, match=words) as caught:
        FileToken(path).now()
    assert "secret" not in str(caught.value)


# --- issued --------------------------------------------------------------------------


def test_many_callers_ask_once_and_clients_share_it(issuer: Issuer) -> None:
    async def scenario() -> None:
        tokens = issuer.tokens()
        assert (tokens.now(), tokens.source) == (None, NoToken.source)
        got = await asyncio.gather(*(tokens.instead_of(None) for _ in range(64)))
        assert set(got) == {"t1"}
        assert issuer.tokens().now() == "t1"
        assert issuer.asked == 1
        assert "ns/default" in tokens.source

    run(scenario)


def test_a_token_is_renewed_in_the_background_at_four_fifths_of_its_life(issuer: Issuer) -> None:
    async def scenario() -> None:
        tokens = issuer.tokens()
        await tokens.instead_of(None)
        issuer.clock.now += 799
        assert tokens.now() == "t1"
        await asyncio.sleep(0)
        assert issuer.asked == 1
        issuer.clock.now += 1
        assert [tokens.now() for _ in range(3)] == ["t1"] * 3, "calls go on with the old one"
        await until(lambda: tokens.now() == "t2")
        assert issuer.asked == 2
        await tokens.aclose()

    run(scenario)


def test_a_renewal_that_fails_is_told_once_and_tried_again_later(
    issuer: Issuer, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        tokens = issuer.tokens()
        await tokens.instead_of(None)
        issuer.failure = ClusterUnavailable("away")
        issuer.clock.now += 800
        assert tokens.now() == "t1"
        await until(lambda: bool(caplog.records))
        assert [tokens.now() for _ in range(5)] == ["t1"] * 5
        issuer.failure = None
        issuer.clock.now += 10
        assert tokens.now() == "t1"
        await until(lambda: tokens.now() == "t3")

    with caplog.at_level(logging.WARNING):
        run(scenario)
    assert [record.message for record in caplog.records] == [
        "the token for workers is not renewed yet: away"
    ]


def test_a_refused_token_is_replaced_unless_it_is_fresh(issuer: Issuer) -> None:
    async def scenario() -> None:
        tokens = issuer.tokens()
        assert await tokens.instead_of(None) == "t1"
        assert await tokens.instead_of("t1") is None
        assert await tokens.instead_of("an older one") == "t1"
        issuer.clock.now += FRESH_SECONDS
        assert await tokens.instead_of("t1") == "t2"

    run(scenario)


def test_what_the_api_server_says_comes_out(issuer: Issuer) -> None:
    async def scenario() -> None:
        issuer.failure = AccessDenied("no right")
        tokens = issuer.tokens()
        with pytest.raises(AccessDenied, match="no right"):
            await tokens.instead_of(None)
        issuer.failure = None
        assert await tokens.instead_of(None) == "t2"

    run(scenario)


def test_no_repr_has_a_token() -> None:
    assert "secret" not in repr(Issued("secret", "ns/a", 1.0))
    assert "secret" not in repr(Settings("policy", api_key="secret"))
    assert "secret" not in repr(GivenToken("secret"))
