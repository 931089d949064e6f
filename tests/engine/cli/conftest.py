"""A folder to run commands in, without what other tests and developers have set."""

import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The working directory of a test, which is empty."""
    for name in [name for name in os.environ if name.startswith("WORKFLOW_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    paths, modules = list(sys.path), set(sys.modules)
    logger = logging.getLogger("engine")
    handlers, level = list(logger.handlers), logger.level
    yield tmp_path
    logger.handlers[:] = handlers
    logger.setLevel(level)
    sys.path[:] = paths
    for name in sys.modules.keys() - modules:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


@pytest.fixture
def flows(folder: Path) -> Path:
    """The graphs of flows.py, in the working directory."""
    for name in ("flows.py", "order.json"):
        (folder / name).write_text(Path(__file__).with_name(name).read_text())
    return folder / "flows.py"
