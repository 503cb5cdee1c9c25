"""The stages of a request before its rows are decoded: waiting, being read, ready to start."""

from dataclasses import dataclass

import torch

from modelworker_server.workers.cache import RowCache
from modelworker_server.workers.sequences import Continuation, Generation


@dataclass(slots=True)
class Job:
    """Tokens to read, and the sequences that go on from them."""

    token_ids: list[int]
    sequences: list[Continuation]

    @property
    def request(self) -> Generation:
        """Whose tokens these are."""
        return self.sequences[0].request


@dataclass(slots=True)
class Reading:
    """Jobs that are read together, or a long one part by part."""

    jobs: list[Job]
    cache: RowCache


@dataclass(slots=True)
class Ready:
    """A job that was read: its row of the prompt cache and the logits after its last token."""

    job: Job
    cache: RowCache
    row: int
    logits: torch.Tensor
