"""Rows made out of a model alone: what they hold, what they teach, and what is refused."""

import builtins
import warnings
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.metrics import roc_auc_score

torch = pytest.importorskip("torch")

from distillcf.errors import CheckpointError
from experiments.ctr.fields import Field, Fields
from experiments.ctr.models import MODELS, DeepFM, Model
from experiments.ctr.rows import Rows
from experiments.ctr.train import Training, evaluate, fit, labelled, logits
from experiments.inversion import designed, drawn, generated, inverted, learned, membership, queried
from experiments.inversion.pieces import Pieces

N_USERS, N_ITEMS = 120, 80
FIELDS = Fields.numbered(user=N_USERS, item=N_ITEMS)
WAYS = {
    "inverted": partial(inverted.synthesise, threshold=0.5),
    "designed": designed.synthesise,
    "one-hot": drawn.synthesise,
    "queried": queried.synthesise,
    "mixture": partial(drawn.synthesise, kind="mixture"),
}


def world(n, seed=0):
    """Rows of users and items with biases and three directions of taste, and their clicks."""
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=N_USERS), rng.normal(size=N_ITEMS)
    u, v = rng.normal(size=(N_USERS, 3)), rng.normal(size=(N_ITEMS, 3))
    rng = np.random.default_rng(seed)
    user, item = rng.integers(N_USERS, size=n), rng.integers(N_ITEMS, size=n)
    logit = 0.7 * a[user] + 0.7 * b[item] + (u[user] * v[item]).sum(1)
    return Rows(FIELDS, (user + 1, item + 1), (rng.random(n) < 1 / (1 + np.exp(-logit))).astype(float))


def trained(name, rows, *, n_epochs=40, **params):
    model = MODELS[name](FIELDS, **{"n_factors": 4, "width": 16, **params})
    fit(model, rows, training=Training(learning_rate=0.01, weight_decay=1e-5, n_epochs=n_epochs, batch_size=512))
    return model


@pytest.fixture(scope="module")
def teachers():
    rows = world(30_000)
    return {name: trained(name, rows) for name in ("lr", "fm")}


@pytest.fixture(scope="module")
def test_rows():
    return world(5000, seed=1)


def taught(rows, name, test_rows):
    """Test AUC of a student of such rows."""
    model = MODELS[name](FIELDS, n_factors=4, width=16)
    fit(model, rows, training=Training(learning_rate=0.03, n_epochs=150, batch_size=64))
    return evaluate(model, test_rows)["AUC"]


# --- all ways -------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
def test_rows_are_as_many_as_asked_and_the_seeds(way, teachers):
    model = teachers["fm"]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    first, again, other = (WAYS[way](model, 130, seed) for seed in (0, 0, 1))
    assert len(first) == 130
    assert first.labels.min() >= 0
    for a, b, c in zip(*((*rows.values, rows.labels) for rows in (first, again, other)), strict=True):
        assert_array_equal(a, b)
        assert (a != c).any()
    assert all((value == before[name]).all() for name, value in model.state_dict().items())
    assert all(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize("way", WAYS)
def test_no_data_is_read(way, teachers, monkeypatch):
    def refused(*args, **kwargs):
        raise AssertionError("a file was opened")

    monkeypatch.setattr(builtins, "open", refused)
    monkeypatch.delenv("INFAE_DATA", raising=False)
    assert len(WAYS[way](teachers["fm"], 20)) == 20


@pytest.mark.parametrize("way", WAYS)
def test_a_diverged_model_is_refused(way):
    model = MODELS["fm"](FIELDS, n_factors=4)
    with torch.no_grad():
        model.linear.bias.fill_(np.nan)
    with pytest.raises(FloatingPointError, match="it has diverged"):
        WAYS[way](model, 20)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("n_rows", "seed"), [(0, 0), (1.5, 0), (10, -1), ("10", 0)])
def test_bad_numbers_are_refused(way, n_rows, seed, teachers):
    with pytest.raises(ValueError, match=r"n_rows|seed"):
        WAYS[way](teachers["fm"], n_rows, seed)


@pytest.mark.parametrize("way", WAYS)
def test_more_rows_than_memory_holds_are_refused(way, teachers):
    with pytest.raises(MemoryError, match="rows"):
        WAYS[way](teachers["fm"], 10**10)


def test_queried_rows_hold_what_the_model_would_recommend(teachers):
    rows = queried.synthesise(teachers["fm"], 2000)
    found = logits(teachers["fm"], rows)
    assert found[::2].mean() > found[1::2].mean() + 0.5
    with pytest.raises(ValueError, match="field must be one of"):
        queried.synthesise(teachers["fm"], 10, item="movie")


