"""FastChat's description of how a model's conversations look, from its own chat template.

FastChat's servers turn conversations into prompts themselves, from a handful of fields that
can tell a few forms of conversation apart and no more. Which form a model has is seen in the
marks that its Jinja template writes. The names and separator styles are FastChat's.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from modelworker_api.fastchat import Conversation


class SepStyle(IntEnum):
    """FastChat's numbers of the separator styles in use here."""

    ADD_COLON_SINGLE = 1
    LLAMA2 = 7
    LLAMA3 = 8
    CHATML = 10


@dataclass(frozen=True, slots=True)
class _Form:
    """One form of conversation, and the mark by which it is known."""

    mark: str
    name: str
    system_template: str
    roles: tuple[str, str]
    sep_style: SepStyle
    sep: str
    ends: tuple[str, ...]
    """What ends an answer; the first one is the stop string."""
    sep2: str | None = None
    system_message: str = ""


_FORMS: Final = (
    _Form(
        mark="<|im_start|>",
        name="chatml",
        system_template="<|im_start|>system\n{system_message}",
        roles=("<|im_start|>user", "<|im_start|>assistant"),
        sep_style=SepStyle.CHATML,
        sep="<|im_end|>",
        ends=("<|im_end|>", "<|endoftext|>"),
    ),
    _Form(
        mark="<|start_header_id|>",
        name="llama-3",
        system_template="<|start_header_id|>system<|end_header_id|>\n\n{system_message}<|eot_id|>",
        roles=("user", "assistant"),
        sep_style=SepStyle.LLAMA3,
        sep="",
        ends=("<|eot_id|>", "<|end_of_text|>"),
    ),
    _Form(
        mark="<<SYS>>",
        name="llama-2",
        system_template="[INST] <<SYS>>\n{system_message}\n<</SYS>>\n\n",
        roles=("[INST]", "[/INST]"),
        sep_style=SepStyle.LLAMA2,
        sep=" ",
        sep2=" </s><s>",
        ends=("</s>",),
    ),
    _Form(
        mark="[INST]",
        name="mistral",
        system_template="[INST] {system_message}\n",
        roles=("[INST]", "[/INST]"),
        sep_style=SepStyle.LLAMA2,
        sep=" ",
        sep2="</s>",
        ends=("</s>",),
    ),
)
"""In the order in which they are tried: the mark of the third holds the fourth's too."""

_ONE_SHOT: Final = _Form(
    mark="",
    name="one_shot",
    system_template="{system_message}",
    system_message="A person asks, and an assistant answers.",
    roles=("Human", "Assistant"),
    sep_style=SepStyle.ADD_COLON_SINGLE,
    sep="\n### ",
    ends=("###",),
)
"""For a model without a template, or with one of another form."""

# In a Jinja string a line break may be written as it is or as an escape.
_CHATML_SYSTEM: Final = re.compile(r"<\|im_start\|>system(?:\n|\\n)([^'\"]*?)<\|im_end\|>")


def conversation(template: str | None, encode: Callable[[str], Sequence[int]]) -> Conversation:
    """The form of a model's conversations.

    Args:
        template: The model's chat template in Jinja, None if it has none.
        encode: Token ids of a text, without special tokens added.
    """
    text = template or ""
    form = next((form for form in _FORMS if form.mark in text), _ONE_SHOT)
    ends = [ids[0] for ids in map(encode, form.ends) if len(ids) == 1]
    return Conversation(
        name=form.name,
        system_template=form.system_template,
        system_message=form.system_message or _default_system(text),
        system_message_vision="",
        roles=list(form.roles),
        messages=[],
        offset=0,
        sep_style=form.sep_style,
        sep=form.sep,
        sep2=form.sep2,
        stop_str=form.ends[0],
        stop_token_ids=ends or None,
        max_image_size_mb=None,
    )


def _default_system(template: str) -> str:
    """What a ChatML template puts in the system's place where the caller gives nothing."""
    found = _CHATML_SYSTEM.search(template)
    if found is None:
        return ""
    try:
        # As Jinja reads the string.
        return found[1].encode("ascii", "backslashreplace").decode("unicode-escape")
    except UnicodeDecodeError:
        return ""
