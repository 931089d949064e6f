"""`/docs` as people see it: the real service, headless Chromium, nothing asked of anybody else."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest

from tests.engine.cli.test_serve import DEFINITION, Process, service
from tests.engine.cli.test_serve import TOOLS as ESSAY_TOOLS

# Asked by a path, so that Playwright looks for no browser of its own. Without these Chromium asks its maker for news.
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@attrs.define
class Browser:
    """A page, and all that happened in it."""

    page: Any
    requests: list[str] = attrs.field(factory=list)
    complaints: list[str] = attrs.field(factory=list)

    def violations(self) -> list[str]:
        """What the content security policy has stopped."""
        found: list[str] = self.page.evaluate("window.violations")
        return found


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        pytest.skip("chromium is not installed (apt-get install chromium)")
    sync_api = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed (pip install -e '.[dev]')"
    )
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def browser(chromium: Any) -> Iterator[Browser]:
    context = chromium.new_context(viewport={"width": 1280, "height": 1600})
    page = context.new_page()
    found = Browser(page)
    page.on("request", lambda request: found.requests.append(request.url))
    page.on("console", lambda message: message.type in ("error", "warning") and found.complaints.append(message.text))
    page.on("pageerror", lambda error: found.complaints.append(str(error)))
    page.add_init_script(
        "window.violations = [];"
        "document.addEventListener('securitypolicyviolation', event => window.violations.push(event.blockedURI));"
    )
    yield found
    context.close()


@pytest.fixture(scope="module", params=["asyncio", "trio"])
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    folder: Path = tmp_path_factory.mktemp("docs")
    (folder / "essay.json").write_text(json.dumps(DEFINITION))
    (folder / "essay_tools.py").write_text(ESSAY_TOOLS)
    words = ["--graphs", "essay.json", "--tools", "essay_tools", "--port", "0", "--store", "memory:"]
    with service(folder, *words, "--backend", request.param) as process:
        yield process


def test_the_page_shows_every_operation_and_asks_nobody_else(browser: Browser, served: Process, tmp_path: Path) -> None:
    answer = browser.page.goto(f"{served.address}/docs", wait_until="networkidle")
    browser.page.wait_for_selector("#operations-runs-submit_run")
    shown = browser.page.locator(".opblock").count()
    paths = served.ask("/openapi.json")[1]["paths"]
    browser.page.screenshot(path=tmp_path / "docs.png", full_page=True)

    assert shown == sum(map(len, paths.values()))
    assert browser.page.title() == "workflow-engine"
    assert {url.split("/", 3)[2] for url in browser.requests if not url.startswith("data:")} == {
        served.address.removeprefix("http://")
    }
    assert (browser.complaints, browser.violations()) == ([], [])
    policy = answer.headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "unsafe" not in policy
    assert (tmp_path / "docs.png").stat().st_size > 50_000, "something is drawn"


def test_an_operation_is_tried_out_in_the_page(browser: Browser, served: Process) -> None:
    browser.page.goto(f"{served.address}/docs", wait_until="networkidle")
    operation = browser.page.locator("#operations-graphs-list_graphs")
    operation.locator(".opblock-summary-control").click()
    operation.get_by_role("button", name="Try it out").click()
    operation.get_by_role("button", name="Execute").click()
    operation.locator(".live-responses-table .response-col_status").filter(has_text="200").wait_for()
    said = operation.locator(".live-responses-table .highlight-code").inner_text()

    assert '"essay"' in said
    assert (browser.complaints, browser.violations()) == ([], [])


def test_whatever_else_a_page_might_load_is_stopped(browser: Browser, served: Process) -> None:
    browser.page.goto(f"{served.address}/docs", wait_until="networkidle")
    browser.page.evaluate(
        """() => {
            for (const source of ["http://elsewhere.invalid/x.js", null]) {
                const script = document.createElement("script");
                if (source) { script.src = source; } else { script.textContent = "window.ran = true"; }
                document.head.append(script);
            }
            fetch("http://elsewhere.invalid/").catch(() => {});
        }"""
    )
    browser.page.wait_for_function("window.violations.length >= 3")

    assert sorted(browser.violations()) == ["http://elsewhere.invalid/", "http://elsewhere.invalid/x.js", "inline"]
    assert browser.page.evaluate("window.ran") is None
    assert len(browser.complaints) >= 3, "the other tests would have seen it"