# --- designed rows --------------------------------------------------------------------------------


def test_labels_are_the_mean_logit_over_all_pairs(teachers):
    model = teachers["fm"]
    rows = designed.synthesise(model, 100)
    users, items = np.indices((N_USERS + 1, N_ITEMS + 1)).reshape(2, -1)
    response = logits(model, Rows(FIELDS, (users, items))).reshape(N_USERS + 1, N_ITEMS + 1).astype(np.float64)
    means = np.einsum("nu,ui,ni->n", rows.values[0].astype(np.float64), response, rows.values[1].astype(np.float64))
    assert_allclose(rows.labels, 1 / (1 + np.exp(-means)), atol=1e-5)
    # What a factorisation machine says of a mixture is just that.
    assert_allclose(logits(model, rows), means, atol=1e-4)


def test_designed_rows_span_the_directions_of_the_teacher(teachers):
    """The row space of the shares holds the singular vectors of the response that main effects leave."""
    model = teachers["fm"]
    rows = designed.synthesise(model, 400, rank=4)
    users, items = np.indices((N_USERS, N_ITEMS)).reshape(2, -1) + 1
    response = logits(model, Rows(FIELDS, (users, items))).reshape(N_USERS, N_ITEMS).astype(np.float64)
    rest = response - response.mean(0) - response.mean(1, keepdims=True) + response.mean()
    u, _, vt = np.linalg.svd(rest)
    for shares, vectors in ((rows.values[0], u[:, :4]), (rows.values[1], vt[:4].T)):
        found = np.unique(shares[:, 1:].astype(np.float64), axis=0).T
        fitted = found @ np.linalg.lstsq(found, vectors, rcond=None)[0]
        assert_allclose(fitted, vectors, atol=2e-3)


@pytest.mark.parametrize("student", ["lr", "fm", "deepfm"])
def test_designed_rows_teach_nearly_what_the_teacher_knows(student, teachers, test_rows):
    source = "lr" if student == "lr" else "fm"
    reached = evaluate(teachers[source], test_rows)["AUC"]
    assert taught(designed.synthesise(teachers[source], 600), student, test_rows) > reached - 0.02
    if source == "fm":
        one_hot = taught(drawn.synthesise(teachers[source], 600), student, test_rows)
        assert one_hot < reached - 0.03


def test_a_logistic_regression_needs_few_rows(teachers, test_rows):
    reached = evaluate(teachers["lr"], test_rows)["AUC"]
    assert taught(designed.synthesise(teachers["lr"], 100), "lr", test_rows) > reached - 0.01


def test_a_response_that_is_not_kept_gives_the_same_rows(teachers, monkeypatch):
    kept = designed.synthesise(teachers["fm"], 100)
    monkeypatch.setattr(designed, "KEPT_BYTES", 0)
    anew = designed.synthesise(teachers["fm"], 100)
    assert_array_equal(kept.values[0], anew.values[0])
    assert_array_equal(kept.labels, anew.labels)


@pytest.mark.parametrize("n_rows", [1, 2, 7, 50])
def test_few_rows_are_possible(n_rows, teachers):
    rows = designed.synthesise(teachers["fm"], n_rows)
    assert len(rows) == n_rows


def test_sampled_rows_and_columns_tell_the_whole_response_of_few_factors(teachers):
    # Four factors and main effects: rank 6 at most.
    whole = designed.Response(teachers["fm"], (0, 1), Pieces(None, teachers["fm"]))
    sampled = designed.Sampled(whole, 20, np.random.default_rng(0))
    rng = np.random.default_rng(1)
    left, right = (rng.random((size, 3)).astype(np.float32) for size in whole.shape)
    assert_allclose(sampled.times(right), whole.times(right), atol=1e-3)
    assert_allclose(sampled.transposed_times(left), whole.transposed_times(left), atol=1e-3)


def test_rows_from_a_sample_teach_as_those_of_the_whole(teachers, test_rows):
    auc = taught(designed.synthesise(teachers["fm"], 600, sample=30), "fm", test_rows)
    assert auc > evaluate(teachers["fm"], test_rows)["AUC"] - 0.02


