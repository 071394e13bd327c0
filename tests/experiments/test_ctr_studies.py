"""The commands and studies of click-through rows, in their smallest form."""

import json

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("torch")

from experiments.ctr import __main__ as train_command
from experiments.ctr import tables
from experiments.inversion import __main__ as rows_command
from experiments.inversion import (
    ctr_data_free_kd,
    ctr_freezing,
    ctr_models,
    ctr_retraining,
    ctr_size,
    ctr_summaries,
    ctr_table_2,
    published,
    sources,
)
from experiments.inversion.sources import SOURCES, Workshop


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    folder = tmp_path_factory.mktemp("teacher")
    record = train_command.run(train_command.Config(n_epochs=20, out=str(folder)))
    return folder, record


def rows_of(folder, **flags):
    files = {"model": str(folder / "model.pt"), "fields": str(folder / "fields.json")}
    return rows_command.run(rows_command.Config(**{**files, "out": str(folder / "rows.parquet"), **flags}))


def test_a_model_is_trained_its_rows_made_and_a_student_trained_on_them(teacher, tmp_path):
    folder, record = teacher
    assert {"model.pt", "fields.json", "record.json", "table.md", "calibration.png"} == {
        p.name for p in folder.iterdir()
    }
    assert record["test"]["AUC"] > 0.7
    assert len(rows_of(folder, n_rows=600)) == 600
    assert len(pd.read_parquet(folder / "rows.parquet")) == 600
    settings = {"batch_size": 250, "learning_rate": 0.03, "weight_decay": 0.0, "n_epochs": 100, "check_every": 10}
    files = {"rows": str(folder / "rows.parquet"), "fields": str(folder / "fields.json")}
    student = train_command.run(train_command.Config(**files, **settings, out=str(tmp_path), plot=False))
    assert student["test"]["AUC"] > record["test"]["AUC"] - 0.02


def test_a_file_of_ones_own_is_trained_on(tmp_path):
    table = tables.made(n_users=20, n_items=10, n_rows=600)
    table.frame.rename(columns={"label": "click"}).to_csv(tmp_path / "mine.csv", index=False)
    config = train_command.Config(
        dataset=str(tmp_path / "mine.csv"), kinds=("user:category", "item:category", "time:standard"), label="click",
        model="deepfm", n_epochs=2, out=str(tmp_path / "out"), plot=False,
    )  # fmt: skip
    assert train_command.run(config)["data"] == "mine, random split 0"
    stored = json.loads((tmp_path / "out" / "fields.json").read_text())
    assert [field["kind"] for field in stored["fields"]] == ["category", "category", "standard"]


def test_rows_are_made_out_of_a_history_model_of_a_file_of_ones_own(tmp_path):
    rng = np.random.default_rng(0)
    items, past = rng.integers(8, size=400), [rng.choice(8, 3, replace=False) for _ in range(400)]
    label = [int(item in some or rng.random() < 0.1) for item, some in zip(items, past, strict=True)]
    history = ["|".join(map(str, some)) for some in past]
    pd.DataFrame({"item": items, "history": history, "label": label}).to_csv(tmp_path / "mine.csv", index=False)
    config = train_command.Config(
        dataset=str(tmp_path / "mine.csv"), kinds=("item:category", "history:several of item"), model="din",
        n_epochs=2, out=str(tmp_path), plot=False,
    )  # fmt: skip
    train_command.run(config)
    for way in rows_command.LONG:
        made = rows_of(tmp_path, way=way, n_rows=30)
        assert [field.kind for field in made.fields] == ["category", "several"]
        assert 0 < made.labels.min() < made.labels.max() < 1


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"dataset": "criteo"}, "unknown table 'criteo'"),
        ({"model": "svd"}, "--model must be one of"),
        ({"rows": "rows.parquet"}, "--rows and --fields go together"),
        ({"n_factors": 0}, "n_factors"),
        ({"loss": "hinge"}, "loss must be one of"),
    ],
)
def test_bad_flags_of_training_are_refused(flags, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        train_command.run(train_command.Config(**flags, out=str(tmp_path)))


def test_a_file_without_kinds_is_refused(tmp_path):
    (tmp_path / "mine.csv").write_text("user,label\n1,0\n2,1\n")
    for kinds in (("",), ("user",), ("user:number",)):
        with pytest.raises(ValueError, match="field:kind"):
            tables.table(str(tmp_path / "mine.csv"), kinds=kinds)


def test_rows_are_inverted_as_flags_say(teacher):
    rows = rows_of(teacher[0], way="inverted", n_rows=40, positives=0.1, threshold=10.0, freeze="none")
    assert len(rows) == 40
    # At the noise that it begins with, a batch is done: nearly even shares.
    assert max(value.max() for value in rows.values) < 3 / min(value.shape[1] for value in rows.values)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"way": "guessed"}, "--way must be one of"),
        ({"model": ""}, "--model is missing"),
        ({"fields": "nowhere.json"}, "nowhere.json"),
        ({"model": "nowhere.pt"}, "is no file"),
        ({"out": "rows.csv"}, "must end in .parquet"),
        ({"n_rows": 0}, "n_rows"),
        ({"freeze": "none"}, "--freeze is of --way=inverted"),
        ({"way": "inverted", "freeze": "nobody"}, "freeze must be one of"),
        ({"way": "inverted", "positives": 1.5}, "positives"),
    ],
)
def test_bad_flags_of_synthesis_are_refused(flags, message, teacher):
    with pytest.raises((ValueError, OSError), match=message):
        rows_of(teacher[0], **flags)


