"""Which engines there are, and where each is imported from."""

from __future__ import annotations

import importlib
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

from .peer import Peer

ADAPTERS: Final = {  # name -> module and class, in the order of the table
    "workflow-engine": ("ours", "Ours"),
    "workflow-engine strict": ("ours", "OursStrict"),
    "asyncio": ("floor_asyncio", "Floor"),
    "anyio": ("floor_anyio", "AnyioFloor"),
    "langgraph": ("langgraph", "LangGraph"),
    "langgraph sync": ("langgraph", "LangGraphSync"),
    "pydantic-graph classic": ("pydantic_classic", "Classic"),
    "pydantic-graph builder": ("pydantic_builder", "Builder"),
    "burr": ("burr", "Burr"),
    "llama-index-workflows": ("llamaindex", "LlamaIndex"),
    "haystack": ("haystack", "Haystack"),
    "dbos": ("dbos", "Dbos"),
}
OURS: Final = "workflow-engine"
FLOOR: Final = "asyncio"
ONLY_DURABLE: Final = {"workflow-engine strict", "langgraph sync"}  # elsewhere the same as the one before

# pydantic-graph's first API went with version 2, and one environment holds one version. So it lives in a folder of its
# own, which only its process sees.
CLASSIC: Final = "pydantic-graph==1.107.10"
OWN_FOLDER: Final = {"pydantic-graph classic": Path(__file__).parents[3] / ".bench" / "pydantic-graph-classic"}
HOW_TO_INSTALL: Final = "pip install -e '.[bench]' && python -m tests.benchmarks.peers --install-classic"


class NotInstalled(Exception):
    """The engine of an adapter is not here."""


def load(name: str) -> Peer:
    """The adapter of this name; to be called in a process that is its own."""
    if folder := OWN_FOLDER.get(name):
        if not folder.is_dir():
            raise NotInstalled(f"{name}: {CLASSIC} is not installed; {HOW_TO_INSTALL}")
        sys.path.insert(0, str(folder))
    module, adapter = ADAPTERS[name]
    try:
        found = importlib.import_module(f"{__package__}.adapters.{module}")
    except ModuleNotFoundError as error:
        raise NotInstalled(f"{name}: there is no module {error.name!r} here; {HOW_TO_INSTALL}") from None
    return getattr(found, adapter)()


def versions(peer: Peer) -> dict[str, str]:
    """The versions of what the adapter measures."""
    return {distribution: _version(distribution) for distribution in peer.distributions}


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "from this folder"  # ours, run without being installed