@pytest.fixture(scope="module")
def three_fields():
    """A table whose third field has main effects and a taste of its own, and a factorisation machine of it."""
    rng = np.random.default_rng(3)
    sizes = (60, 40, 6)
    vectors = [rng.normal(0, 0.9, (size, 2)) for size in sizes]
    effects = [rng.normal(0, 0.6, size) for size in sizes]
    columns = [rng.integers(size, size=20_000) for size in sizes]
    u, v, w = (side[column] for side, column in zip(vectors, columns, strict=True))
    logit = sum(e[c] for e, c in zip(effects, columns, strict=True)) + (u * v + u * w + v * w).sum(1)
    labels = (rng.random(20_000) < 1 / (1 + np.exp(-logit))).astype(float)
    fields = Fields.numbered(user=60, item=40, day=6)
    rows = Rows(fields, tuple(column + 1 for column in columns), labels)
    model = MODELS["fm"](fields, n_factors=4)
    fit(model, rows[np.arange(16_000)], training=Training(0.01, 1e-5, 512, 30))
    return model, rows[np.arange(16_000, 20_000)]


def test_designed_rows_of_three_fields_are_labelled_by_mean_logits_and_teach_the_model(three_fields):
    model, held_out = three_fields
    rows = designed.synthesise(model, 800)
    # Of a factorisation machine the logit of shares is the mean over rows that are drawn by them.
    told = torch.logit(torch.tensor(rows.labels)).numpy()
    assert_allclose(told, logits(model, rows), atol=1)
    assert np.abs(told - logits(model, rows)).mean() < 0.08
    student = MODELS["fm"](model.fields, n_factors=4)
    fit(student, rows, training=Training(0.03, 0.0, 64, 150))
    assert evaluate(student, held_out)["AUC"] > evaluate(model, held_out)["AUC"] - 0.02


def test_rows_of_bins_and_several_values():
    frame = pd.DataFrame({"user": [1, 2, 1, 3], "age": [1.0, 5, 3, 9], "genres": ["a|b", "b", "c", "a"]})
    fields = Fields.of(frame, {"user": "category", "age": "bins", "genres": "several"})
    model = MODELS["fm"](fields)
    rows = designed.synthesise(model, 30)
    assert all(value.shape == (30, field.size) for value, field in zip(rows.values, fields, strict=True))
    for kind in drawn.KINDS:
        others = drawn.synthesise(model, 50, kind=kind)
        assert_array_equal(others.labels, labelled(model, others).labels)
        assert all((value > 0).all() if value.ndim == 1 else (value[:, 0] == 0).all() for value in others.values)


def test_what_rows_cannot_be_designed_of_is_refused():
    number = Field("price", "standard")
    with pytest.raises(ValueError, match="which a number is not, got price"):
        designed.synthesise(MODELS["lr"](Fields((Field("user", values=(1, 2)), number))), 10)
    with pytest.raises(ValueError, match="two fields or more"):
        designed.synthesise(MODELS["lr"](Fields.numbered(user=3)), 10)
    with pytest.raises(ValueError, match="sample"):
        designed.synthesise(MODELS["lr"](FIELDS), 10, sample=0)


# --- Algorithm 1 ----------------------------------------------------------------------------------


@pytest.mark.parametrize("space", inverted.SPACES)
def test_rows_reach_the_loss_threshold_on_the_simplex(space, teachers):
    rows = inverted.synthesise(teachers["lr"], 100, threshold=0.3, space=space, learning_rate=0.1, batch_size=40)
    for value in rows.values:
        assert_allclose(value.sum(1), 1, rtol=1e-4)
        assert value.min() >= 0
    assert {*np.unique(rows.labels)} == {0, 1}
    found = logits(teachers["lr"], rows)
    if space == "softmax":
        for at in (slice(0, 40), slice(40, 80), slice(80, 100)):
            assert np.logaddexp(0, -(2 * rows.labels[at] - 1) * found[at]).mean() < 0.3


@pytest.mark.parametrize(("freeze", "still"), [("half", None), ("user", 0), ("item", 1), ("none", None)])
def test_what_is_frozen_stays_as_it_was_drawn(freeze, still, teachers):
    settings = {"threshold": 0.3, "batch_size": 20, "freeze": freeze}
    drawn_rows = inverted.synthesise(teachers["lr"], 20, **{**settings, "threshold": 1e9})
    rows = inverted.synthesise(teachers["lr"], 20, **settings)
    moved = [(a != b).any(1) for a, b in zip(rows.values, drawn_rows.values, strict=True)]
    if freeze == "half":
        assert_array_equal(moved[0], np.arange(20) >= 10)
        assert_array_equal(moved[1], np.arange(20) < 10)
    else:
        assert [each.all() for each in moved] == [k != still for k in range(2)]
        assert [each.any() for each in moved] == [k != still for k in range(2)]


