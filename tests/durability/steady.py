"""Makes the wall clock of this process one that is never set: for the forkserver, whose children all have it.

Records carry the wall clock's time, and by that time it is told in which life they came about. Machines set their
clocks now and then, back as well, and a record would then seem to be of the life before. Loaded before anything of
ours is, which remembers the function that it reads the time with.
"""

import time

_AHEAD = time.time() - time.monotonic()


def _steady() -> float:
    return _AHEAD + time.monotonic()


time.time = _steady
