"""The page in a browser: read without colour, a mouse, a script, a wide screen, or a screen at all."""

import re
from itertools import pairwise
from pathlib import Path

import pytest
from playwright.sync_api import Page

from ..page_reports import HOSTILE, conformance, failing, hostile, page, record, report
from .conftest import Look

EVERY_PAGE = ("failing", "hostile", "two", "all")

UNREADABLE = """() => {
  const parts = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const luminance = (colour) => parts(colour).slice(0, 3).map((part) => part / 255)
    .map((part) => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4)
    .reduce((sum, part, at) => sum + part * [0.2126, 0.7152, 0.0722][at], 0);
  const behind = (element) => {
    for (let of = element; of; of = of.parentElement) {
      const colour = getComputedStyle(of).backgroundColor;
      if ((parts(colour)[3] ?? 1) === 1) return colour;
    }
    return "rgb(255, 255, 255)";
  };
  return [...document.querySelectorAll("body *")].filter((element) =>
    [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim())
    && !["SCRIPT", "OPTION"].includes(element.tagName)
  ).filter((element) => {
    const both = [getComputedStyle(element).color, behind(element)];
    const [low, high] = both.map(luminance).sort((a, b) => a - b);
    return (high + 0.05) / (low + 0.05) < 4.5;
  }).map((element) => element.outerHTML.slice(0, 120));
}"""
"""Elements with text whose contrast is below WCAG's level AA, as the browser has computed them."""


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Pages by name."""
    folder = tmp_path_factory.mktemp("pages")
    better = report(*(record(layout, checkpoint="packed") for layout in ("tp1", "tp2", "ep2", "ep4")))
    reports = {
        "failing": [failing()],
        "hostile": [hostile()],
        "two": [failing(), better],
        "all": [conformance()],
    }
    for name, given in reports.items():
        page(folder / f"{name}.html", *given)
    return {name: folder / f"{name}.html" for name in reports}


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", EVERY_PAGE)
def test_all_text_can_be_read(name: str, scheme: str, pages: dict[str, Path], look: Look) -> None:
    """And the page says nothing on the console and asks for nothing, as any page that is looked at."""
    shown = look(pages[name], color_scheme=scheme)
    assert shown.evaluate("document.querySelectorAll('body *').length") > 100
    assert shown.evaluate(UNREADABLE) == []


def test_themes_differ(pages: dict[str, Path], look: Look) -> None:
    light, dark = (
        look(pages["failing"], color_scheme=scheme).evaluate(
            "getComputedStyle(document.body).backgroundColor"
        )
        for scheme in ("light", "dark")
    )
    assert light != dark
    assert (
        look(pages["failing"], color_scheme="light").screenshot()
        != look(pages["failing"], color_scheme="dark").screenshot()
    )


def test_markup_of_a_report_does_nothing(pages: dict[str, Path], look: Look) -> None:
    shown = look(pages["hostile"])
    shown.get_by_role("button", name="Open all").click()
    shown.wait_for_timeout(300)
    assert "owned" not in shown.title().replace(HOSTILE, "")
    assert shown.locator("img").count() == 0
    assert shown.locator("pre").first.text_content() == HOSTILE


@pytest.mark.parametrize("name", EVERY_PAGE)
def test_what_assistive_software_goes_by(name: str, pages: dict[str, Path], look: Look) -> None:
    shown = look(pages[name])
    count = {
        "h1": "h1",
        "table without a caption": "table:not(:has(> caption:not(:empty, [hidden])))",
        "header cell without a scope": "th:not([scope])",
        "picture without words": "img:not([alt]), svg:not([aria-hidden], [role=img])",
        "control without a name": "input:not(label input), button:empty",
        "region without a name": "[role=region]:not([aria-label], [aria-labelledby])",
        "link to nowhere": "a:not([href^='#'])",
        "details without a summary": "details:not(:has(> summary:first-child))",
        "control that is none": "div[onclick], span[onclick], [role=button]",
    }
    found = {what: shown.locator(selector).count() for what, selector in count.items()}
    assert found == dict.fromkeys(count, 0) | {"h1": 1}
    assert shown.locator("html").get_attribute("lang") == "en"
    ids = shown.evaluate("[...document.querySelectorAll('[id]')].map((element) => element.id)")
    assert len(ids) == len(set(ids)) > 0
    lost = "[...document.links].map((a) => a.hash.slice(1)).filter((id) => !document.getElementById(id))"
    assert shown.evaluate(lost) == []
    levels = shown.evaluate("[...document.querySelectorAll('h1,h2,h3,h4')].map((h) => Number(h.tagName[1]))")
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))


def opened(shown: Page) -> list[str]:
    """The names of the cells that are open."""
    return shown.locator("details.case[open] > summary .name").all_inner_texts()


def test_keyboard_reaches_every_control(pages: dict[str, Path], look: Look) -> None:
    shown = look(pages["failing"])
    controls = "a, summary, input, button"
    visible = "(e) => e.checkVisibility() && (e.type !== 'radio' || e.checked)"
    wanted = shown.evaluate(f"[...document.querySelectorAll('{controls}')].filter({visible}).length")
    reached = set()
    for _ in range(wanted + 10):
        shown.keyboard.press("Tab")
        at = f"[...document.querySelectorAll('{controls}')].indexOf(document.activeElement)"
        reached.add(shown.evaluate(at))
        if shown.evaluate("document.activeElement !== document.body"):
            outline = shown.evaluate("getComputedStyle(document.activeElement).outline")
            assert "solid 3px" in outline
    assert len(reached - {-1}) == wanted
    assert wanted > 15


def test_keyboard_opens_a_cell(pages: dict[str, Path], look: Look) -> None:
    shown = look(pages["failing"])
    shown.keyboard.press("Tab")
    assert shown.locator(":focus").inner_text() == "Skip to the result"
    shown.locator("details.case > summary").nth(1).focus()
    shown.keyboard.press("Enter")
    assert opened(shown) == ["per-expert, tp2"]
    shown.get_by_role("link", name="crash-export in packed, ep2").focus()
    shown.keyboard.press("Enter")
    assert opened(shown) == ["per-expert, tp2", "packed, ep2"]
    assert shown.get_by_text("12 tensors not exact in native, the first 5").is_visible()


@pytest.mark.parametrize("script", [True, False])
def test_filter_without_a_script_too(script: bool, pages: dict[str, Path], look: Look) -> None:
    shown = look(pages["two"], java_script_enabled=script)
    names = shown.locator("details.case:visible > summary .name")
    assert names.count() == 7
    shown.get_by_label("what failed", exact=True).check()
    assert names.all_inner_texts() == ["packed, ep2"]
    assert shown.locator("table.grid tbody:visible").count() == 1
    shown.get_by_label("what changed", exact=True).check()
    assert names.all_inner_texts() == ["packed, ep2"]
    shown.get_by_label("all", exact=True).check()
    assert names.count() == 7
    assert shown.get_by_role("button", name="Open all").is_visible() is script
    shown.get_by_role("link", name="exact in packed, tp2").first.click()
    assert opened(shown) == ["packed, tp2"]


def test_search_by_name(pages: dict[str, Path], look: Look) -> None:
    shown = look(pages["all"])
    shown.get_by_role("searchbox").fill("scenario-7 tp2")
    names = shown.locator("details.case:visible > summary .name").all_inner_texts()
    assert len(names) == 11
    assert all(name.startswith("scenario-7") for name in names)
    assert shown.locator("#count").inner_text() == f"{len(names)} of 124 cells"
    shown.get_by_role("button", name="Open all").click()
    assert len(opened(shown)) == len(names)


@pytest.mark.parametrize("name", EVERY_PAGE)
@pytest.mark.parametrize("width", [360, 1280, 2200])
def test_no_page_is_wider_than_the_screen(width: int, name: str, pages: dict[str, Path], look: Look) -> None:
    shown = look(pages[name], width=width)
    shown.evaluate("document.querySelectorAll('details').forEach((found) => (found.open = true))")
    assert shown.evaluate("document.documentElement.scrollWidth") <= width


def test_print_shows_what_failed(pages: dict[str, Path], look: Look) -> None:
    """Without a script: what failed is open, its traceback too, and nothing is cut off."""
    shown = look(pages["failing"], java_script_enabled=False, color_scheme="dark")
    crash = shown.locator("pre").first
    assert not crash.is_visible()
    shown.emulate_media(media="print", color_scheme="dark")
    assert opened(shown) == []
    for element in (crash, shown.get_by_text("12 tensors not exact in native, the first 5")):
        assert element.evaluate("(element) => element.checkVisibility()")
    assert not shown.get_by_label("what failed", exact=True).is_visible()
    assert not shown.locator("details.case:not(.failed)").first.is_visible()
    cut = "(e) => ['overflowX', 'overflowY', 'maxHeight'].map((name) => getComputedStyle(e)[name])"
    for element in shown.locator(".scroll, pre").all():
        assert element.evaluate(cut) == ["visible", "visible", "none"]
    shown.set_viewport_size({"width": 1030, "height": 700})  # A4, across, within its margins
    assert shown.evaluate("document.documentElement.scrollWidth") <= 1030
    assert shown.evaluate(UNREADABLE) == []
    paper = shown.pdf(prefer_css_page_size=True)
    assert paper.startswith(b"%PDF-")
    assert 1 <= len(re.findall(rb"/Type\s*/Page\b", paper)) <= 4