def test_the_share_of_positives_is_chosen_and_labels_may_be_the_teachers(teachers):
    rows = inverted.synthesise(teachers["lr"], 2000, positives=0.2, threshold=10.0)
    assert abs(rows.labels.mean() - 0.2) < 0.03
    soft = inverted.synthesise(teachers["lr"], 50, labels="teacher")
    assert_allclose(soft.labels, 1 / (1 + np.exp(-logits(teachers["lr"], soft).astype(np.float64))), rtol=1e-5)


def test_the_statistics_of_a_batch_are_drawn_to_those_of_training():
    model = trained("deepfm", world(5000), n_epochs=5, batch_norm=True)
    distances = []
    for weight in (0.0, 1.0):
        settings = {"threshold": 0.0, "max_steps": 60, "batch_size": 64, "norm_weight": weight}
        rows = inverted.synthesise(model, 64, **settings)
        with inverted._Statistics([*model.mlp.norms]) as statistics:
            logits(model, rows)
            distances.append(float(statistics.distance()))
    assert distances[1] < 0.7 * distances[0]
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # with the distance counted the threshold is not reached
        rows = inverted.synthesise(model, 64, threshold=0.5, batch_size=64, norm_weight=0.1)
    assert np.logaddexp(0, -(2 * rows.labels - 1) * logits(model, rows)).mean() < 0.5
    with pytest.raises(ValueError, match="norm_weight must be a finite number at least 0"):
        inverted.synthesise(model, 10, norm_weight=-1)
    with pytest.raises(ValueError, match="has none"):
        inverted.synthesise(MODELS["lr"](FIELDS), 10, norm_weight=0.1)


@pytest.mark.parametrize(
    "change",
    [{"positives": 0}, {"threshold": -1}, {"freeze": "both"}, {"space": "logit"}, {"labels": "soft"}, {"max_steps": 0},
     {"batch_size": 0}, {"learning_rate": 0}, {"weight_decay": np.nan}],
    ids=str,
)  # fmt: skip
def test_bad_settings_of_algorithm_1_are_refused(change, teachers):
    with pytest.raises(ValueError, match=next(iter(change))):
        inverted.synthesise(teachers["lr"], 10, **change)


def test_batches_that_are_not_done_are_told(teachers):
    with pytest.warns(UserWarning, match="2 of 2 batches did not reach cross-entropy 0.001 in 3 steps"):
        inverted.synthesise(teachers["lr"], 40, threshold=0.001, max_steps=3, batch_size=20)


def test_numbers_are_not_inverted():
    fields = Fields((Field("user", values=(1, 2)), Field("price", "standard")))
    with pytest.raises(ValueError, match="a number is not, got price"):
        inverted.synthesise(MODELS["lr"](fields), 10)


def test_weights_that_all_leave_the_simplex_are_still_shares(teachers):
    model = MODELS["lr"](Fields.numbered(u=2, i=2))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(1.0)
    settings = {"space": "weights", "threshold": 0.0, "freeze": "none", "max_steps": 100, "positives": 0.01}
    with pytest.warns(UserWarning, match="did not reach"):
        rows = inverted.synthesise(model, 20, **settings)
    assert_allclose(rows.values[0].sum(1), 1, rtol=1e-5)


@pytest.mark.parametrize("way", WAYS)
def test_values_that_nobody_has_seen_are_left_out(way, teachers):
    rows = WAYS[way](teachers["fm"], 30).soft()
    assert all(value[:, [0]].nnz == 0 or value[:, [0]].max() == 0 for value in rows.values)


def test_a_model_of_ones_own_serves():
    """Anything that is a `Model` with a forward of its own."""

    class Mine(Model):
        def _build(self):
            self.inner = DeepFM(self.fields, n_factors=2, width=4)

        def forward(self, x, rng=None):
            return 2 * self.inner(x, rng)

    for way in WAYS.values():
        assert len(way(Mine(FIELDS), 10)) == 10


# --- rows of generators, and attacks ---------------------------------------------------------------


@pytest.fixture(scope="module")
def clicks():
    """Rows in which a user likes one of two kinds of items."""
    rng = np.random.default_rng(0)
    user, item = (rng.integers(size, size=4000) for size in (20, 30))
    label = (user % 2 == item % 2).astype(int)
    return Fields.numbered(user=20, item=30).rows(pd.DataFrame({"user": user, "item": item, "label": label}), "label")


