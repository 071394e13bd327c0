"""One page of all results: `report.html`, which needs nothing beside it, and `report.md`.

    python -m experiments.report                      # of experiments/results, into that folder
    python -m experiments.report --results=out --out=out/report

Gathers every `*/record.json`: a summary of all claims, then the studies in the order of the paper, then
other runs, whose tables are the `table.md` beside their record. Needs the `report` extra.
"""

from __future__ import annotations

import base64
import importlib.util
import json
import mimetypes
import os
import re
import struct
import urllib.parse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments import study
from experiments.study import flags
from experiments.study.flags import option
from experiments.study.record import output_folder, write_text
from experiments.study.runner import Claim, Table

OTHER = {
    "run_infae": "∞-AE, tuned and tested",
    "run_distillcf": "A summary by DISTILL-CF, and ∞-AE on it",
    "compare": "∞-AE selected, ∞-AE published, and EASE",
    "transfer": "Other models on summaries and coresets",
    "bench_infae": "Speed and memory of ∞-AE",
    "bench_distillcf": "Seconds and memory of a distillation step",
    "bench_scale": "Seconds and memory as users grow",
}
"""Titles of records that have none, by the binary that their folder is named after."""

_STUDY_KEYS = ("title", "shows", "command", "seconds", "tables", "claims", "pictures")
_NOT_SHOWN = ("data_dir", "out", "plot", "shared")


@dataclass(frozen=True)
class Config:
    """Flags of the report."""

    results: str = option("experiments/results", "folder whose */record.json are gathered")
    out: str = option("", "output folder; that of the results where empty")


@dataclass(frozen=True)
class Picture:
    """A picture file and what it shows."""

    path: Path
    alt: str

    @property
    def data(self) -> str:
        """As a data URI."""
        kind = mimetypes.guess_type(self.path.name)[0] or "application/octet-stream"
        return f"data:{kind};base64,{base64.b64encode(self.path.read_bytes()).decode('ascii')}"

    @property
    def size(self) -> tuple[int, int] | None:
        """Width and height of a PNG in pixels, which its first 24 bytes tell; None of anything else."""
        head = self.path.read_bytes()[:24]
        return struct.unpack(">II", head[16:]) if head.startswith(b"\x89PNG") and len(head) == 24 else None


@dataclass(frozen=True)
class Section:
    """A record as the page shows it, all of it text.

    Attributes:
      folder: its name among the results.
      shows: what of the paper it regenerates; "" of other runs.
      data: name and size of the data set, "" where the record has none.
      settings: of a record without `command`, the flags.
      took: seconds, "" where unknown.
      made: date, machine and versions.
      text: paragraphs of a `table.md`.
    """

    folder: str
    title: str
    shows: str
    data: str
    preset: str
    command: str
    settings: str
    took: str
    made: str
    tables: Sequence[Table]
    claims: Sequence[Claim]
    notes: Sequence[str]
    text: Sequence[str]
    pictures: Sequence[Picture]

    @property
    def anchor(self) -> str:
        return "run-" + re.sub(r"[^\w-]+", "-", self.folder)

    @property
    def data_name(self) -> str:
        """Without what split it is."""
        return re.split("[:,]", self.data)[0]

    @property
    def rank(self) -> tuple[int, int, str]:
        """Tables before figures, then by the lowest number; what shows nothing of the paper at the end."""
        found = re.search(r"(?i)(table|figure)s? ((?:\d+|and|[\s,/&])+)", self.shows)
        if not found:
            return (2, 0, self.folder)
        return (found[1].lower() == "figure", min(int(n) for n in re.findall(r"\d+", found[2])), self.folder)


def run(config: Config) -> tuple[Path, Path]:
    """Write both files and return their paths; nothing is written where a record is broken."""
    results = Path(config.results)
    sections = gather(results)
    folder = output_folder(config.out or config.results)
    pages = {name: render(name, sections, folder) for name in ("report.html", "report.md")}
    for name, text in pages.items():
        write_text(folder / name, text)
    print(f"{len(sections)} records, {sum(len(s.claims) for s in sections)} claims: {folder / 'report.html'}")
    return folder / "report.html", folder / "report.md"


def gather(results: Path) -> list[Section]:
    """All sections, studies first, in the order of the paper.

    Raises ValueError, with the command to run, where there is no record, or one that cannot be shown.
    """
    paths = sorted(results.glob("*/record.json"))
    if not paths:
        raise ValueError(
            f"no records: looked for {results}/*/record.json; make one, such as by "
            f"python -m experiments.infinite.transfer --out={results}/transfer, or name another folder by --results"
        )
    return sorted((_section(path) for path in paths), key=lambda s: (not s.shows, s.rank))


def check_installed() -> None:
    """ImportError where the template engine is missing."""
    if importlib.util.find_spec("jinja2") is None:
        raise ImportError("the page needs Jinja: pip install 'infae[report]'")


def render(name: str, sections: Sequence[Section], folder: Path) -> str:
    """The page `name` of these sections, to be put into `folder`."""
    check_installed()
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(study.__file__).parent / "pages"),
        autoescape=jinja2.select_autoescape(["html.jinja"]),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"md": escape_markdown, "split_published": split_published, "numeric": numeric_columns}
    environment.globals["relative"] = lambda path: _relative(path, folder)
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


