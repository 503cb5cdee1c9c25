"""Which of FastChat's forms a model's chat template is taken for."""

from typing import Any

import pytest
from jinja2 import Environment

from modelworker_server.fastchat.conversation import SepStyle, conversation

CHATML = (
    "{% for m in messages %}{% if loop.first and m['role'] != 'system' %}"
    r"{{ '<|im_start|>system\nYou help with \\boxed{} and \u00e9.<|im_end|>\n' }}{% endif %}"
    r"{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
    r"{{ '<|im_start|>assistant\n' }}"
)
CHATML_BARE = (
    r"{% if tools %}{{ '<|im_start|>system\n' }}{% endif %}"
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}"
    "{% endfor %}"
)
LLAMA3 = (
    "{{ bos_token }}{% for m in messages %}"
    r"{{ '<|start_header_id|>' + m['role'] + '<|end_header_id|>\n\n' }}"
    "{{ m['content'] | trim + '<|eot_id|>' }}{% endfor %}"
    r"{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}"
)
LLAMA2 = r"{{ '[INST] ' + '<<SYS>>\n' + system + '\n<</SYS>>\n\n' + m['content'] + ' [/INST]' }}"
MISTRAL = "{{ bos_token }}{{ ' [INST] ' + m['content'] + ' [/INST]' }}{{ eos_token }}"

SPECIAL = {"<|im_end|>": 7, "<|endoftext|>": 8, "<|eot_id|>": 9, "</s>": 2}


def encode(text: str) -> list[int]:
    return [SPECIAL[text]] if text in SPECIAL else list(text.encode())


@pytest.mark.parametrize(
    ("template", "form"),
    [
        pytest.param(
            CHATML,
            {
                "name": "chatml",
                "system_template": "<|im_start|>system\n{system_message}",
                "system_message": "You help with \\boxed{} and é.",
                "roles": ["<|im_start|>user", "<|im_start|>assistant"],
                "sep_style": 10,
                "sep": "<|im_end|>",
                "sep2": None,
                "stop_str": "<|im_end|>",
                "stop_token_ids": [7, 8],
            },
            id="chatml",
        ),
        pytest.param(CHATML_BARE, {"name": "chatml", "system_message": ""}, id="chatml-no-system"),
        pytest.param(
            LLAMA3,
            {
                "name": "llama-3",
                "system_message": "",
                "roles": ["user", "assistant"],
                "sep_style": 8,
                "sep": "",
                "stop_str": "<|eot_id|>",
                "stop_token_ids": [9],
            },
            id="llama-3",
        ),
        pytest.param(
            LLAMA2,
            {"name": "llama-2", "sep_style": 7, "sep": " ", "sep2": " </s><s>"},
            id="llama-2",
        ),
        pytest.param(
            MISTRAL,
            {
                "name": "mistral",
                "system_template": "[INST] {system_message}\n",
                "roles": ["[INST]", "[/INST]"],
                "sep_style": 7,
                "sep": " ",
                "sep2": "</s>",
                "stop_token_ids": [2],
            },
            id="mistral",
        ),
        pytest.param(None, {"name": "one_shot", "sep_style": 1, "stop_str": "###"}, id="none"),
        pytest.param("{{ messages }}", {"name": "one_shot", "stop_token_ids": None}, id="other"),
    ],
)
def test_the_form(template: str | None, form: dict[str, Any]) -> None:
    found = conversation(template, encode).model_dump()
    assert {key: found[key] for key in form} == form


def prompt_of(template: str, turns: list[tuple[str, str]]) -> str:
    """A prompt made as FastChat makes it from the fields, for its styles CHATML and LLAMA3."""
    conv = conversation(template, encode)
    system = conv.system_template.format(system_message=conv.system_message)
    users, assistants = conv.roles
    roles = {"user": users, "assistant": assistants}
    if conv.sep_style == SepStyle.CHATML:
        prompt = f"{system}{conv.sep}\n"
        prompt += "".join(f"{roles[role]}\n{text}{conv.sep}\n" for role, text in turns)
        return f"{prompt}{assistants}\n"
    prompt = "<|begin_of_text|>" + (system if conv.system_message else "")
    for role, text in [*turns, ("assistant", "")]:
        prompt += f"<|start_header_id|>{roles[role]}<|end_header_id|>\n\n"
        prompt += f"{text.strip()}<|eot_id|>" if text else ""
    return prompt


@pytest.mark.parametrize("template", [CHATML, LLAMA3], ids=["chatml", "llama-3"])
def test_fastchats_prompt_is_what_the_template_writes(template: str) -> None:
    turns = [("user", "1 + 1?"), ("assistant", "2"), ("user", "And 3?")]
    rendered = (
        Environment()
        .from_string(template)
        .render(
            bos_token="<|begin_of_text|>",
            messages=[{"role": role, "content": text} for role, text in turns],
        )
    )
    assert prompt_of(template, turns) == rendered


def test_the_fields_are_fastchats() -> None:
    assert list(conversation(None, encode).model_dump()) == [
        "name",
        "system_template",
        "system_message",
        "system_message_vision",
        "roles",
        "messages",
        "offset",
        "sep_style",
        "sep",
        "sep2",
        "stop_str",
        "stop_token_ids",
        "max_image_size_mb",
    ]


def test_a_broken_escape_costs_the_default_system_message_alone() -> None:
    broken = r"'<|im_start|>system\n\x<|im_end|>'"
    assert conversation(broken, encode).system_message == ""
