"""An assistant's last message is gone on with in tokens: nothing of it is lost."""

import asyncio
import inspect
from typing import Any

import pytest

pytest.importorskip("vllm")

from modelworker_server.workers.base import Message
from modelworker_server.workers.tokens import Tokens
from modelworker_server.workers.vllm.prefill import continue_in_tokens
from tests.engine_support import tokenizer

TRIMMING = (
    "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] | trim }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
PLAIN = TRIMMING.replace(" | trim", "")


def conversation(content: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": " hi "}, {"role": "assistant", "content": content}]


@pytest.mark.parametrize("template", [TRIMMING, PLAIN], ids=["trimming", "plain"])
@pytest.mark.parametrize("content", ["step 1\n\n", " step", "", "a\n\nb\n\n"], ids=repr)
@pytest.mark.parametrize("tokenize", [False, True], ids=["text", "ids"])
def test_the_ids_are_those_of_the_transformers_worker(
    template: str, content: str, tokenize: bool
) -> None:
    given: Any = tokenizer(chat_template=template)
    expected = Tokens(tokenizer(chat_template=template)).encode_chat(
        [Message("user", " hi "), Message("assistant", content)],
        add_generation_prompt=True,
        continue_final_message=True,
    )
    continue_in_tokens(given)
    ids = given.apply_chat_template(
        conversation(content), tokenize=tokenize, continue_final_message=True, return_dict=False
    )
    assert ids == expected
    assert given.decode(ids).endswith(content)


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"tokenize": False}, id="text"),
        pytest.param({"tokenize": True, "return_dict": False}, id="ids"),
        pytest.param({"tokenize": False, "add_generation_prompt": True}, id="generation"),
        pytest.param({"tokenize": False, "continue_final_message": False}, id="not-continued"),
    ],
)
def test_everything_else_is_as_it_was(options: dict[str, Any]) -> None:
    changed, before = tokenizer(chat_template=TRIMMING), tokenizer(chat_template=TRIMMING)
    continue_in_tokens(changed)
    messages = conversation("a ")
    assert changed.apply_chat_template(messages, **options) == before.apply_chat_template(
        messages, **options
    )
    # vLLM asks for the parameters that it may give.
    assert inspect.signature(changed.apply_chat_template) == inspect.signature(
        before.apply_chat_template
    )


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        pytest.param([{"type": "text", "text": "a "}], "a ", id="one-part"),
        pytest.param(
            [{"type": "text", "text": "a"}, {"type": "text", "text": "b\n"}], "a\nb\n", id="parts"
        ),
    ],
)
def test_text_parts_are_joined(content: Any, expected: str) -> None:
    given: Any = tokenizer(chat_template=TRIMMING)
    continue_in_tokens(given)
    ids = given.apply_chat_template(conversation(content), continue_final_message=True)
    assert given.decode(ids).endswith("<assistant>" + expected)


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        pytest.param([{"role": "user", "content": "a"}] * 2, "role assistant", id="of-the-user"),
        pytest.param([{"role": "assistant", "content": "a"}], "before the last", id="alone"),
        pytest.param(conversation(None), "text alone", id="no-text"),
        pytest.param(conversation([{"type": "image_url"}]), "text alone", id="image"),
    ],
)
def test_what_cannot_be_gone_on_with_is_refused(messages: list[Any], reason: str) -> None:
    given: Any = tokenizer(chat_template=TRIMMING)
    continue_in_tokens(given)
    with pytest.raises((ValueError, TypeError), match=reason):
        given.apply_chat_template(messages, continue_final_message=True)


def test_a_thread_of_the_renderer_may_call_it() -> None:
    given: Any = tokenizer(chat_template=TRIMMING)
    continue_in_tokens(given)

    async def render() -> Any:
        return await asyncio.to_thread(
            given.apply_chat_template, conversation("x\n"), continue_final_message=True
        )

    assert given.decode(asyncio.run(render())).endswith("<assistant>x\n")
