"""The page of results, in HTML and Markdown, out of the templates in `pages/`."""

import importlib.util
import os
import re
import urllib.parse
from collections.abc import Sequence
from pathlib import Path

from experiments.study.gather import Section
from experiments.study.tables import Table, escape_markdown


def check_installed() -> None:
    """ImportError where the template engine is missing."""
    if importlib.util.find_spec("jinja2") is None:
        raise ImportError("the page needs Jinja: pip install 'infae[report]'")


def render(name: str, sections: Sequence[Section], folder: Path) -> str:
    """The page `name` of these sections, to be put into `folder`."""
    check_installed()
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "pages"),
        autoescape=jinja2.select_autoescape(["html.jinja"]),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"md": escape_markdown, "split_published": split_published, "numeric": numeric_columns}
    environment.globals["relative"] = lambda path: urllib.parse.quote(Path(os.path.relpath(path, folder)).as_posix())
    claims = [(section, k, claim) for section in sections for k, claim in enumerate(section.claims, 1)]
    counts = {verdict: sum(c.holds is verdict for _, _, c in claims) for verdict in (True, False, None)}
    studies, others = ([s for s in sections if bool(s.shows) is wanted] for wanted in (True, False))
    template = environment.get_template(f"{name}.jinja")
    return template.render(studies=studies, others=others, claims=claims, counts=counts)


def numeric_columns(table: Table) -> list[bool]:
    """Which columns hold numbers, to be set flush right; the first one names the rows."""
    cells = [[row[k] for row in table.rows if row[k].strip()] for k in range(1, len(table.columns))]
    return [False, *(all(re.match(r"[-−+<>~≈]?\s*\d|[-–—]$", cell) for cell in column) for column in cells)]


def split_published(cell: str) -> tuple[str, str]:
    """Our figure, and the published one with its brackets or ""."""
    found = re.fullmatch(r"([\d.,]+%?(?: ± [\d.,]+)?) (\([\d.,]+%?(?: ± [\d.,]+)?\))", cell)
    return (found[1], found[2]) if found else (cell, "")