def escape_markdown(text: str) -> str:
    """Text that Markdown shows as it is, on one line."""
    return re.sub(r"([\\`*\[\]<>|]|\b_|_\b)", r"\\\1", " ".join(text.split()))


def parse_tables(text: str) -> tuple[list[Table], list[str]]:
    """The tables and the paragraphs of a `table.md`."""
    tables, paragraphs = [], []
    for block in re.split(r"\n\s*\n", text.strip()):
        lines = block.splitlines()
        if not block.startswith("|"):
            paragraphs.append(" ".join(block.split()))
            continue
        columns, _, *rows = map(_row, lines)
        tables.append(Table("", columns, rows))
    return tables, paragraphs


def _row(line: str) -> list[str]:
    return [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line.strip())[1:-1]]


def _section(path: Path) -> Section:
    record = _read(path)
    try:
        return _section_of(path, record)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is not as a binary writes it ({error}); {_again(path, record)}") from error


def _section_of(path: Path, record: Mapping[str, Any]) -> Section:
    is_study = "tables" in record
    if is_study and (absent := [key for key in _STUDY_KEYS if key not in record]):
        raise ValueError(f"{path} lacks {', '.join(absent)}; {_again(path, record)}")
    config = record.get("config", {})
    name = path.parent.name
    data = _data(record)
    title = record["title"] if is_study else next((t for b, t in OTHER.items() if name.startswith(b)), name)
    tables, text = _stored(path, record)
    for table in tables:
        for row in table.rows:
            if len(row) != len(table.columns):
                counts = f"a row of {len(row)} cells under {len(table.columns)} columns"
                raise ValueError(f"{path} has {counts}; {_again(path, record)}")
    return Section(
        folder=name,
        title=title,
        shows=(record["shows"] or "Beyond the paper") if is_study else "",
        data=data,
        preset=config.get("preset", ""),
        command=record.get("command", ""),
        settings=", ".join(f"{key}={_shown(value)}" for key, value in config.items() if key not in _NOT_SHOWN),
        took=_took(record.get("seconds")),
        made=_made(record),
        tables=tables,
        claims=[Claim(**claim) for claim in record.get("claims", ())],
        notes=record.get("notes", ()),
        text=text,
        pictures=_pictures(path, record, f"{title}{data and ', ' + data}"),
    )


def _read(path: Path) -> dict[str, Any]:
    text = path.read_text(encoding="utf-8")
    try:
        record = json.loads(text)
        if not isinstance(record, dict):
            raise ValueError("it holds no object")
    except ValueError as error:
        found = re.search(r'"command": ("(?:[^"\\]|\\.)*")', text)
        again = _again(path, {"command": json.loads(found[1])} if found else {})
        raise ValueError(f"{path} is broken ({error}); {again}") from error
    return record


def _again(path: Path, record: Mapping[str, Any]) -> str:
    command = record.get("command")
    return f"make it again: {command}" if command else f"run the binary again that wrote it, with --out={path.parent}"


def _stored(path: Path, record: Mapping[str, Any]) -> tuple[Sequence[Table], Sequence[str]]:
    """Tables, and paragraphs between them, of a record or of what lies beside it."""
    if "tables" in record:
        return [Table(**table) for table in record["tables"]], []
    beside = path.with_name("table.md")
    if not beside.exists():
        raise ValueError(f"{path} has no tables, and no table.md beside it; {_again(path, record)}")
    return parse_tables(beside.read_text(encoding="utf-8"))


def _pictures(path: Path, record: Mapping[str, Any], shown: str) -> list[Picture]:
    """Those that a study names; of other runs those beside the record."""
    names = record.get("pictures", sorted(p.name for p in path.parent.glob("*.png")))
    for name in names:
        if name != Path(name).name or not (path.parent / name).is_file():
            again = _again(path, record)
            raise ValueError(f"{path.parent.name} names a picture {name!r} that is not in its folder; {again}")
    stems = {name: Path(name).stem.replace("_", " ") for name in names}
    return [Picture(path.parent / n, f"{stem}: {shown}; its figures are in the tables") for n, stem in stems.items()]


def _data(record: Mapping[str, Any]) -> str:
    split = record.get("split") or next(iter(record.get("splits", {}).values()), None) or record.get("data") or ""
    if isinstance(split, str):
        return split
    n_users, n_items = split.get("shape", (None, None))
    return split["name"] + (f": {n_users:,} users × {n_items:,} items" if n_users else "")


def _took(seconds: float | Mapping[str, float] | None) -> str:
    if not seconds:
        return ""
    total = sum(seconds.values()) if isinstance(seconds, Mapping) else seconds
    long = f" ({total / 3600:.1f} h)" if total >= 7200 else f" ({total / 60:.1f} min)" if total >= 120 else ""
    return f"{total:,.{0 if total >= 10 else 1}f} s{long}"


def _made(record: Mapping[str, Any]) -> str:
    cores = f"{record['cores']} cores, {record.get('processor', '')}" if "cores" in record else ""
    versions = ", ".join(f"{name} {version}" for name, version in record.get("versions", {}).items())
    return "; ".join(part for part in (record.get("date", ""), cores, versions) if part)


def _shown(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def _relative(path: Path, folder: Path) -> str:
    return urllib.parse.quote(Path(os.path.relpath(path, folder)).as_posix())


if __name__ == "__main__":
    flags.main(Config, run)
