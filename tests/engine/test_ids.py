"""New ids never come twice, and later ones stand behind earlier ones."""

import os
import re
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from engine.ids import new_id


def test_an_id_is_32_hex_digits():
    assert re.fullmatch("[0-9a-f]{32}", new_id())


def test_ids_are_in_the_order_of_their_making():
    found = []
    for _ in range(3):
        found.append(new_id())
        time.sleep(0.002)  # the clock counts milliseconds

    assert found == sorted(found)


def test_no_two_threads_get_the_same_id():
    with ThreadPoolExecutor(8) as threads:
        found = [id for ids in threads.map(lambda _: [new_id() for _ in range(1_000)], range(16)) for id in ids]

    assert len(set(found)) == len(found) == 16_000


@pytest.mark.skipif(sys.platform == "win32", reason="there is no fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_process_that_was_forked_gives_other_ids_than_its_parent():
    new_id()  # so that some are ready
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.write(writing, new_id().encode())
        os._exit(0)

    os.waitpid(child, 0)
    theirs = os.read(reading, 100).decode()
    os.close(reading)
    os.close(writing)

    assert theirs[-20:] not in [new_id()[-20:] for _ in range(1_000)]
