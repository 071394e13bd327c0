"""Records of runs, read back as the page of results shows them."""

import base64
import json
import mimetypes
import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.study.claims import Claim
from experiments.study.tables import Table

_KEYS = ("title", "shows", "config", "command", "seconds", "data", "tables", "claims", "pictures", "notes")


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
    """A record as the page shows it."""

    folder: str  # its name among the results
    title: str
    shows: str  # what of the paper it regenerates; "" of other runs
    data: str  # name and size of the data set, "" where the run has none
    preset: str
    command: str
    took: str  # seconds, "" where unknown
    made: str  # date, machine and versions
    tables: Sequence[Table]
    claims: Sequence[Claim]
    notes: Sequence[str]
    pictures: Sequence[Picture]

    @property
    def anchor(self) -> str:
        return "run-" + re.sub(r"[^\w-]+", "-", self.folder)

    @property
    def data_name(self) -> str:
        """Without what split it is."""
        return re.split("[:,]", self.data)[0]

    @property
    def rank(self) -> tuple[bool, int, int, str]:
        """Tables before figures, then by the lowest number; what shows nothing of the paper at the end."""
        found = re.search(r"(?i)(table|figure)s? ((?:\d+|and|[\s,/&])+)", self.shows)
        if not found:
            return (not self.shows, 2, 0, self.folder)
        lowest = min(int(n) for n in re.findall(r"\d+", found[2]))
        return (False, int(found[1].lower() == "figure"), lowest, self.folder)


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
    return sorted((_section(path) for path in paths), key=lambda section: section.rank)


def _section(path: Path) -> Section:
    text = path.read_text(encoding="utf-8")
    # Looked for in the text, to be there in a broken record too.
    command = re.search(r'"command": "((?:[^"\\]|\\.)+)"', text)
    again = f"run the binary again that wrote it, with --out={path.parent}"
    if command:
        again = f"make it again: {command[1].replace(chr(92), '')}"
    try:
        record = json.loads(text)
        if not isinstance(record, dict):
            raise ValueError("it holds no object")
    except ValueError as error:
        raise ValueError(f"{path} is broken ({error}); {again}") from error
    if absent := [key for key in _KEYS if key not in record]:
        raise ValueError(f"{path} lacks {', '.join(absent)}; {again}")
    try:
        for name in record["pictures"]:
            if name != Path(name).name or not (path.parent / name).is_file():
                raise ValueError(f"{path.parent.name} names a picture {name!r} that is not in its folder; {again}")
        shown = f"{record['title']}{record['data'] and ', ' + record['data']}; its figures are in the tables"
        pictures = [Picture(path.parent / n, f"{Path(n).stem.replace('_', ' ')}: {shown}") for n in record["pictures"]]
        section = Section(
            folder=path.parent.name,
            preset=record["config"].get("preset", ""),
            took=_took(record["seconds"]),
            made=_made(record),
            tables=[Table(**table) for table in record["tables"]],
            claims=[Claim(**claim) for claim in record["claims"]],
            pictures=pictures,
            **{name: record[name] for name in ("title", "shows", "data", "command", "notes")},
        )
    except (TypeError, AttributeError) as error:
        raise ValueError(f"{path} is not as a run writes it ({error}); {again}") from error
    for table in section.tables:
        for row in table.rows:
            if len(row) != len(table.columns):
                raise ValueError(f"{path} has a row of {len(row)} cells under {len(table.columns)} columns; {again}")
    return section


def _took(seconds: float | None) -> str:
    if not seconds:
        return ""
    long = f" ({seconds / 3600:.1f} h)" if seconds >= 7200 else f" ({seconds / 60:.1f} min)" if seconds >= 120 else ""
    return f"{seconds:,.{0 if seconds >= 10 else 1}f} s{long}"


def _made(record: Mapping[str, Any]) -> str:
    cores = f"{record['cores']} cores, {record.get('processor', '')}" if "cores" in record else ""
    versions = ", ".join(f"{name} {version}" for name, version in record.get("versions", {}).items())
    return "; ".join(part for part in (record.get("date", ""), cores, versions) if part)
