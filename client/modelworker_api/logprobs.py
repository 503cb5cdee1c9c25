"""Log-probabilities of the tokens of a prompt, with vLLM's names."""

from pydantic import BaseModel, ConfigDict


class PromptLogprob(BaseModel):
    """One token at one position of a prompt."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)

    logprob: float
    rank: int | None
    """How many tokens are at least as likely there, so 1 for the likeliest one."""
    decoded_token: str


PromptLogprobs = list[dict[int, PromptLogprob] | None]
"""By position of the prompt: the prompt's own token first, then the likeliest ones, by id.

Null at the first position, before which there is nothing.
"""
