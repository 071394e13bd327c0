"""One page of all results: `report.html`, which needs nothing beside it, and `report.md`.

    python -m experiments.report                      # of experiments/results, into that folder
    python -m experiments.report --results=out --out=out/report

Gathers every `*/record.json`: a summary of all claims, then the studies in the order of the paper, then
other runs. Needs the `report` extra.
"""

from dataclasses import dataclass
from pathlib import Path

from experiments.study import flags
from experiments.study.flags import option
from experiments.study.gather import gather
from experiments.study.page import render
from experiments.study.record import output_folder, write_text


@dataclass(frozen=True)
class Config:
    results: str = option("experiments/results", "folder whose */record.json are gathered")
    out: str = option("", "output folder; that of the results where empty")


def run(config: Config) -> tuple[Path, Path]:
    """Write both files and return their paths; nothing is written where a record is broken."""
    sections = gather(Path(config.results))
    folder = output_folder(config.out or config.results)
    pages = {name: render(name, sections, folder) for name in ("report.html", "report.md")}
    for name, text in pages.items():
        write_text(folder / name, text)
    print(f"{len(sections)} records, {sum(len(s.claims) for s in sections)} claims: {folder / 'report.html'}")
    return folder / "report.html", folder / "report.md"


if __name__ == "__main__":
    flags.main(Config, run)