def test_table_2_has_a_cell_for_each_and_goes_on_where_it_was_stopped(tmp_path, monkeypatch):
    config = ctr_table_2.Config(
        sources=("raw (2K)", "LRSD", "designed LR"), learners=("LR", "FM"), n_rows=100, n_epochs=3, out=str(tmp_path)
    )
    record = ctr_table_2.run(config)
    assert len(record["cells"]) == 6
    assert record["pictures"] == ["made.png"]
    assert [claim.says.startswith("made") for claim in record["claims"]] == [True]
    monkeypatch.setattr(Workshop, "taught", lambda *args, **place: pytest.fail("worked out again"))
    assert ctr_table_2.run(config)["cells"] == record["cells"]


def test_algorithm_1_has_what_a_table_asks_for_and_other_ways_have_not(monkeypatch):
    monkeypatch.setitem(sources.INVERSION, "made", {"positives": 0.1, "threshold": 0.25})
    workshop = Workshop(n_rows=300, n_epochs=3)
    assert workshop.rows("LRSD", "made", 0).labels.mean() == pytest.approx(0.1, abs=0.05)
    assert len(workshop.rows("designed LR", "made", 0)) == 300


def test_the_norm_term_helps_only_where_every_model_learns_more():
    place = {"table": "made", "seed": 0}
    auc = {("LR", "DeepFMSD-BN"): 0.7, ("LR", "DeepFMSD-BN (no term)"): 0.6, ("FM", "DeepFMSD-BN"): 0.65}
    frame = pd.DataFrame([{**place, "learner": a, "source": b, "AUC": value} for (a, b), value in auc.items()])
    assert [claim.holds for claim in ctr_table_2.term_helps(frame)] == [True]
    other = pd.DataFrame([{**place, "learner": "FM", "source": "DeepFMSD-BN (no term)", "AUC": 0.66}])
    assert [claim.holds for claim in ctr_table_2.term_helps(pd.concat([frame, other]))] == [False]
    assert not [*ctr_table_2.term_helps(other)]


def test_distillation_has_a_cell_for_each_source_and_chooses_a_temperature(tmp_path):
    config = ctr_data_free_kd.Config(sources=("LRME", "designed LR"), n_rows=50, n_epochs=2, out=str(tmp_path))
    record = ctr_data_free_kd.run(config)
    assert [cell["source"] for cell in record["cells"]] == ["LRME", "designed LR"]
    assert {cell["temperature"] for cell in record["cells"]} <= {2.0, 3.0, 4.0}
    with pytest.raises(ValueError, match="made out of a teacher, got raw"):
        ctr_data_free_kd.run(ctr_data_free_kd.Config(sources=("raw",), out=str(tmp_path)))


def test_retraining_has_a_cell_for_each_thing_kept(tmp_path):
    tuned = ("Random + Fine-tune", "designed FM + Fine-tune")
    keep = (*ctr_retraining.KEPT, "designed FM", *tuned)
    config = ctr_retraining.Config(keep=keep, n_epochs=1, n_rows=50, learners=("LR",), out=str(tmp_path))
    record = ctr_retraining.run(config)
    assert [cell["keep"] for cell in record["cells"]] == [*ctr_retraining.KEPT, "designed FM", *tuned]
    assert len(record["claims"]) == 2  # of rows out of a model
    assert published.beside("table_4", "ml-1m")["SPMF"]["AUC DeepFM"] == 0.7878
    with pytest.raises(ValueError, match="--keep must be some of"):
        ctr_retraining.run(ctr_retraining.Config(keep=("raw",), out=str(tmp_path)))
    with pytest.raises(ValueError, match="--keep must be some of"):
        ctr_retraining.run(ctr_retraining.Config(keep=("T2 alone + Fine-tune",), out=str(tmp_path)))


