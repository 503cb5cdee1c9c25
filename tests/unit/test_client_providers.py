"""Providers: their arguments, and requests in their words; no network."""

import pickle
import sys
from typing import Any

import pytest

from modelworker import LM, AsyncLM, InvalidRequest, NotInstalled, RMCall, _requests
from modelworker._providers import _anthropic_api
from modelworker._providers._anthropic_dialect import AnthropicDialect
from modelworker._providers._dialect import Dialect
from modelworker._providers._openai_dialect import OpenAIDialect

HI = [{"role": "user", "content": "hi"}]
OPENAI: dict[str, Any] = {"name": "gpt", "provider": "openai"}
ANTHROPIC: dict[str, Any] = {"name": "claude", "provider": "anthropic"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param({"provider": "azure"}, "provider must be one of", id="unknown"),
        pytest.param({"name": "", "provider": "openai"}, "served model", id="no-name"),
        pytest.param(
            {**OPENAI, "namespace": "ns"}, "namespace is for ModelWorkers", id="namespace"
        ),
        pytest.param({**OPENAI, "endpoints": ["http://h"]}, "endpoints is for", id="endpoints"),
        pytest.param({**OPENAI, "kubeconfig": "k"}, "kubeconfig is for", id="kubeconfig"),
        pytest.param({**OPENAI, "adapter": "a"}, "adapter is for ModelWorkers", id="adapter"),
        pytest.param({**OPENAI, "affinity": "prefix"}, "affinity is for", id="affinity"),
        pytest.param({**OPENAI, "base_url": "h:80"}, "base_url must be like", id="no-scheme"),
        pytest.param({**OPENAI, "base_url": "http://h?x=1"}, "base_url must be like", id="query"),
        pytest.param({**OPENAI, "api_key": "a b"}, "api_key must be", id="key-with-space"),
        pytest.param({**OPENAI, "api_key": ""}, "api_key must be", id="key-empty"),
        pytest.param({**OPENAI, "timeout": 0}, "timeout must be", id="timeout"),
        pytest.param({"api_key": "a b"}, "api_key must be", id="worker-key"),
        pytest.param({**OPENAI, "access": "proxy"}, "access is for ModelWorkers", id="access"),
        pytest.param({**OPENAI, "service_account": "a"}, "service_account is for", id="account"),
        pytest.param(
            {"provider": "modelworker", "base_url": "http://h"},
            r"base_url is not for ModelWorkers; give their addresses as endpoints",
            id="worker-base-url",
        ),
        pytest.param({"adapter": ""}, "adapter must be", id="adapter-empty"),
        pytest.param({"fallback": "gpt"}, "fallback must be an LM", id="fallback-text"),
        pytest.param({"fallback": RMCall("prm")}, "fallback must be an LM", id="fallback-rm"),
    ],
)
def test_arguments_refused(arguments: dict[str, Any], message: str) -> None:
    for kind in (LM, AsyncLM):
        with pytest.raises(InvalidRequest, match=message):
            kind(**{"name": "policy", **arguments})


def test_no_secret_is_shown() -> None:
    with pytest.raises(InvalidRequest) as caught:
        LM("gpt", base_url="http://user:hidden@h/v1")
    assert "hidden" not in str(caught.value)
    lm = LM("gpt", base_url="http://h/v1", api_key="hidden", timeout=5)
    assert repr(lm) == "LM('gpt', provider='openai', base_url='http://h/v1')"
    assert "hidden" not in repr(lm.aio.__getstate__())
    outer = LM("policy", namespace="ns", adapter="sft", fallback=lm)
    assert repr(outer) == "LM('policy', namespace='ns', adapter='sft', fallback='gpt')"
    assert "hidden" not in repr(outer.aio.__getstate__())


def test_a_copy_has_what_the_caller_gave() -> None:
    lm = LM("policy", fallback=AsyncLM("claude", provider="anthropic", api_key="k"))
    state = pickle.loads(pickle.dumps(lm)).aio.__getstate__()
    assert state == lm.aio.__getstate__()
    assert (state.fallback.name, state.fallback.api_key) == ("claude", "k")


