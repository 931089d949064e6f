"""The command `workflow-engine`, or `python -m workflow_engine`: nothing but a beginning that can be interrupted.

To import the engine takes a quarter of a second, and `engine.cli` cannot be had without. Ctrl-C in that time would be
a traceback out of whatever was just imported, so this stands outside of it, and imports nothing before it is ready.
"""

import os
import signal
import sys


def main() -> int:
    """Run the command line; its exit code."""
    before = signal.getsignal(signal.SIGINT)
    if before is signal.default_int_handler:  # else somebody wants Ctrl-C ignored, as `nohup` and `&` do
        signal.signal(signal.SIGINT, _leave)
    from engine.cli import main as command

    signal.signal(signal.SIGINT, before)
    code = command()
    if before is signal.default_int_handler:  # what there was to do is done and told
        signal.signal(signal.SIGINT, lambda *_: os._exit(code))
    return code


def _leave(*_: object) -> None:
    """Nothing has begun that would have to be ended."""
    os.write(2, b"interrupted\n")
    os._exit(130)


if __name__ == "__main__":
    sys.exit(main())