def test_windows_of_users_leave_everybody_a_validation_row_and_the_rest_to_train_on():
    workshop = ctr_retraining.Windows()
    for data in (workshop.data("made", 0), workshop.recent("made", 0)):
        trained, held_out = (np.bincount(part.values[0], minlength=301) for part in (data.train, data.validation))
        assert (trained[1:] > 0).all()
        np.testing.assert_array_equal(held_out[1:], np.ceil((trained + held_out)[1:] / 10).astype(int))


def test_windows_are_cut_by_time_and_validation_is_the_newest_tenth():
    workshop = ctr_retraining.Windows()
    workshop.user_time = False
    old, new = workshop.data("made", 0), workshop.recent("made", 0)
    assert [len(part) for data in (old, new) for part in (data.train, data.validation)] == [9000, 1000] * 2
    frame = tables.made().frame  # whose times are its order
    np.testing.assert_array_equal(old.test.known_labels, frame["label"].iloc[20_000:])
    np.testing.assert_array_equal(new.train.known_labels, frame["label"].iloc[10_000:19_000])
    np.testing.assert_array_equal(old.validation.known_labels, frame["label"].iloc[9000:10_000])
    hard = workshop._kept(ctr_retraining.SPMF, "LR", "made", 0)
    assert len({*hard}) == 9000  # all that there are


def test_freezing_has_a_cell_for_each_kind_and_draws_the_rows(tmp_path):
    record = ctr_freezing.run(
        ctr_freezing.Config(freezing=("none", "half of the rows each"), n_rows=30, n_epochs=2, out=str(tmp_path))
    )
    assert [cell["freezing"] for cell in record["cells"]] == ["none", "half of the rows each"]
    assert record["pictures"] == ["made.png", "rows.png"]
    assert {"made.png", "rows.png"} <= {path.name for path in tmp_path.iterdir()}
    assert published.beside("table_5", "ml-1m")["none"] == {"AUC": 0.6901, "LogLoss": 0.6456}
    with pytest.raises(ValueError, match="--freezing must be one of"):
        ctr_freezing.run(ctr_freezing.Config(freezing=("both",), out=str(tmp_path)))


def test_size_has_a_cell_for_each_number_of_rows_and_a_claim_for_each_source(tmp_path):
    config = ctr_size.Config(n_rows=(20, 60), n_epochs=2, out=str(tmp_path))
    record = ctr_size.run(config)
    assert {(cell["source"], cell["n_rows"]) for cell in record["cells"]} == {
        (source, n) for source in ("raw", "LRSD", "designed FM") for n in (20, 60)
    }
    assert record["pictures"] == ["made.png"]
    assert ["LRSD" in claim.says for claim in record["claims"]] == [True, False]


def test_the_claim_of_few_rows_compares_them_with_the_most_real_ones():
    cells = [
        {"table": "made", "source": source, "learner": "FM", "n_rows": n, "seed": 0, "AUC": auc}
        for source, aucs in (("raw", (0.5, 0.6)), ("LRSD", (0.55, 0.9)), ("designed FM", (0.7, 0.8)))
        for n, auc in zip((20, 60), aucs, strict=True)
    ]
    claims = list(ctr_size.few_beat_many(pd.DataFrame(cells)))
    assert [claim.holds for claim in claims] == [False, True]
    assert "0.7000 against 0.6000" in claims[1].found


def test_the_claim_of_table_2_takes_the_best_source_by_validation():
    figures = {"LRSD": (0.6, 0.9), "FMSD": (0.7, 0.5), "designed LR": (0.8, 0.6), "designed FM": (0.75, 0.95)}
    cells = [
        {"table": "made", "source": source, "learner": "FM", "seed": 0, "validation": validation, "AUC": auc}
        for source, (validation, auc) in figures.items()
    ]
    (claim,) = ctr_table_2.above_inverted(pd.DataFrame(cells))
    assert claim.holds
    assert "FM 0.6000 against 0.5000" in claim.found


def test_real_rows_are_drawn_by_the_seed_from_training_rows():
    workshop = Workshop()
    few, again = (workshop.rows("raw (2K)", "made", 0) for _ in range(2))
    assert len(few) == 2000
    np.testing.assert_array_equal(few.values[0], again.values[0])
    assert (few.values[0] != workshop.rows("raw (2K)", "made", 1).values[0]).any()


