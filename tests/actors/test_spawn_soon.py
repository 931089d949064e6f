"""A dynamic supervisor can be told to start a child by somebody who does not wait for it."""

import logging
from typing import Any

import pytest

from actors import Actor, ChildSpec, Supervisor, supervise
from actors.testing import Probe


class Announced(Actor[Any]):
    def __init__(self, probe: Probe[str], failures: list[int]) -> None:
        self.probe = probe
        self.failures = failures

    async def on_start(self) -> None:
        if self.failures:
            raise RuntimeError(f"failure {self.failures.pop()}")
        self.probe.record("up")

    async def receive(self, message: Any) -> Any:
        return message


def pool() -> ChildSpec:
    return Supervisor.spec("pool", [ChildSpec("child", Announced)], strategy="dynamic")


async def test_a_child_spawned_soon_comes_up() -> None:
    probe: Probe[str] = Probe()
    async with supervise([pool()]) as root:
        root.supervisor("pool").spawn_soon(probe, [])
        await probe.wait_for(1)


async def test_a_child_spawned_soon_that_fails_to_start_is_tried_again() -> None:
    probe: Probe[str] = Probe()
    async with supervise([pool()]) as root:
        root.supervisor("pool").spawn_soon(probe, [1, 2])
        await probe.wait_for(1)
        (status,) = root.supervisor("pool").status()

    assert status.crashes == 2


async def test_a_name_in_use_is_an_error_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    probe: Probe[str] = Probe()
    async with supervise([pool()]) as root:
        with caplog.at_level(logging.ERROR, "actors"):
            root.supervisor("pool").spawn_soon(probe, [], name="same")
            root.supervisor("pool").spawn_soon(probe, [], name="same")
            await probe.wait_for(1)
            await root.supervisor("pool").spawn(probe, [])

    assert "could not spawn" in caplog.text


async def test_only_dynamic_supervisors_spawn() -> None:
    async with supervise() as root:
        with pytest.raises(ValueError, match="not dynamic"):
            root.spawn_soon()
