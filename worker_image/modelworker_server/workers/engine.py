"""The engine thread: it alone calls the model, and hands results to the event loop."""

import logging
import threading
from collections.abc import Callable
from functools import partial
from typing import Protocol

import torch

from modelworker_server.errors import Unavailable
from modelworker_server.workers.base import Load
from modelworker_server.workers.runner import one_line
from modelworker_server.workers.sequences import Call, Event

_log = logging.getLogger(__name__)


class Steps(Protocol):
    """What an engine runs, step by step, in its own thread."""

    events: list[Event]
    """What callers are to get; emptied by the engine."""

    def add(self, call: Call) -> None:
        """Take a call in."""

    def idle(self) -> bool:
        """Whether there is nothing to do."""

    def load(self) -> Load:
        """Requests that have begun and those that wait."""

    def step(self) -> None:
        """Do a part of the work. Raises only what leaves the device unusable."""

    def fail_all(self, error: Exception) -> None:
        """End every call with an error."""


class Engine:
    """Runs a scheduler in a thread of its own.

    Args:
        scheduler: what there is to do.
        post: runs a function on the event loop; called once a step at most.
    """

    def __init__(self, scheduler: Steps, post: Callable[[Callable[[], None]], object]) -> None:
        self._scheduler = scheduler
        self._post = post
        self._changed = threading.Condition()
        self._arrivals: list[Call] = []
        self._stopping = False
        self._over: Unavailable | None = None
        self._load = Load()
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def alive(self) -> bool:
        """Whether calls are still served."""
        return self._over is None

    def load(self) -> Load:
        """Requests inside, as of the last step."""
        return Load(self._load.running, self._load.waiting + len(self._arrivals))

    def submit(self, call: Call) -> None:
        """Hand a call over; its `deliver` gets the results.

        Raises:
            Unavailable: when the engine has ended.
        """
        with self._changed:
            if self._over is not None:
                raise self._over
            self._arrivals.append(call)
            self._changed.notify()

    def close(self) -> None:
        """End the thread after the present step; calls under way end with `Unavailable`."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        over = Unavailable("this worker is shutting down; ask another one")
        try:
            with torch.inference_mode():
                while self._take_in():
                    self._scheduler.step()
                    self._load = self._scheduler.load()
                    self._hand_over()
        except BaseException as error:  # whatever it was, callers must not wait for ever
            _log.critical("the engine died", exc_info=error)
            over = Unavailable(f"this worker's engine died ({one_line(error)}); ask another one")
            over.__cause__ = error
        with self._changed:
            self._over = over
            for call in self._arrivals:
                self._scheduler.add(call)
            self._arrivals = []
        self._scheduler.fail_all(over)
        self._load = Load()
        self._hand_over()

    def _take_in(self) -> bool:
        """Wait for work and take new calls in; False when it is time to stop."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._stopping or self._arrivals or not self._scheduler.idle()
            )
            arrivals, self._arrivals = self._arrivals, []
        for call in arrivals:
            self._scheduler.add(call)
        self._load = self._scheduler.load()
        return not self._stopping

    def _hand_over(self) -> None:
        events, self._scheduler.events = self._scheduler.events, []
        if not events:
            return
        try:
            self._post(partial(_deliver, events))
        except RuntimeError:  # the event loop is closed: nobody waits any more
            self._stopping = True


def _deliver(events: list[Event]) -> None:
    for call, delivery in events:
        call.deliver(delivery)
