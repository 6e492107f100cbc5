"""The page of an audit in a browser: Debian's Chromium, driven by Playwright, judged by axe-core."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from lockbuild.process import find_tool
from lockbuild.report import html
from lockbuild.report.since import audited
from lockbuild.results import json_document
from tests.needs import missing, need
from tests.reports import component, finding, large_result, small_result
from tests.test_report import TEXTS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, Page

    from lockbuild.results import Result

WIDTHS = (360, 800, 1440)
THEMES = ("light", "dark")
SOME = 5
"""Of each kind of component so many are shown to axe, which takes its time: one looks like the other."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    need("chromium")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        missing("`playwright` is not installed: pip install playwright")
    with sync_playwright() as playwright:
        # The sandbox of Chromium does not start as root; what it opens here is ours.
        made = playwright.chromium.launch(executable_path=find_tool("chromium"), chromium_sandbox=False)
        yield made
        made.close()


class Site:
    """A web server of one page, and what was asked of it."""

    def __init__(self, text: str) -> None:
        self.asked: list[str] = []
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                site.asked.append(self.path)
                self.send_response(200)
                self.send_header("Content-Type", "text/html; charset=utf-8")
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
                del format, args

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_port}/report"


@contextmanager
def served(text: str) -> Iterator[Site]:
    site = Site(text)
    thread = threading.Thread(target=site.server.serve_forever)
    thread.start()
    try:
        yield site
    finally:
        site.server.shutdown()
        thread.join()
        site.server.server_close()


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    """The page of a large audit."""
    with served(with_changes(large_result())) as made:
        yield made


@pytest.fixture(scope="module")
def short_site() -> Iterator[Site]:
    """The same with fewer components."""
    result = large_result()
    some = [
        part
        for kind in {part.kind for part in result.components}
        for part in [one for one in result.components if one.kind == kind and one.requested][:SOME]
    ]
    needed = {need for part in some for need in part.needs}
    kept = [one for one in result.components if one in some or one.ref in needed or not one.in_image]
    with served(with_changes(replace(result, components=tuple(kept)))) as made:
        yield made


def with_changes(result: Result) -> str:
    """Return the page of *result*, compared with an audit that found and held other things."""
    first, *rest = result.components
    old = (component("wheel", "gone"), replace(first, version="0.1", licence="MIT"), *rest[2:])
    before = json_document(small_result(finding("secrets", "a", "b"), parts=old))
    return html(result, templates=TEXTS, earlier=audited({**before, "lock": "0" * 64}))


@contextmanager
def opened(browser: Browser, site: Site, **options: Any) -> Iterator[Page]:
    """Open the page; whatever it complains of fails the test."""
    complaints: list[str] = []
    context = browser.new_context(**options)
    page = context.new_page()
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(site.address)
    yield page
    context.close()
    assert complaints == []


@pytest.fixture
def page(browser: Browser, site: Site) -> Iterator[Page]:
    with opened(browser, site, viewport={"width": 1440, "height": 900}) as made:
        yield made


def findings(page: Page) -> list[str]:
    """Return the subjects that are shown."""
    return page.locator("#findings tbody tr:visible .subject").all_inner_texts()


def press(page: Page, key: str, until: str) -> None:
    """Press *key* until what has the focus fits the selector *until*."""
    for _ in range(60):
        page.keyboard.press(key)
        if page.evaluate("selector => document.activeElement.matches(selector)", until):
            return
    pytest.fail(f"{key} does not lead to {until}")


def test_no_request_leaves_the_page(browser: Browser) -> None:
    with served(html(large_result(), templates=TEXTS)) as site:
        requests: list[str] = []
        with opened(browser, site) as page:
            page.on("request", lambda request: requests.append(request.url))
            page.reload()
            page.fill("#findings input[type=search]", "pillow")
            page.click("#components th button")
            page.click("nav a >> nth=-1")
            page.emulate_media(media="print", color_scheme="dark")
            page.wait_for_load_state("networkidle")
        assert site.asked == ["/report", "/report"]
        assert [url for url in requests if not url.startswith("data:")] == [site.address]


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("theme", THEMES)
def test_axe_finds_nothing(browser: Browser, short_site: Site, theme: str, width: int) -> None:
    from axe_playwright_python.sync_playwright import Axe

    options = {"color_scheme": theme, "viewport": {"width": width, "height": 900}}
    with opened(browser, short_site, **options) as page:
        page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
        # That of WCAG 2.2 is off by itself.
        found = Axe().run(page, options={"rules": {"target-size": {"enabled": True}}}).response
        assert {"color-contrast", "region", "target-size"} <= {one["id"] for one in found["passes"]}
        assert [
            (one["id"], node["html"], node.get("failureSummary"))
            for one in found["violations"]
            for node in one["nodes"]
        ] == []


@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_is_wider_than_the_window(browser: Browser, site: Site, width: int) -> None:
    with opened(browser, site, viewport={"width": width, "height": 900}) as page:
        page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
        assert page.evaluate("document.documentElement.scrollWidth") == width