def test_published_figures_are_of_sources_that_there_are():
    for table in ("yahoo-uniform", "yahoo-selected", "ml-1m"):
        found = published.beside("table_2", table)
        assert {*found} <= {*SOURCES}
        assert all(len(columns) == 6 for columns in found.values())
    assert found["FMSD"]["AUC FM"] == 0.7293
    assert {*published.beside("table_3", "ml-1m")} <= {*SOURCES}
    assert published.beside("table_3", "ml-1m")["DeepFMSD-BN"] == {"AUC DeepFM": 0.7499, "LogLoss DeepFM": 0.5989}


def test_a_bad_flag_of_a_study_is_told_before_any_work(tmp_path):
    for flags in ({"tables": ("criteo",)}, {"sources": ("GAN",)}, {"learners": ("SVD",)}):
        with pytest.raises(ValueError, match="must be one of"):
            ctr_table_2.run(ctr_table_2.Config(**flags, out=str(tmp_path)))


def test_summaries_have_a_cell_for_each_question_and_source(tmp_path):
    small = {"n_users": 10, "n_rows": 500, "n_epochs": 1, "steps": 3, "shared": str(tmp_path / "shared")}
    sources = ("all users", "DISTILL-CF binary", "DISTILL-CF free labels", "head users")
    config = ctr_summaries.Config(**small, sources=sources, out=str(tmp_path / "out"))
    record = ctr_summaries.run(config)
    assert [(cell["question"], cell["source"]) for cell in record["cells"]] == [
        (question, source) for question in ("implicit", "explicit") for source in sources
    ]
    assert record["pictures"] == ["made_implicit.png", "made_explicit.png"]
    assert len(list((tmp_path / "shared").iterdir())) == 4  # with and without free labels, for each question


@pytest.mark.parametrize(
    ("flags", "message"),
    [({"questions": ("why",)}, "questions"), ({"sources": ("raw",)}, "sources"), ({"n_users": 0}, "n_users")],
)
def test_bad_flags_of_summaries_are_refused(flags, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        ctr_summaries.run(ctr_summaries.Config(**flags, out=str(tmp_path)))


def test_claims_of_summaries_take_the_best_form_by_validation():
    figures = {
        "all users": (0.9, 0.8), "DISTILL-CF soft": (0.7, 0.79), "DISTILL-CF binary": (0.6, 0.9),
        "random users": (0.8, 0.78),
    }  # fmt: skip
    cells = pd.DataFrame(
        {"table": "made", "question": "implicit", "source": name, "learner": "FM", "validation": value, "AUC": auc}
        for name, (value, auc) in figures.items()
    )
    (above,), (near,) = ctr_summaries.above_random(cells), ctr_summaries.near_everybody(cells)
    assert (above.holds, near.holds) == (True, True)
    assert "FM 0.7900 against 0.7800" in above.found
    assert not next(ctr_summaries.near_everybody(cells.assign(AUC=[0.81, 0.79, 0.9, 0.78]))).holds


def test_every_learner_answers_a_question(tmp_path):
    small = {"n_users": 10, "n_rows": 300, "n_epochs": 1, "questions": ("explicit",), "sources": ("random users",)}
    record = ctr_summaries.run(ctr_summaries.Config(**small, learners=("DIN", "FM", "DeepFM"), out=str(tmp_path)))
    assert all(0 < cell["AUC"] < 1 for cell in record["cells"])


def test_all_models_are_trained(tmp_path):
    learners = tuple(ctr_models.LEARNERS)
    record = ctr_models.run(ctr_models.Config(learners=learners, n_rows=500, n_epochs=1, out=str(tmp_path)))
    assert [cell["learner"] for cell in record["cells"]] == [*learners]
    assert all(0 < cell["AUC by user"] < 1 for cell in record["cells"])


def test_a_synthesis_that_was_stopped_goes_on(teacher, monkeypatch):
    folder, _ = teacher
    whole = rows_of(folder, n_rows=100, out=str(folder / "whole.parquet"))
    with monkeypatch.context() as patch:
        patch.setattr(rows_command.Rows, "save", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            rows_of(folder, n_rows=100, out=str(folder / "again.parquet"))
    assert (folder / "again.partial").is_dir()
    again = rows_of(folder, n_rows=100, out=str(folder / "again.parquet"))
    np.testing.assert_array_equal(whole.values[0], again.values[0])
    assert not (folder / "again.partial").exists()
