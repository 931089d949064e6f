"""`python -m examples.embedded_pipeline [asyncio|trio] [--documents N] [--stop-after N]`"""

from __future__ import annotations

import argparse
import sys

if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m examples.embedded_pipeline")
    parser.add_argument("library", nargs="?", choices=("asyncio", "trio"), default="asyncio")
    parser.add_argument("--documents", type=int, default=1_000)
    parser.add_argument("--stop-after", type=int, default=10**9, help="stop cleanly once so many are begun")
    options = parser.parse_args()
    # Each its own file, so that neither library is needed for the other's.
    if options.library == "asyncio":
        import asyncio

        from . import in_asyncio

        asyncio.run(in_asyncio.main(options.documents, options.stop_after))
    else:
        try:
            import trio
        except ModuleNotFoundError:
            sys.exit("error: this example needs trio: pip install -e '.[trio]'")

        from . import in_trio

        trio.run(in_trio.main, options.documents, options.stop_after)
