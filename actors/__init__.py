"""A small supervised actor runtime on anyio, the same on asyncio and trio."""