@pytest.mark.parametrize("kind", generated.KINDS)
def test_a_generator_learns_who_likes_what(kind, clicks):
    rows = generated.synthesise(clicks, 2000, kind=kind, n_epochs=10)
    agrees = (rows.values[0] % 2 == rows.values[1] % 2)[rows.known_labels == 1]
    assert agrees.mean() > 0.7
    assert {*np.unique(rows.known_labels)} == {0, 1}
    assert all(value.min() > 0 for value in rows.values)
    if kind == "augcf":
        assert (rows.values[0] % 2 == rows.values[1] % 2)[rows.known_labels == 0].mean() < 0.3


@pytest.mark.parametrize("kind", generated.KINDS)
def test_generated_rows_are_the_seeds(kind, clicks):
    first, again, other = (generated.synthesise(clicks, 50, seed, kind=kind, n_epochs=1) for seed in (0, 0, 1))
    assert_array_equal(first.values[1], again.values[1])
    assert (first.values[1] != other.values[1]).any()


@pytest.mark.parametrize("kind", generated.KINDS)
def test_the_value_that_nobody_has_seen_has_no_part_in_what_a_generator_learns(kind):
    rng = torch.Generator().manual_seed(0)
    batch = tuple(torch.ones(6, dtype=torch.int64) for _ in range(3))
    game = generated.Game(kind, batch, (4, 5), rng)
    *_, loss = game.losses(rng, *batch)
    loss.backward()
    slopes = game.module["generator"].items.grad
    assert (slopes[0] == 0).all()
    assert (slopes[1:] != 0).any()


def test_a_generator_of_other_rows_is_refused(clicks):
    with pytest.raises(ValueError, match="kind must be one of"):
        generated.synthesise(clicks, 10, kind="gan")
    with pytest.raises(ValueError, match="labels 0 and 1"):
        generated.synthesise(replace(clicks, labels=np.full(4000, 0.5)), 10)
    with pytest.raises(ValueError, match="two category fields"):
        generated.synthesise(clicks.soft(), 10)
    with pytest.raises(ValueError, match="no rows with label 1"):
        generated.synthesise(replace(clicks, labels=np.zeros(4000)), 10)


def test_an_attack_on_rows_is_as_its_formula(clicks):
    rng = np.random.default_rng(1)
    fields = clicks.fields
    soft = tuple(rng.dirichlet(np.ones(field.size), 8).astype(np.float32) for field in fields)
    rows = Rows(fields, soft, rng.random(8))
    members, others = clicks[np.arange(50)], clicks[np.arange(50, 90)]

    def score(asked):
        found = []
        for i, j, y in zip(*asked.values, asked.known_labels, strict=True):
            mass = soft[0][:, i] * soft[1][:, j]
            agree = y * rows.known_labels + (1 - y) * (1 - rows.known_labels)
            found.append((mass * agree).sum() / mass.sum())
        return found

    scores = [*score(members), *score(others)]
    expected = roc_auc_score(np.repeat([1, 0], [50, 40]), scores)
    assert_allclose(membership.by_rows(rows, members, others), expected, atol=1e-3)


