"""The page of results in a real browser, on a phone and on a laptop."""

import shutil
from pathlib import Path

import made_results
import pytest

from experiments import report

playwright = pytest.importorskip("playwright.sync_api", reason="needs Playwright: the extra `page`")

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason=f"no Chromium on this machine (looked for {', '.join(NAMES)})")

# As root, which Chromium's sandbox refuses, and without its own calls home.
FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-sync"]
OWN = Path(__file__).parents[2] / "experiments/results"
PHONE, LAPTOP = (390, 844), (1280, 800)

CONTRAST = """selector => {
  const light = text => {
    const [r, g, b] = text.match(/[0-9.]+/g).map(x => x / 255).map(
      x => x <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const [a, b] = [getComputedStyle(document.querySelector(selector)).color,
                  getComputedStyle(document.body).backgroundColor].map(light).sort((x, y) => y - x);
  return (a + 0.05) / (b + 0.05);
}"""


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield started
        started.close()


@pytest.fixture(scope="module", params=["made", "own"])
def page_file(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    results = made_results.make(folder / "results") if request.param == "made" else OWN
    return report.run(report.Config(results=str(results), out=str(folder)))[0]


@pytest.fixture(params=[PHONE, LAPTOP], ids=["phone", "laptop"])
def opened(request, browser, page_file):
    """The page, what it asked for, and what it complained of."""
    width, height = request.param
    page = browser.new_page(viewport={"width": width, "height": height}, is_mobile=request.param == PHONE)
    asked, complaints = [], []
    page.on("request", lambda r: asked.append(r.url))
    page.on("console", lambda m: complaints.append(m.text) if m.type in ("error", "warning") else None)
    page.on("pageerror", lambda e: complaints.append(str(e)))
    page.goto(page_file.as_uri())
    page.wait_for_load_state("load")
    yield page, asked, complaints
    page.close()


def test_it_asks_for_nothing_and_complains_of_nothing(opened, page_file):
    _, asked, complaints = opened
    assert [url for url in asked if not url.startswith("data:")] == [page_file.as_uri()]
    assert complaints == []


def test_it_never_scrolls_sideways(opened):
    page, _, _ = opened
    assert page.evaluate("document.documentElement.scrollWidth") <= page.viewport_size["width"]
    page.evaluate("scrollTo(500, 0)")
    assert page.evaluate("[scrollX, visualViewport.width]") == [0, page.viewport_size["width"]]


def test_wide_tables_scroll_in_their_own_box(opened):
    page, _, _ = opened
    widest = "[...document.querySelectorAll('.scroll')].map(e => [e.scrollWidth, e.clientWidth, e.offsetLeft])"
    boxes = page.evaluate(widest)
    assert any(inner > outer for inner, outer, _ in boxes)
    assert all(outer + left <= page.viewport_size["width"] for _, outer, left in boxes)


def test_rows_stay_named_where_a_table_is_scrolled(opened):
    page, _, _ = opened
    left = """() => [...document.querySelectorAll('.scroll:has(table)')].map(box => {
      box.scrollTo(1000, 0);
      return box.querySelector('tbody th').getBoundingClientRect().left - box.getBoundingClientRect().left;
    })"""
    assert set(page.evaluate(left)) == {0}


def test_a_long_table_scrolls_under_its_heads(opened):
    page, _, _ = opened
    if not page.query_selector(".long"):
        pytest.skip("these results have no long table")
    places = page.evaluate("""() => {
      const box = document.querySelector('.long');
      box.scrollTo(0, 500);
      const top = box.getBoundingClientRect().top;
      return [box.clientHeight < innerHeight, box.querySelector('thead th').getBoundingClientRect().top - top];
    }""")
    assert places == [True, 0]


def test_all_pictures_have_loaded(opened):
    page, _, _ = opened
    widths = page.evaluate("[...document.images].map(i => i.complete && i.naturalWidth)")
    assert len(widths) >= 2
    assert all(widths)


def test_its_text_is_large_enough(opened):
    page, _, _ = opened
    smallest = "s => Math.min(...[...document.querySelectorAll(s)].map(e => parseFloat(getComputedStyle(e).fontSize)))"
    assert page.evaluate(smallest, "body, main p, .claims li") >= 16
    assert page.evaluate(smallest, "main *, nav *") >= 12


def test_the_contents_are_open_where_there_is_room_and_lead_to_every_section(opened):
    page, _, _ = opened
    wide = page.viewport_size["width"] > 1000
    assert page.evaluate("document.getElementById('contents').open") is wide
    if not wide:
        page.click(".contents summary")
    page.click(".contents li:last-child a >> nth=-1")
    assert page.evaluate("document.getElementById('contents').open") is wide
    assert page.evaluate("document.querySelector(':target').getBoundingClientRect().top") < page.viewport_size["height"]
    assert page.evaluate("[...document.querySelectorAll('a[href^=\"#\"]')].every(a => document.querySelector(a.hash))")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_in_both_schemes(opened, scheme):
    page, _, _ = opened
    page.emulate_media(color_scheme=scheme)
    assert (
        page.evaluate("getComputedStyle(document.body).backgroundColor")
        == {
            "light": "rgb(253, 253, 252)",
            "dark": "rgb(22, 28, 34)",
        }[scheme]
    )
    assert page.evaluate(CONTRAST, "body") >= 7
    assert page.evaluate(CONTRAST, "main dd") >= 4.5
