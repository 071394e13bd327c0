"""The page of results: all that the records hold, escaped, with nothing from outside; and what it refuses."""

import dataclasses
import importlib.util
import itertools
import json
import re
import urllib.parse
from html.parser import HTMLParser

import made_results
import pytest

from experiments import report
from experiments.study import flags
from experiments.study.gather import gather
from experiments.study.page import numeric_columns, split_published
from experiments.study.tables import Table

VOID = {"meta", "link", "br", "img"}
RECORDS = (made_results.DEPTH, made_results.OVERALL, made_results.PLAIN)


class Page(HTMLParser):
    """Text, attributes and scripts of a page whose tags are checked to pair."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.open, self.words, self.scripts, self.tags, self.cells = [], [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)
        if tag in ("td", "th"):
            self.cells.append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, text):
        if "style" in self.open or "script" in self.open:
            self.scripts.append(text)
        if {"style", "script", "small"} & set(self.open):
            return
        self.words.append(text)
        if {"td", "th"} & set(self.open):
            self.cells[-1] += text

    @property
    def text(self):
        return "".join(self.words)

    def values(self, name):
        return [attributes[name] for _, attributes in self.tags if name in attributes]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    made_results.make(folder / "results")
    html, md = report.run(report.Config(results=str(folder / "results"), out=str(folder / "page")))
    assert {path.name for path in html.parent.iterdir()} == {"report.html", "report.md"}
    return html.read_text(encoding="utf-8"), md


@pytest.fixture(scope="module")
def page(written):
    return Page(written[0])


@pytest.fixture(scope="module")
def plain(written):
    """The Markdown with its escapes undone."""
    return re.sub(r"\\([\\`*\[\]<>|_])", r"\1", written[1].read_text(encoding="utf-8"))


def said(record):
    """All that has to be told of a study, but for its cells."""
    yield from (record["title"], record["shows"], record["data"], record["command"], *record["notes"])
    yield from (table["caption"] for table in record["tables"])
    for claim in record["claims"]:
        yield from (claim["says"], claim["found"])
        if not claim["holds"]:
            yield claim["why"]


@pytest.mark.parametrize("record", RECORDS, ids=["depth", "overall", "plain"])
def test_everything_that_a_record_says_is_on_both_pages(record, page, plain):
    for words in said(record):
        assert words in page.text
        assert words in plain
    for table in record["tables"]:
        for row in (table["columns"], *table["rows"]):
            assert set(row) <= set(page.cells)
            assert f"| {' | '.join(row)} |" in plain


def test_all_labels_of_a_row_name_it_and_numbers_among_them_are_flush_right(page, written):
    assert page.tags.count(("th", {"scope": "row", "class": "number label"})) == 2
    assert written[0].count('EASE<small aria-hidden="true">random &lt;users&gt;, 20</small>') == 1
    assert "\n|---|---|---:|---:|\n" in written[1].read_text()


def test_blocks_of_markdown_stand_apart_and_lists_and_tables_hold_together(written):
    def kind(line):
        return next((mark for mark in ("- ", "|", "![", "**", "#") if line.startswith(mark)), "text")

    lines = written[1].read_text(encoding="utf-8").splitlines()
    assert all(kind(above) == kind(line) for above, line in itertools.pairwise(lines) if above and line)
    claims = [k for k, line in enumerate(lines) if line.startswith(("- **Does not hold**: Depth", "- Not decided"))]
    assert claims[1] == claims[0] + 1


def test_settings_and_folders_are_told_by_the_command_alone(page):
    assert "3.5 s" in page.text
    assert "/elsewhere" not in page.text


def test_studies_are_in_the_order_of_the_paper_and_before_other_runs(page, written):
    wanted = ["run-overall_synthetic", "run-a_depth", "run-run_infae_ml-1m"]
    assert [anchor for anchor in page.values("id") if anchor in wanted] == wanted
    assert re.findall(r'<a id="(.*?)">', written[1].read_text()) == wanted


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("Table 1", "Figures 1 and 12"),
        ("Figures 12 and 1", "Figure 2"),
        ("Figures 3, 4, 13 and 14", "Figures 5 and 11"),
        ("Figures 8 and 9", "Figure 10"),
        ("Figure 10", "Beyond the paper"),
        ("Beyond the paper", ""),
        ("Figure 10", "1,000 more users"),
        ("On 3 sets, table 1", "Figure 2 at 1 budget"),
    ],
)
def test_the_order_is_by_the_lowest_number(before, after, tmp_path):
    for name, shows in (("b", before), ("a", after)):
        made_results.write(tmp_path, name, {**made_results.OVERALL, "shows": shows})
    assert [section.shows for section in gather(tmp_path)] == [before, after]


def test_the_summary_counts_verdicts_and_leads_to_each_claim(page, plain):
    assert re.search(r"1\s+hold\s+1\s+do not hold\s+1\s+not decided", page.text)
    assert "1 claims hold, 1 do not hold, 1 are not decided." in plain
    links = [a["href"] for tag, a in page.tags if tag == "a" and "-claim-" in a["href"]]
    assert links == ["#run-overall_synthetic-claim-1", "#run-a_depth-claim-1", "#run-a_depth-claim-2"]
    # And every link within the page leads somewhere; no two places have the same name.
    ids = page.values("id")
    assert len(ids) == len(set(ids))
    assert {href[1:] for href in page.values("href") if href.startswith("#")} <= set(ids)


def test_why_is_told_only_where_a_claim_does_not_hold(page):
    assert "It overfits at depth_3 *here*." in page.text
    assert "unseen" not in page.text


def test_nothing_in_a_record_becomes_a_tag(page, written):
    html, md = written
    assert html.count("<script>") == 1
    assert "alert" not in "".join(page.scripts)
    assert "<b>bold" not in html
    # In Markdown a tag is code, in a fence, or has its brackets escaped.
    outside = re.sub(r"```.*?```", "", md.read_text(), flags=re.DOTALL)
    assert not re.search(r"(?<!\\)<(?!/?a\b)", outside)


def test_the_page_needs_nothing_beside_it(page):
    outside = [link for link in (*page.values("href"), *page.values("src")) if not link.startswith(("#", "data:"))]
    assert outside == ["https://arxiv.org/abs/2206.02626"]
    assert [tag for tag, attributes in page.tags if "src" in attributes] == ["img", "img"]
    assert not re.search(r"url\(|@import|fetch\(|XMLHttp", "".join(page.scripts))


def test_pictures_have_a_size_and_say_what_they_show(page):
    pictures = [attributes for tag, attributes in page.tags if tag == "img"]
    assert all(int(picture["width"]) > int(picture["height"]) > 100 for picture in pictures)
    assert "Depth of the network, ml-1m" in pictures[0]["alt"]


def test_paths_in_markdown_lead_to_the_pictures(written):
    _, md = written
    paths = re.findall(r"!\[.*?\]\((.*?)\)", md.read_text(encoding="utf-8"))
    assert [path.rpartition("/")[2] for path in paths] == ["depth.png", "reg%20path.png"]
    assert all((md.parent / urllib.parse.unquote(path)).is_file() for path in paths)


def test_headings_are_nested_without_gaps(page):
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch("h[1-6]", tag)]
    main = levels[levels.index(1) :]
    assert all(b <= a + 1 for a, b in itertools.pairwise(main))
    assert main.count(1) == 1


def test_numbers_are_flush_right_and_words_are_not():
    table = Table("", ["", "a", "b"], [["x", "1.0 ± 0.1 (2)", "Holds"], ["y", "", "1"], ["z", "−0.3", ""]])
    assert numeric_columns(table) == [False, True, False]


@pytest.mark.parametrize(
    ("cell", "parts"),
    [
        ("51.04 (52.20)", ("51.04", "(52.20)")),
        ("51.04 ± 0.1 (52.2 ± 0.3)", ("51.04 ± 0.1", "(52.2 ± 0.3)")),
        ("EASE (tuned)", ("EASE (tuned)", "")),
        ("0.91", ("0.91", "")),
    ],
)
def test_published_figures_are_told_from_ours(cell, parts):
    assert split_published(cell) == parts


@pytest.mark.parametrize(
    ("seconds", "text"), [(3.52, "3.5 s"), (146, "146 s (2.4 min)"), (8130.4, "8,130 s (2.3 h)"), (None, "")]
)
def test_times_are_in_seconds_and_readable(seconds, text, tmp_path):
    made_results.write(tmp_path, "a", {**made_results.OVERALL, "seconds": seconds})
    assert gather(tmp_path)[0].took == text


def test_results_of_this_repository_make_a_page(tmp_path):
    html, md = report.run(report.Config(out=str(tmp_path)))
    Page(html.read_text(encoding="utf-8"))
    paths = re.findall(r"!\[.*?\]\((.*?)\)", md.read_text(encoding="utf-8"))
    assert paths
    assert all((tmp_path / urllib.parse.unquote(path)).is_file() for path in paths)


def test_without_out_the_page_lies_among_the_results(tmp_path):
    made_results.make(tmp_path)
    html, md = report.run(report.Config(results=str(tmp_path)))
    assert html.parent == md.parent == tmp_path
    assert "](a_depth/depth.png)" in md.read_text()
    assert flags.command(report.Config(results="out")) == "python -m experiments.report --results=out"


def test_no_records_says_what_was_looked_for_and_what_to_run(tmp_path):
    with pytest.raises(
        ValueError, match=r"looked for .*/\*/record\.json; .*python -m experiments\.infinite\.transfer --out="
    ):
        report.run(report.Config(results=str(tmp_path)))
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def results(tmp_path):
    return made_results.make(tmp_path / "results")


def refused(results, message):
    with pytest.raises(ValueError, match=message):
        report.run(report.Config(results=str(results)))
    assert not list(results.glob("report.*"))


def test_a_broken_record_is_named_with_the_command_to_make_it_again(results):
    path = results / "a_depth/record.json"
    path.write_text(path.read_text()[:-40])
    refused(results, r"a_depth/record\.json is broken .*python -m experiments\.infinite\.depth --preset=paper")
    path.write_text('{"title": ')
    refused(results, r"a_depth/record\.json is broken .*run the binary again .*--out=.*a_depth")
    path.write_text("[1]")
    refused(results, r"a_depth/record\.json is broken \(it holds no object\)")


@pytest.mark.slow
@pytest.mark.parametrize("key", ["title", "claims", "pictures"])
def test_a_study_that_lacks_a_part_is_refused(results, key):
    record = {k: v for k, v in made_results.DEPTH.items() if k != key}
    (results / "a_depth/record.json").write_text(json.dumps(record))
    refused(results, rf"a_depth/record\.json lacks {key}; make it again: python -m experiments\.infinite\.depth")


@pytest.mark.slow
@pytest.mark.parametrize(("key", "value"), [("claims", [{"say": "x"}]), ("data", {"shape": [1, 2]}), ("tables", [1])])
def test_a_record_of_another_make_is_refused(results, key, value):
    (results / "a_depth/record.json").write_text(json.dumps({**made_results.DEPTH, key: value}))
    refused(results, r"a_depth/record\.json is not as a run writes it .*python -m experiments\.infinite\.depth")


def test_a_row_of_other_length_than_its_columns_is_refused(results):
    table = {"caption": "", "columns": ["", "a"], "rows": [["x"]]}
    (results / "a_depth/record.json").write_text(json.dumps({**made_results.DEPTH, "tables": [table]}))
    refused(results, r"a_depth/record\.json .*row of 1 cells under 2 columns.*python -m experiments\.infinite\.depth")


def test_a_missing_picture_is_named_with_study_and_command(results):
    (results / "a_depth/depth.png").unlink()
    refused(results, r"a_depth.*'depth\.png'.*make it again: python -m experiments\.infinite\.depth")


def test_a_picture_outside_of_the_folder_is_refused(results):
    record = {**made_results.DEPTH, "pictures": ["../run_infae_ml-1m/reg path.png"]}
    (results / "a_depth/record.json").write_text(json.dumps(record))
    refused(results, "not in its folder")


def test_without_jinja_the_extra_is_named(results, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"infae\[report\]"):
        report.run(report.Config(results=str(results)))


def test_flags_are_those_of_the_config():
    assert [field.name for field in dataclasses.fields(report.Config)] == ["results", "out"]
