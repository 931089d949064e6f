"""The library that the extra `client` brings; whoever lacks it is told so."""

from __future__ import annotations

try:
    import httpx2 as httpx2
except ModuleNotFoundError as error:
    if error.name != "httpx2":
        raise
    raise ImportError(
        "the client needs httpx2, which is not installed: pip install 'workflow-engine[client]'", name="httpx2"
    ) from error