def test_findings_are_filtered_by_keyboard(page: Page) -> None:
    shown = page.locator("#findings .shown")
    assert shown.inner_text() == "All 11 findings shown"
    press(page, "Tab", "#findings input[type=search]")
    page.keyboard.type("pillow cve")
    assert findings(page) == ["pillow", "pillow"]
    assert shown.inner_text() == "2 of 11 findings shown"
    assert shown.get_attribute("role") == "status"
    press(page, "Tab", "input[value=waived]")
    page.keyboard.press("Space")
    assert findings(page) == ["pillow"]
    # Checks of which nothing is left are gone with their headings.
    assert page.locator("#findings details.group:visible").count() == 1
    press(page, "Shift+Tab", "#findings input[type=search]")
    page.keyboard.press("ControlOrMeta+a")
    page.keyboard.type("licence-unknown")
    assert len(findings(page)) == 4


def test_groups_fold_by_keyboard(page: Page) -> None:
    press(page, "Tab", "#findings details.group:first-of-type > summary")
    page.keyboard.press("Enter")
    assert "torch" not in findings(page)
    fold = page.locator("[data-fold]")
    fold.press("Enter")
    assert findings(page) == []
    assert fold.inner_text() == "Unfold all"
    fold.press("Enter")
    assert len(findings(page)) == 11


def test_components_are_sorted_by_keyboard(page: Page) -> None:
    header = page.locator("#components th", has_text="Size")
    button = header.get_by_role("button")
    names = page.locator("#components tbody th")
    button.press("Enter")
    assert header.get_attribute("aria-sort") == "ascending"
    assert names.first.inner_text() == "smpl"
    button.press("Enter")
    assert header.get_attribute("aria-sort") == "descending"
    assert names.first.inner_text() == "torch"
    page.locator("#components th", has_text="Version").get_by_role("button").press("Enter")
    assert header.get_attribute("aria-sort") is None
    assert names.last.inner_text() == "certifi"


def test_components_are_filtered(page: Page) -> None:
    form = page.locator("#components form")
    form.get_by_label("Kind").select_option("wheel")
    form.get_by_label("Where").select_option("outside")
    assert form.locator(".shown").inner_text() == "6 of 203 components shown"
    form.get_by_label("Search").fill("setup")
    assert page.locator("#components tbody th:visible").all_inner_texts() == ["setuptools"]


def test_a_link_to_a_component_shows_it_though_it_was_filtered_out(page: Page) -> None:
    page.fill("#components input[type=search]", "nothing is called so")
    page.locator(".ranked a", has_text="triton").click()
    row = page.locator("#components tr", has=page.locator("th", has_text="triton"))
    row.locator(".more").wait_for(state="visible")
    assert "needed by" in row.inner_text()


def test_a_link_shows_a_component_again_once_it_was_filtered_out_again(page: Page) -> None:
    search, link = (
        page.locator("#components input[type=search]"),
        page.locator(".ranked a", has_text="triton"),
    )
    row = page.locator("#components tr", has=page.locator("th", has_text="triton"))
    for _ in range(2):
        search.fill("nothing is called so")
        row.wait_for(state="hidden")
        link.click()
        row.locator(".more").wait_for(state="visible")
        assert search.input_value() == ""


def test_the_first_stop_leads_past_the_navigation(page: Page) -> None:
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"


def test_all_is_there_without_javascript(browser: Browser, site: Site) -> None:
    with opened(browser, site, java_script_enabled=False) as page:
        assert len(findings(page)) == 11
        assert page.locator("form:visible").count() == 0
        assert page.locator("#components tbody th:visible").count() == len(large_result().components)
        assert page.locator("svg.treemap:visible").count() == 1
        summary = page.locator("#dependencies summary").first
        summary.press("Enter")
        page.locator("#dependencies svg.graph").first.wait_for(state="visible")


def test_on_paper_findings_are_unfolded_and_controls_are_gone(page: Page) -> None:
    page.locator("[data-fold]").click()
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    page.emulate_media(media="print", color_scheme="dark")
    assert len(findings(page)) == 11
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.evaluate("getComputedStyle(document.body).color") == "rgb(28, 29, 32)"
    assert page.locator("form:visible").count() == 0
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert findings(page) == []


def test_no_text_of_strangers_runs(browser: Browser) -> None:
    text = "</script><script>window.hit=1</script><img src=/hit onerror='window.hit=1'>\"><b>"
    parts = (component("wheel", text, "1", requested=True, needs=("deb:b@1.0",)), component("deb", "b"))
    result = small_result(finding("secrets", text, f"`{text}`", facts=((text, text),)), parts=parts)
    with served(html(result, templates=TEXTS)) as site, opened(browser, site) as page:
        page.fill("#findings input[type=search]", "<script>")
        page.click("#components th button")
        assert findings(page) == [text]
        assert page.evaluate("window.hit") is None
        assert site.asked == ["/report"]
