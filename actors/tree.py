"""What all actors of one supervision tree share."""

from __future__ import annotations

import inspect
import logging
import random
from collections.abc import Callable

from .letters import DeadLetter, DeadLetters
from .observer import NullObserver, Observer

logger = logging.getLogger("actors")


class Tree:
    """The observer, the dead letters and the source of jitter of one tree."""

    def __init__(self, observer: Observer | None = None, *, jitter: Callable[[], float] = random.random) -> None:
        self.observer: Observer = NullObserver() if observer is None else _checked(observer)
        self.letters = DeadLetters(self._observe_letter)
        self.jitter = jitter
        self._shows_a_letter = False

    def observe(self, look: Callable[..., object], *what: object) -> None:
        """Call one method of the observer; what it raises is logged and goes no further."""
        try:
            look(*what)
        except Exception:
            logger.exception("the observer raised in %s", getattr(look, "__name__", look))

    def _observe_letter(self, letter: DeadLetter) -> None:
        # An observer that answers a dead letter by a message to the dead would be called for ever.
        if not self._shows_a_letter:
            self._shows_a_letter = True
            try:
                self.observe(self.observer.dead_letter, letter)
            finally:
                self._shows_a_letter = False


def _checked(observer: Observer) -> Observer:
    """Refuse, before anything runs, what would fail in the middle of an actor's end."""
    methods = [name for name in vars(NullObserver) if not name.startswith("_")]
    missing = [name for name in methods if not callable(getattr(observer, name, None))]
    if missing:
        raise TypeError(f"observer {observer!r} has no {', '.join(missing)}: derive it from NullObserver")
    waiting = [name for name in methods if inspect.iscoroutinefunction(getattr(observer, name))]
    if waiting:
        raise TypeError(f"observer {observer!r}: {', '.join(waiting)} must not be async: nobody could await it")
    return observer
