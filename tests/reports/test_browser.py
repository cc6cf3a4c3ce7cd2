"""The page in a real headless Chromium: three widths, both themes, paper, and axe-core.

Needs the Python package ``playwright``, a Chromium (``CHROMIUM`` or on the path), and for the
accessibility check ``axe.min.js`` (``AXE_CORE``, or in ``node_modules``).
"""

import os
import shutil
from pathlib import Path

import pytest

from pytest_datasize.reports.formats import html_page

sync_api = pytest.importorskip("playwright.sync_api", reason="the package playwright is missing")

WIDTHS = (360, 800, 1280)


def chromium() -> str | None:
    names = ("chromium", "chromium-browser", "google-chrome")
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, names)), None)


def axe() -> Path | None:
    places = [os.environ.get("AXE_CORE"), "node_modules/axe-core/axe.min.js"]
    return next((Path(place) for place in places if place and Path(place).is_file()), None)


@pytest.fixture(scope="module")
def browser():
    program = chromium()
    if program is None:
        pytest.skip("no Chromium: install one, or name it in CHROMIUM")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def address(odd_run, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "report.html"
    html_page.write(path, odd_run)
    return path.as_uri()


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_the_page_is_accessible_and_silent(browser, address, width, theme, tmp_path):
    page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=theme)
    said, asked = [], []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(address)
    picture = page.screenshot(path=tmp_path / "page.png", full_page=True)
    assert len(picture) > 20_000
    assert said == []
    assert asked == [address]
    wider = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
    assert wider <= 0, "the page itself must not scroll sideways"
    if script := axe():
        page.evaluate(script.read_text(encoding="utf-8"))
        violations = page.evaluate("axe.run()")["violations"]
        assert [(v["id"], [node["html"] for node in v["nodes"]]) for v in violations] == []
    page.close()
    if axe() is None:
        pytest.skip("no axe-core: the page is silent and fits, its accessibility was not checked")


def test_the_other_axis_is_shown_by_keyboard_without_scripts(browser, address):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(address)
    log, linear = page.locator("figure .log").first, page.locator("figure .linear").first
    assert log.is_visible()
    assert not linear.is_visible()
    page.locator("#axis1-log").focus()
    page.keyboard.press("ArrowRight")
    assert linear.is_visible()
    assert not log.is_visible()
    context.close()


def test_on_paper_the_page_is_light_and_fits(browser, address, tmp_path):
    page = browser.new_page(color_scheme="dark", viewport={"width": 700, "height": 900})
    page.goto(address)
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    wider = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
    assert wider <= 0
    assert page.pdf(path=tmp_path / "page.pdf", format="A4").startswith(b"%PDF")
    page.close()
