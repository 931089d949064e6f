"""Handing a run what was put into its inbox."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from .errors import EngineError
from .format import unpack_values
from .handle import Run
from .keeper import keeper_of
from .keeping import RunJournal
from .logs import about
from .stored import Collect

logger = logging.getLogger("engine")


def hand_over(run: Run, inbox: Sequence[tuple[str, bytes]], blobs: Mapping[str, bytes] = {}) -> None:
    """Do what was asked of a run, each together with its removal from the inbox: so it is done once."""
    for id, data in inbox:
        keeper = keeper_of(run.machine)
        assert isinstance(keeper, RunJournal)
        with keeper.beside(Collect(run.id, [id])):
            try:
                _do(run, unpack_values(data, blobs))
            except EngineError as error:
                logger.warning(
                    "what was asked of run %s was in vain: %s", run.id, error, extra=about(run.id, run.graph)
                )


def _do(run: Run, asked: Mapping[str, Any]) -> None:
    match asked.get("do"):
        case "cancel":
            run.take_cancel(asked["reason"])
        case "pause":
            run.take_pause()
        case "resume":
            run.take_resume()
        case _:
            run.take_signal(asked["name"], asked["payload"], asked["id"])