def test_attacks_find_what_was_memorised_and_nothing_where_nothing_is_told():
    rng = np.random.default_rng(2)
    pairs = rng.permutation(20 * 30)[:300]
    every = Fields.numbered(user=20, item=30).rows(
        pd.DataFrame({"user": pairs // 30, "item": pairs % 30, "label": rng.integers(0, 2, 300)}), "label"
    )
    members, others = every[np.arange(150)], every[np.arange(150, 300)]
    assert membership.by_rows(members, members, others) == 1
    model = MODELS["fm"](every.fields, n_factors=16)
    fit(model, members, training=Training(learning_rate=0.05, n_epochs=100, batch_size=50))
    assert membership.by_loss(model, members, others) > 0.9
    untrained = MODELS["fm"](every.fields)
    with torch.no_grad():
        for parameter in untrained.parameters():
            parameter.zero_()
    assert membership.by_loss(untrained, members, others) == 0.5


# --- runs that were stopped -----------------------------------------------------------------------


def stopped_after(model, n_calls, synthesise):
    """Has the model fail at the call after so many."""
    forward, calls = model.forward, []

    def failing(*args):
        calls.append(1)
        if len(calls) > n_calls:
            raise KeyboardInterrupt
        return forward(*args)

    model.forward = failing
    try:
        with pytest.raises(KeyboardInterrupt):
            synthesise()
    finally:
        del model.forward


@pytest.mark.parametrize(
    "way",
    [partial(inverted.synthesise, threshold=0.5, batch_size=10), designed.synthesise],
    ids=["inverted", "designed"],
)
def test_a_run_that_was_stopped_goes_on_to_the_same_bits(way, teachers, tmp_path):
    model = teachers["fm"]
    whole = way(model, 40, 3)
    n_calls = 1 if way is designed.synthesise else 30
    stopped_after(model, n_calls, lambda: way(model, 40, 3, checkpoint=tmp_path / "part"))
    assert len(list((tmp_path / "part").iterdir())) > 1
    again = way(model, 40, 3, checkpoint=tmp_path / "part")
    for a, b in zip((*whole.values, whole.labels), (*again.values, again.labels), strict=True):
        assert_array_equal(a, b)
    # All is there now: a model that fails at the first call is not asked.
    forward = model.forward
    model.forward = lambda *args: pytest.fail("asked again")
    try:
        assert_array_equal(way(model, 40, 3, checkpoint=tmp_path / "part").labels, whole.labels)
    finally:
        model.forward = forward
        del model.forward


def test_a_checkpoint_of_other_rows_or_a_damaged_one_is_refused(teachers, tmp_path):
    inverted.synthesise(teachers["fm"], 20, checkpoint=tmp_path)
    with pytest.raises(CheckpointError, match="another model or other settings"):
        inverted.synthesise(teachers["fm"], 20, seed=1, checkpoint=tmp_path)
    with pytest.raises(CheckpointError, match="another model or other settings"):
        inverted.synthesise(teachers["lr"], 20, checkpoint=tmp_path)
    designed.synthesise(teachers["fm"], 20, rank=4, checkpoint=tmp_path / "designed")
    with pytest.raises(CheckpointError, match="another model or other settings"):
        designed.synthesise(teachers["fm"], 20, rank=2, checkpoint=tmp_path / "designed")
    (tmp_path / "batch_0.npz").write_bytes(b"PK")
    with pytest.raises(CheckpointError, match="damaged"):
        inverted.synthesise(teachers["fm"], 20, checkpoint=tmp_path)


# --- rows learned from data -----------------------------------------------------------------------


def test_rows_learned_by_the_kernel_teach_more_than_as_many_real_ones(test_rows):
    rows = world(20_000, seed=5)
    made = learned.by_kernel(rows, 150, steps=40)
    assert made.labels.min() > 0
    assert taught(made, "fm", test_rows) > taught(rows[np.arange(150)], "fm", test_rows) + 0.03


def test_a_thousand_rows_are_learned_of_rare_clicks():
    # All linear weights are far below zero, so that one eigenvalue of the rows' kernel is 1e5 times the others.
    rows = world(20_000, seed=5)
    rare = replace(rows, labels=rows.labels * (np.random.default_rng(0).random(len(rows)) < 0.1))
    made = learned.by_kernel(rare, 1000, steps=1)
    assert np.isfinite(made.labels).all()


def test_rows_by_gradients_teach_more_than_as_many_real_ones(test_rows):
    rows = world(20_000, seed=5)
    made = learned.by_gradients(rows, 150, steps=60)
    assert_array_equal(made.labels, np.arange(150) % 2)
    assert taught(made, "lr", test_rows) > taught(rows[np.arange(150)], "lr", test_rows)


def test_herded_rows_are_different_real_ones_whose_labels_are_as_all_rows():
    rows = world(3000, seed=5)
    chosen = learned.herded(rows, 200)
    places = {pair: k for k, pair in enumerate(zip(*rows.values, strict=True))}
    assert all(pair in places for pair in zip(*chosen.values, strict=True))
    assert abs(chosen.labels.mean() - rows.labels.mean()) < 0.03
    assert len(learned.herded(rows[np.arange(20)], 50)) == 20


@pytest.mark.parametrize("learn", [learned.by_kernel, learned.by_gradients, learned.herded])
def test_rows_that_cannot_be_learned_from_are_refused(learn):
    rows = world(100)
    with pytest.raises(ValueError, match="labels 0 and 1, both"):
        learn(replace(rows, labels=np.ones(100)), 10)
    with pytest.raises(ValueError, match="ids of category fields"):
        learn(rows.soft(), 10)
    with pytest.raises(ValueError, match="n_rows"):
        learn(rows, 0)
    if learn is not learned.herded:  # which takes at most all
        with pytest.raises(MemoryError, match="soft rows"):
            learn(rows, 10**9)
