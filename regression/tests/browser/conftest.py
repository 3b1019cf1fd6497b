"""The system's Chromium, without a window: a page that it looks at asks for nothing and complains of none."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, Route, sync_playwright

Look = Callable[..., Page]

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_LACKING = "the page is looked at in Chromium, and there is none: apt-get install chromium, or set CHROMIUM"


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """The browser; without one every test fails."""
    program = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, _NAMES)), None)
    if not program:
        pytest.fail(_LACKING, pytrace=False)
    with sync_playwright() as playwright:
        no_sandbox = ["--no-sandbox"] * (os.geteuid() == 0)  # which Chromium does not have for root
        browser = playwright.chromium.launch(executable_path=program, args=no_sandbox)
        yield browser
        browser.close()


@pytest.fixture
def look(chromium: Browser) -> Iterator[Look]:
    """Open a page, with options of a browser's context; at the end it has said and asked for nothing."""
    said: list[str] = []
    asked: list[str] = []
    opened: list[tuple[Page, str]] = []

    def block(route: Route) -> None:
        asked.append(route.request.url)
        if route.request.url.startswith("file:"):
            route.continue_()
        else:
            route.abort()

    def open_page(
        path: Path, *, place: str = "", width: int = 1280, height: int = 900, **options: Any
    ) -> Page:
        context = chromium.new_context(viewport={"width": width, "height": height}, **options)
        context.set_default_timeout(20_000)
        context.route("**/*", block)
        page = context.new_page()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.goto(path.as_uri() + place)
        opened.append((page, path.as_uri()))
        return page

    yield open_page
    for page, _ in opened:
        page.context.close()
    assert said == []
    assert [url.partition("#")[0] for url in asked] == [address for _, address in opened]
