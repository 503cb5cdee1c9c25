"""Goes on with an assistant's last message token by token, whatever the chat template does."""

import functools
from collections.abc import Sequence
from typing import Any


def continue_in_tokens(tokenizer: Any) -> None:
    """Make a tokenizer's `apply_chat_template` put the last message behind the template's text.

    With `continue_final_message` the messages before the last one are rendered with the
    generation prompt, and the last one's content follows as its own tokens. A template that
    trims messages would eat a step's separator otherwise, and a rendering of the whole could
    merge tokens across the border. Everything else is left as it is.
    """
    render = tokenizer.apply_chat_template

    @functools.wraps(render)
    def apply_chat_template(conversation: Any, *arguments: Any, **options: Any) -> Any:
        if not options.get("continue_final_message"):
            return render(conversation, *arguments, **options)
        *before, last = conversation
        content = _continued(before, last)
        whole = {"continue_final_message": False, "add_generation_prompt": True, "tokenize": False}
        head = render(before, *arguments, **{**options, **whole})
        # Token ids in either case: as text the two would be tokenized as one.
        ids: list[int] = tokenizer.encode(head, add_special_tokens=False)
        return ids + tokenizer.encode(content, add_special_tokens=False)

    tokenizer.apply_chat_template = apply_chat_template


def _continued(before: Sequence[Any], last: Any) -> str:
    """The text that is to be gone on with."""
    if last["role"] != "assistant":
        raise ValueError(
            "continue_final_message needs a last message of role assistant, this one's is "
            f"{last['role']!r}"
        )
    if not before:
        raise ValueError("continue_final_message needs a message before the last one")
    content = last.get("content")
    if isinstance(content, list) and all(part.get("type") == "text" for part in content):
        return "\n".join(part["text"] for part in content)
    if not isinstance(content, str):
        raise TypeError("continue_final_message needs a last message of text alone")
    return content
