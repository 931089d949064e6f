"""Send 2 GB through an engine and tell how much memory it took: `python -m tests.large_files [BYTES] [ADDRESS]`.

Too long for every run of the tests, which do the same with a tenth of it. It needs three times as much room on the
disk: the contents, a copy of them, and the database.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from tests.engine.test_files_durable import most_memory


def main() -> None:
    """On each backend, in a process of its own."""
    size = int(sys.argv[1]) if len(sys.argv) > 1 else 2 << 30
    for backend in ("asyncio", "trio"):
        with tempfile.TemporaryDirectory() as folder:
            found = most_memory(Path(folder), size, backend, *sys.argv[2:3])
            print(f"{backend}: {size >> 20} MB made, taken, saved and submitted; at most {found} MB of memory")


if __name__ == "__main__":
    main()
