"""An executor as a user may write one: README's example."""

from typing import Any

import anyio.to_thread

from engine import BaseExecutor, Capabilities, Work


class AnyioExecutor(BaseExecutor):
    """Calls in anyio's threads."""

    capabilities = Capabilities(shares_memory=True, sees_context=True)

    def __init__(self, limit: int = 4) -> None:
        super().__init__(limit)

    async def submit(self, work: Work) -> Any:
        """Make the call in a thread."""
        async with self.place():
            return await anyio.to_thread.run_sync(work, abandon_on_cancel=True)
