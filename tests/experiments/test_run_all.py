"""All studies in one call: folders, what they share, the page, and what happens where one fails."""

import importlib
from types import SimpleNamespace

import pytest

from experiments import run_all
from experiments.study import flags
from experiments.study.runner import Study, load_split
from experiments.study.tables import Table


@pytest.fixture
def made(monkeypatch):
    """Stands in for every study: its Config as it was called, and a record."""
    called = {}
    real = importlib.import_module

    def imported(name):
        if not name.startswith("experiments."):
            return real(name)
        config_class = real(name).Config

        def run(config):
            called[name.rpartition(".")[2]] = config
            if name.endswith("noise"):
                raise MemoryError("too little of it")
            study = Study(config, load_split(config), title=name, shows="Figure 6", version=1)
            study.run([({"seed": 0}, lambda: {"HR@10": 0.5})])
            return study.write([Table("one", ["a"], [["b"]])], [])

        return SimpleNamespace(Config=config_class, run=run)

    monkeypatch.setattr(run_all, "importlib", SimpleNamespace(import_module=imported))
    return called


def test_each_study_gets_a_folder_and_all_share_one_and_the_page_gathers_them(made, tmp_path):
    config = run_all.Config(studies=("depth", "transfer"), out=str(tmp_path), plot=False)
    assert set(run_all.run(config)) == {"depth", "transfer"}
    assert made["depth"] == flags.configure(type(made["depth"]), out=str(tmp_path / "depth"), plot=False)
    assert made["transfer"].shared == str(tmp_path / "shared")
    page = (tmp_path / "report.html").read_text()
    assert "experiments.infinite.depth" in page
    assert "experiments.infinite.transfer" in page


def test_the_preset_reaches_every_study(made, monkeypatch, tmp_path):
    # By the flags alone: the data set may not be here.
    monkeypatch.setattr(
        "experiments.study.runner.infae.data.load", lambda *args: (_ for _ in ()).throw(OSError("no data"))
    )
    with pytest.raises(flags.StudiesFailedError, match="depth: OSError: no data"):
        run_all.run(run_all.Config(preset="quick", studies=("depth",), out=str(tmp_path), plot=False))
    assert (made["depth"].preset, made["depth"].dataset) == ("quick", "ml-100k")


def test_a_study_that_fails_is_told_at_the_end_and_the_others_are_done(made, tmp_path):
    config = run_all.Config(studies=("noise", "depth"), out=str(tmp_path), plot=False)
    with pytest.raises(flags.StudiesFailedError, match=r"done:\nnoise: MemoryError: too little of it"):
        run_all.run(config)
    assert "experiments.infinite.depth" in (tmp_path / "report.html").read_text()


def test_unknown_studies_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"--studies must be one of 'table_1'.*got 'other'"):
        run_all.run(run_all.Config(studies=("other",), out=str(tmp_path)))


@pytest.mark.parametrize("name", run_all.STUDIES)
def test_every_study_has_the_three_presets_and_a_folder_of_its_own(name):
    if name.startswith(("ctr_", "kd_")):
        pytest.importorskip("torch")
    config_class = run_all.study(name).Config
    smoke, quick, paper = (flags.configure(config_class, preset=preset) for preset in flags.PRESETS)
    assert smoke.out == f"out/{name}"
    assert smoke != quick != paper
    if hasattr(smoke, "dataset"):
        assert (quick.dataset, paper.dataset) == ("ml-100k", "ml-1m")


def test_a_study_that_cannot_be_imported_is_told_at_the_end(monkeypatch, made, tmp_path):
    monkeypatch.setattr(run_all, "study", lambda name: (_ for _ in ()).throw(ImportError("no torch")))
    with pytest.raises(flags.StudiesFailedError, match="depth: ImportError: no torch"):
        run_all.run(run_all.Config(studies=("depth",), out=str(tmp_path), plot=False))
