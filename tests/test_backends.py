"""The fixture `anyio_backend` and its check are what every async test rests on, so they are tested first."""

from pathlib import Path

import anyio
import pytest
from anyio.lowlevel import checkpoint
from hypothesis import given
from hypothesis import strategies as st

CONFTEST = Path(__file__).with_name("conftest.py")


@pytest.fixture
def project(pytester: pytest.Pytester) -> pytest.Pytester:
    """A small project of its own, with the conftest under test."""
    pytester.makeconftest(CONFTEST.read_text())
    pytester.makeini("[pytest]\nanyio_mode = auto\nfilterwarnings = error\n")
    return pytester


def test_an_async_test_runs_once_on_each_backend(project: pytest.Pytester) -> None:
    project.makepyfile("async def test_it(): pass")

    result = project.runpytest("-v")

    result.assert_outcomes(passed=3)
    result.stdout.fnmatch_lines_random(["*test_it?asyncio? PASSED*", "*?uvloop? PASSED*", "*?trio? PASSED*"])


def test_a_sync_test_runs_once(project: pytest.Pytester) -> None:
    project.makepyfile("def test_it(): pass")

    project.runpytest().assert_outcomes(passed=1)


@pytest.mark.parametrize("claimed", ["asyncio", "uvloop", "trio"])
@pytest.mark.parametrize("real", ["asyncio", "uvloop", "trio"])
def test_a_test_whose_name_lies_about_its_backend_fails(project: pytest.Pytester, claimed: str, real: str) -> None:
    options = {"asyncio": ("asyncio", {}), "uvloop": ("asyncio", {"use_uvloop": True}), "trio": ("trio", {})}
    project.makepyfile(
        f"""
        import pytest

        @pytest.fixture(params=[pytest.param({options[real]!r}, id={claimed!r})])
        def anyio_backend(request):
            return request.param

        async def test_it(): pass
        """
    )

    result = project.runpytest()

    if claimed == real:
        result.assert_outcomes(passed=1)
    else:
        result.assert_outcomes(failed=1)
        result.stdout.fnmatch_lines([f"*test_it?{claimed}? names ?'{claimed}'?, but runs on '{real}'*"])


def test_a_test_that_names_no_backend_fails(project: pytest.Pytester) -> None:
    project.makepyfile(
        """
        import pytest

        @pytest.fixture
        def anyio_backend():
            return "trio"

        async def test_it(): pass
        """
    )

    result = project.runpytest()

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*test_it names no backend, but runs on 'trio'*"])


def test_another_plugin_that_runs_async_tests_on_its_own_backend_is_found_out(
    project: pytest.Pytester,
) -> None:
    # What pytest-trio does when trio_mode is on.
    project.makepyfile(
        hijack="""
        from functools import partial, wraps
        import inspect
        import pytest
        import trio

        @pytest.hookimpl(wrapper=True)
        def pytest_runtest_call(item):
            if inspect.iscoroutinefunction(test := item.obj):
                @wraps(test)
                def on_trio(**kwargs):
                    trio.run(partial(test, **kwargs))
                del on_trio.__wrapped__
                item.obj = on_trio
            return (yield)
        """,
        test_it="async def test_it(): pass",
    )

    project.syspathinsert()
    result = project.runpytest("-p", "hijack")

    result.assert_outcomes(passed=1, failed=2)
    result.stdout.fnmatch_lines(["*test_it?asyncio? names ?'asyncio'?, but runs on 'trio'*"])


def test_a_property_test_is_checked_as_well(project: pytest.Pytester) -> None:
    project.makepyfile(
        """
        import pytest
        from hypothesis import given, settings, strategies as st

        @pytest.fixture(params=["asyncio", "trio"])
        def anyio_backend(request):
            return "asyncio"

        @given(number=st.integers())
        @settings(database=None)
        async def test_it(number): pass
        """
    )

    result = project.runpytest()

    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*test_it?trio? names ?'trio'?, but runs on 'asyncio'*"])


@pytest.fixture
async def event() -> anyio.Event:
    await checkpoint()
    return anyio.Event()


async def test_async_fixtures_share_the_loop_of_their_test(event: anyio.Event) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(event.wait)
        await checkpoint()
        event.set()


@given(number=st.integers(min_value=0, max_value=3))
async def test_property_tests_may_be_async(number: int) -> None:
    for _ in range(number):
        await checkpoint()