@pytest.mark.parametrize("provider", ["openai", "anthropic"])
def test_a_missing_package(provider: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    copied = pickle.dumps(LM("m", provider=provider))
    monkeypatch.setitem(sys.modules, provider, None)
    message = rf"`pip install 'modelworker\[{provider}\]'`"
    with pytest.raises(NotInstalled, match=message):
        LM("m", provider=provider)
    with pytest.raises(NotInstalled, match=message):
        pickle.loads(copied)


OF_WORKERS = [
    pytest.param({"min_p": 0.1}, "min_p", id="min-p"),
    pytest.param({"repetition_penalty": 1.1}, "repetition_penalty", id="penalty"),
    pytest.param({"stop_token_ids": [3]}, "stop_token_ids", id="stop-ids"),
    pytest.param({"ignore_eos": True}, "ignore_eos", id="ignore-eos"),
]


@pytest.mark.parametrize(
    ("options", "name"),
    [
        *OF_WORKERS,
        pytest.param({"top_k": 5}, "top_k", id="top-k"),
        pytest.param({"include_stop_str_in_output": True}, "include_stop_str", id="keep-stop"),
        pytest.param({"continue_final_message": True}, "continue_final_message", id="go-on"),
    ],
)
def test_what_openai_has_not(options: dict[str, Any], name: str) -> None:
    with pytest.raises(InvalidRequest, match=rf"provider 'openai' has no {name}.*extra="):
        LM(**OPENAI).chat(HI, **options)


@pytest.mark.parametrize(
    ("options", "name"),
    [
        *OF_WORKERS,
        pytest.param({"seed": 3}, "seed", id="seed"),
        pytest.param({"logprobs": 0}, "logprobs", id="logprobs"),
    ],
)
def test_what_anthropic_has_not(options: dict[str, Any], name: str) -> None:
    with pytest.raises(InvalidRequest, match=f"provider 'anthropic' has no {name}"):
        LM(**ANTHROPIC).chat(HI, **options)


@pytest.mark.parametrize(
    "call",
    [
        pytest.param(lambda lm: lm.generate("x"), id="generate"),
        pytest.param(lambda lm: lm.generate(["x"]), id="generate-list"),
        pytest.param(lambda lm: lm.submit(["x"]), id="submit"),
        pytest.param(lambda lm: lm.stream("x"), id="stream"),
    ],
)
def test_anthropic_has_no_prompts(call: Any) -> None:
    with pytest.raises(InvalidRequest, match="use chat, or stream_chat"):
        call(LM(**ANTHROPIC))


def test_options_that_change_nothing_are_no_options() -> None:
    neutral: dict[str, Any] = {
        "min_p": 0,
        "top_k": -1,
        "repetition_penalty": 1,
        "stop_token_ids": [],
        "ignore_eos": False,
        "include_stop_str_in_output": False,
        "seed": None,
        "logprobs": None,
        "extra": {},
    }
    params = _requests.sampling(neutral)
    dialects: list[Dialect] = [OpenAIDialect(compatible=False), AnthropicDialect()]
    for dialect in dialects:
        dialect.check(params, chat=True, stream=True)


@pytest.mark.parametrize(
    ("compatible", "options", "expected"),
    [
        pytest.param(False, {}, {"n": 1, "max_completion_tokens": 256}, id="openai"),
        pytest.param(
            False,
            {"temperature": 0, "top_p": 0.5, "n": 2, "logprobs": 0},
            {
                "n": 2,
                "max_completion_tokens": 256,
                "temperature": 0,
                "top_p": 0.5,
                "logprobs": True,
            },
            id="openai-options",
        ),
        pytest.param(
            True,
            {"extra": {"top_k": 3}},
            {
                "n": 1,
                "max_tokens": 256,
                "temperature": 1.0,
                "top_p": 1.0,
                "extra_body": {"top_k": 3},
            },
            id="compatible",
        ),
    ],
)
def test_chat_in_openais_words(
    compatible: bool, options: dict[str, Any], expected: dict[str, Any]
) -> None:
    dialect = OpenAIDialect(compatible=compatible)
    params = _requests.sampling(options)
    body = dialect.chat(HI, params, model="gpt")
    assert body == {"model": "gpt", "messages": HI, **expected}
    assert dialect.chat(HI, params, model="gpt", stream=True)["stream"] is True


@pytest.mark.parametrize(
    "dialect", [OpenAIDialect(compatible=True), AnthropicDialect()], ids=["openai", "anthropic"]
)
@pytest.mark.parametrize("field", ["model", "messages", "temperature", "stream", "max_tokens"])
def test_extra_does_not_repeat_arguments(dialect: Dialect, field: str) -> None:
    params = _requests.sampling({"extra": {field: 1}})
    with pytest.raises(InvalidRequest, match=f"extra repeats {field}"):
        dialect.check(params, chat=True, stream=False)


ANSWER = {"role": "assistant", "content": "so"}
SYSTEM = {"role": "system", "content": "be brief"}


@pytest.mark.parametrize(
    ("messages", "go_on", "system", "turns"),
    [
        pytest.param(HI, False, None, HI, id="user"),
        pytest.param([SYSTEM, *HI], False, "be brief", HI, id="system"),
        pytest.param(
            [SYSTEM, {"role": "developer", "content": [{"type": "text", "text": "b"}]}, *HI],
            False,
            "be brief\n\nb",
            HI,
            id="systems-in-parts",
        ),
        pytest.param([*HI, ANSWER], True, None, [*HI, ANSWER], id="go-on"),
        pytest.param([*HI, ANSWER, *HI], False, None, [*HI, ANSWER, *HI], id="turns"),
    ],
)
def test_conversations_in_anthropics_words(
    messages: Any, go_on: bool, system: str | None, turns: Any
) -> None:
    body = AnthropicDialect().chat(
        messages, _requests.sampling({}), model="claude", continue_final_message=go_on
    )
    assert body["request"]["messages"] == turns
    assert body["request"].get("system") == system


@pytest.mark.parametrize(
    ("messages", "go_on", "message"),
    [
        pytest.param([SYSTEM], False, "system messages alone", id="system-alone"),
        pytest.param([*HI, SYSTEM, *HI], False, "come before all others", id="system-late"),
        pytest.param(
            [*HI, {"role": "tool", "content": "x"}], False, "are unknown to it", id="tool"
        ),
        pytest.param([*HI, ANSWER], False, "continue_final_message=True", id="assistant-last"),
        pytest.param(HI, True, "needs a last message of the assistant", id="user-last"),
        pytest.param([{"role": "system"}, *HI], False, "must be a text", id="system-empty"),
    ],
)
def test_conversations_that_anthropic_has_not(messages: Any, go_on: bool, message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        AnthropicDialect().chat(
            messages, _requests.sampling({}), model="claude", continue_final_message=go_on
        )


def test_anthropic_streams_one_sample() -> None:
    with pytest.raises(InvalidRequest, match="streams one sample"):
        LM(**ANTHROPIC).stream_chat(HI, n=2)


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        pytest.param("end_turn", "stop", id="end-turn"),
        pytest.param("max_tokens", "length", id="max-tokens"),
        pytest.param("model_context_window_exceeded", "length", id="context"),
        pytest.param("refusal", "refusal", id="a-word-of-its-own"),
    ],
)
def test_anthropics_stop_reasons(reason: str, expected: str) -> None:
    message = {
        "model": "claude",
        "content": [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "a"}],
        "stop_reason": reason,
        "usage": {"input_tokens": 1, "output_tokens": 2},
    }
    (choice,) = _anthropic_api.answer_of([message], keep_stop=True)["choices"]
    assert (choice["finish_reason"], choice["stop_reason"]) == (expected, None)
    assert choice["message"] == {"content": "a"}
