"""Kernel ridge regression on landmarks: against its formula, the exact fit, and itself in other orders."""

import numpy as np
import oracles
import pytest
import scipy.sparse as sp
from numpy.testing import assert_allclose, assert_array_equal
from oracles import random_clicks

import infae
from infae import InfiniteAE, Interactions
from infae.data import Blocks
from infae.errors import IllConditionedWarning, NotFittedError, SingularKernelError
from infae.inputs import InputMap
from infae.kernels import ReluNTK
from infae.landmarks import centroids, choose_anchors, pivoted_cholesky, survey
from infae.solvers import nystrom, sums

N_USERS, N_ITEMS = 90, 40
DTYPES = ("float32", "float64")
SETTINGS = [
    {},
    {"popularity_power": -0.5, "row_power": 1.0, "b_std": 0.0},
    {"popularity_power": -0.25, "depth": 2, "row_power": 0.5},
]


@pytest.fixture(scope="module")
def clicks():
    return random_clicks(N_USERS, N_ITEMS, seed=2, density=0.25)


@pytest.fixture(scope="module")
def histories():
    return random_clicks(15, N_ITEMS, seed=7)


def fit(clicks, reg=2.0, **params):
    return infae.fit(clicks, reg, solver="nystrom", **{"n_anchors": 20, "dtype": "float64", **params})


def formula(train, anchors, histories, reg, targets=None, **settings):
    """scores = K_um (K_nm' K_nm + ridge K_mm)^-1 K_nm' X by dense float64 NumPy."""
    network = {name: settings[name] for name in ("depth", "b_std") if name in settings}
    rows = {
        name: oracles.input_rows(x, train, settings.get("popularity_power", 0.0), settings.get("row_power", 0.0))
        for name, x in (("n", train), ("m", anchors), ("u", histories))
    }
    k_nm, k_mm, k_um = (oracles.relu_ntk(rows[a], rows["m"], **network) for a in "nmu")
    ridge = reg * np.mean([oracles.relu_ntk(x[None], x[None], **network)[0, 0] for x in rows["n"]])
    coef = np.linalg.solve(k_nm.T @ k_nm + ridge * k_mm, k_nm.T @ (train if targets is None else targets))
    return k_um @ coef


def anchors_of(model, clicks):
    return np.asarray(clicks)[model.user_ids_]


# --- the solve ------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_the_formula(settings, clicks, histories, dtype):
    model = fit(clicks, dtype=np.dtype(dtype).name, **settings)
    expected = formula(clicks, anchors_of(model, clicks), histories, 2.0, **settings)
    scores = model.predict(histories)
    assert scores.dtype == dtype
    # The landmarks' jitter and, squared by the normal equations, the condition number.
    near = {"rtol": 1e-6, "atol": 1e-8} if dtype == np.float64 else {"rtol": 1e-3, "atol": 1e-4}
    assert_allclose(scores, expected, **near)
    assert model.residual_ < (1e-9 if dtype == np.float64 else 1e-3)


@pytest.mark.slow
def test_with_all_users_as_landmarks_it_is_the_exact_fit(clicks, histories):
    exact = infae.fit(clicks, 2.0, dtype="float64")
    model = fit(clicks, n_anchors=N_USERS)
    assert_allclose(model.predict(histories), exact.predict(histories), rtol=1e-6, atol=1e-8)
    assert_allclose(model.predict(clicks), exact.predict(clicks), rtol=1e-6, atol=1e-8)


def test_labels_of_their_own(clicks, histories):
    labels = np.random.default_rng(0).standard_normal(clicks.shape)
    model = infae.InfiniteAE(2.0, solver="nystrom", n_anchors=20, dtype="float64").fit(clicks, targets=labels)
    assert_allclose(
        model.predict(histories),
        formula(clicks, anchors_of(model, clicks), histories, 2.0, labels),
        rtol=1e-6,
        atol=1e-9,
    )


@pytest.mark.slow
def test_an_own_kernel(clicks, histories):
    model = fit(clicks, kernel=lambda x, z=None: infae.kernels.relu_ntk(x, x if z is None else z))
    assert_allclose(model.predict(histories), fit(clicks).predict(histories), rtol=1e-6, atol=1e-9)


@pytest.mark.slow
def test_many_small_blocks_and_tiles_give_the_same(clicks, histories, monkeypatch):
    whole = fit(clicks).predict(histories)
    monkeypatch.setattr(sums, "block_users", lambda n_landmarks: 7)
    monkeypatch.setattr(sums, "tile_size", lambda n: 8)
    monkeypatch.setattr("infae.kernels.grams.tile_size", lambda n: 8)
    assert_allclose(fit(clicks).predict(histories), whole, rtol=1e-8, atol=1e-10)


@pytest.mark.slow
def test_equal_landmarks_do_no_harm(clicks, histories):
    repeated = Interactions.from_matrix(np.concatenate([clicks[:10]] * 3))
    twice, once = (fit(clicks, anchors=a) for a in (repeated, Interactions.from_matrix(clicks[:10])))
    assert_array_equal(twice.user_ids_, once.user_ids_)
    assert_array_equal(twice.predict(histories), once.predict(histories))


@pytest.mark.parametrize("reg", [1e-3, 0.1, 10.0])
def test_single_precision_is_near_double(reg, clicks, histories):
    scores = [fit(clicks, reg, dtype=dtype, row_power=1.0, b_std=0.0).predict(histories) for dtype in DTYPES]
    assert np.abs(scores[0] - scores[1]).max() < 2e-3


def test_several_regs_share_the_sums(clicks, monkeypatch):
    calls = []
    real = nystrom.accumulate
    monkeypatch.setattr("infae.solvers.nystrom.accumulate", lambda *a, **k: calls.append(1) or real(*a, **k))
    train = Interactions.from_matrix(clicks)
    rng = np.random.default_rng(3)
    held_out = train.with_matrix(sp.csr_matrix((clicks == 0) & (rng.random(clicks.shape) < 0.1), dtype=np.float32))
    model = fit(train, (0.1, 1.0, 10.0), validation=held_out)
    assert calls == [1]
    assert [row["reg"] for row in model.path_] == [0.1, 1.0, 10.0]
    best = max(model.path_, key=lambda row: row["HR@100"])
    assert model.reg_ == best["reg"]
    alone = fit(train, model.reg_)
    assert_array_equal(alone.predict(train), model.predict(train))


# --- users who come later, or in blocks -----------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("height", [8, 64, 512])
@pytest.mark.parametrize("sizes", [(90,), (1, 50, 39), (30, 30, 30)])
def test_blocks_are_fitted_as_one_matrix(sizes, height, clicks, histories, monkeypatch):
    monkeypatch.setattr(sums, "block_users", lambda n_landmarks: height)
    anchors = Interactions.from_matrix(clicks[:20])

    def read():
        yield from np.split(clicks, np.cumsum(sizes)[:-1])

    for settings in SETTINGS:
        streamed = fit(Blocks(read, N_ITEMS), anchors=anchors, **settings)
        assert_allclose(
            streamed.predict(histories),
            fit(clicks, anchors=anchors, **settings).predict(histories),
            rtol=1e-7,
            atol=1e-9,
        )


def test_landmarks_of_blocks_are_users_of_any_block(clicks):
    blocks = Blocks(lambda: iter([clicks[:10], sp.csr_matrix(clicks[10:])]), N_ITEMS)
    popularity, drawn = survey(blocks, 20, seed=0)
    assert_array_equal(popularity, clicks.sum(axis=0))
    assert_array_equal(drawn.matrix.toarray(), clicks[drawn.user_ids])
    model = fit(blocks)
    assert len(set(model.user_ids_.tolist())) == 20
    assert model.user_ids_.max() > 10


def test_a_survey_draws_users_alike(monkeypatch):
    monkeypatch.setattr("infae.landmarks._LEAST_CANDIDATES", 5)
    monkeypatch.setattr("infae.landmarks._CANDIDATES_PER_LANDMARK", 1)
    clicks = random_clicks(30, 8, seed=1, density=0.5)
    clicks[:, 0] = 1
    blocks = Blocks(lambda: (clicks[a:b] for a, b in ((0, 3), (3, 20), (20, 30))), 8)
    drawn = np.concatenate([survey(blocks, 1, seed)[1].user_ids for seed in range(400)])
    counts = np.bincount(drawn, minlength=30)
    assert counts.sum() == 2000
    # Standard deviation about 7.5 for each of 30 users.
    assert np.abs(counts - 2000 / 30).max() < 35


def test_users_added_later_make_one_fit_of_all(clicks, histories, tmp_path):
    anchors, weights = Interactions.from_matrix(clicks[:20]), np.linspace(1, 2, N_ITEMS)
    settings = {"anchors": anchors, "item_weights": weights}
    whole = fit(clicks, **settings)
    model = fit(clicks[:50], **settings)
    before = model.predict(histories)
    model.save(tmp_path / "model.npz")
    later = infae.load(tmp_path / "model.npz")
    assert_array_equal(later.predict(histories), before)
    for grown in (model, later):
        assert grown.partial_fit(clicks[50:70]) is grown
        grown.partial_fit(Blocks(lambda: [clicks[70:80], clicks[80:]], N_ITEMS))
        assert_allclose(grown.predict(histories), whole.predict(histories), rtol=1e-7, atol=1e-9)
        assert len(grown.path_) == 3
    later.save(tmp_path / "again.npz")
    assert_array_equal(infae.load(tmp_path / "again.npz").predict(histories), later.predict(histories))


def test_users_who_cannot_be_added_leave_the_model_as_it_was(clicks, histories, monkeypatch):
    model = fit(clicks)
    before = model.predict(histories)
    with pytest.raises(ValueError, match="40 fitted items"):
        model.partial_fit(clicks[:, :30])
    with pytest.raises(ValueError, match="other items than the 40 fitted"):
        model.partial_fit(Blocks(lambda: [clicks[:, :30]], 30))

    def fails(*args, **kwargs):
        raise SingularKernelError("no")

    monkeypatch.setattr("infae.solvers.nystrom.solve_landmarks", fails)
    with pytest.raises(SingularKernelError):
        model.partial_fit(clicks[:5])
    assert_array_equal(model.predict(histories), before)


# --- which users are landmarks --------------------------------------------------------------------


def linear(x, z=None):
    return x @ (x if z is None else z).T


def choose(clicks, n, method, seed=0, dtype=np.float64):
    inputs = InputMap(None, 0.0)
    return choose_anchors(sp.csr_matrix(clicks.astype(dtype)), n, method, inputs, ReluNTK(), np.dtype(dtype), seed)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["uniform", "rpcholesky"])
def test_landmarks_differ_from_each_other(method):
    clicks = np.tile(random_clicks(12, 9, seed=4), (5, 1))
    for n, expected in ((5, 5), (12, 12), (30, 12)):
        chosen = choose(clicks, n, method)
        assert chosen.size == expected
        assert len({tuple(row) for row in clicks[chosen].tolist()}) == expected
        assert_array_equal(chosen, choose(clicks, n, method))


@pytest.mark.slow
def test_pivots_span_what_there_is(dtype):
    """A kernel of rank 6, whose last five directions belong to one user in forty: that many pivots explain it all."""
    rows = np.zeros((400, 6))
    rows[:, 0] = 1
    rows[::10, 0] = 0
    rows[::10, 1:] = np.tile(np.eye(5), (8, 1))
    chosen, _ = pivoted_cholesky(linear, sp.csr_matrix(rows, dtype=dtype), 20, np.random.default_rng(0))
    assert np.linalg.matrix_rank(rows[chosen]) == chosen.size == 6


@pytest.mark.slow
def test_pivots_are_drawn_as_one_at_a_time():
    """The chance of the pair, against the product of the two chances; three of a kind, so that blocks would repeat."""
    clicks = np.zeros((4, 14))
    clicks[:3, :10] = 1
    clicks[[1, 2], [10, 11]] = 1
    clicks[3, 8:] = 1
    kernel = np.asarray(oracles.relu_ntk(clicks, clicks))
    expected = np.zeros((4, 4))
    for first in range(4):
        rest = np.diagonal(kernel) - kernel[:, first] ** 2 / kernel[first, first]
        rest = np.clip(rest, 0, None)
        expected[first] = kernel[first, first] / np.trace(kernel) * rest / rest.sum()
    both = expected + expected.T
    # In proportion to the first chances, were nothing thinned out.
    share = np.diagonal(kernel) / np.trace(kernel)
    naive = np.outer(share, share) / (1 - share[:, None])
    np.fill_diagonal(naive, 0)
    assert np.abs(naive + naive.T - both).max() > 0.1
    n, found = 1000, np.zeros((4, 4))
    for seed in range(n):
        (a, b), _ = pivoted_cholesky(ReluNTK(), sp.csr_matrix(clicks, dtype=np.float64), 2, np.random.default_rng(seed))
        found[a, b] += 1
        found[b, a] += 1
    assert np.abs(found / n - both).max() < 5 * 0.5 / np.sqrt(n)


@pytest.mark.slow
def test_landmarks_may_be_handed_in(clicks, histories):
    soft = np.random.default_rng(1).uniform(0.1, 1, (6, N_ITEMS))
    given = Interactions(sp.csr_matrix(soft, dtype=np.float64), np.arange(6), np.arange(N_ITEMS))
    model = fit(clicks, anchors=given)
    assert_allclose(model.predict(histories), formula(clicks, soft, histories, 2.0), rtol=1e-5, atol=1e-7)
    turned = Interactions(sp.csr_matrix(given.matrix[:, ::-1]), given.user_ids, given.item_ids[::-1])
    assert_array_equal(fit(clicks, anchors=turned).predict(histories), model.predict(histories))


# --- means of groups of users ---------------------------------------------------------------------

WEIGHTS = np.linspace(2, 0.2, N_ITEMS)


def means(clicks, n, weights=None, seed=0, dtype="float64"):
    users = clicks if isinstance(clicks, Interactions) else Interactions.from_matrix(clicks)
    return centroids(users, n, InputMap(weights, 0.5), np.dtype(dtype), seed)


def lloyd(clicks, starts, weights):
    """Ten steps of k-means of the weighted rows at length 1, from some of them; back to clicks."""
    rows = clicks.astype(np.float64) * weights
    lengths = np.linalg.norm(rows, axis=1)
    unit = rows / lengths[:, None]
    centres = unit[starts]
    for _ in range(10):
        group = ((unit[:, None] - centres) ** 2).sum(axis=2).argmin(axis=1)
        assert set(group) == set(range(len(starts)))
        centres = np.array([unit[group == g].mean(axis=0) for g in range(len(starts))])
    stretched = [centres[g] * lengths[group == g].mean() for g in range(len(starts))]
    return np.minimum(np.array(stretched) / weights, 1)


def in_order(rows):
    return np.asarray(rows)[np.lexsort(np.asarray(rows).round(5).T)]


def planted(n_users, n_groups, n_seen, seed=0):
    """(clicks, group): each user clicks n_seen of the 8 items of a group."""
    rng = np.random.default_rng(seed)
    group = np.arange(n_users) % n_groups
    clicks = np.zeros((n_users, 8 * n_groups), np.float32)
    for user in range(n_users):
        clicks[user, 8 * group[user] + rng.choice(8, n_seen, replace=False)] = 1
    return clicks, group


@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["raw", "weighted"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_centroids_are_those_of_lloyds_steps(seed, weights, clicks, dtype):
    # Soft, so that no user is as near to one as to another.
    soft = clicks * np.random.default_rng(1).uniform(0.7, 1, clicks.shape).astype(np.float32)
    users = Interactions(sp.csr_matrix(soft), np.arange(N_USERS), np.arange(N_ITEMS))
    found = means(users, 8, weights, seed, dtype.name)
    starts = choose(soft, 8, "uniform", seed)
    expected = lloyd(soft, starts, np.ones(N_ITEMS) if weights is None else weights)
    assert_allclose(in_order(found.matrix.toarray()), in_order(expected), rtol=1e-5, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["raw", "weighted"])
@pytest.mark.parametrize("n", [1, 7, 40])
def test_centroids_are_different_soft_histories(n, weights, clicks):
    found = means(clicks, n, weights)
    rows = found.matrix.toarray()
    assert found.shape == (n, N_ITEMS)
    assert found.matrix.dtype == np.float32
    assert len({tuple(row) for row in rows.tolist()}) == n
    assert rows.any(axis=1).all()
    assert 0 <= rows.min() <= rows.max() <= 1
    assert found.matrix.data.min() > 0
    assert_array_equal(rows, means(clicks, n, weights).matrix.toarray())
    assert n == 1 or (in_order(rows) != in_order(means(clicks, n, weights, seed=1).matrix.toarray())).any()


def test_an_item_of_a_whole_group_is_clicked_once_however_long_the_histories():
    """The mean of its share of each history's length, times the mean length, is more than 1."""
    clicks = np.zeros((4, 10))
    clicks[:, 0] = 1
    clicks[2:, 1:] = 1
    (row,) = means(clicks, 1).matrix.toarray()
    length = (1 + np.sqrt(10)) / 2
    assert_allclose(row, [1] + 9 * [length / np.sqrt(10) / 2], rtol=1e-6)


def test_planted_groups_are_found():
    clicks, group = planted(120, 3, 6)
    # Among the few seeds that begin with a user of each group.
    seed = next(s for s in range(20) if len(set(group[choose(clicks, 3, "uniform", s)])) == 3)
    expected = [clicks[group == g].mean(axis=0) for g in range(3)]
    assert_allclose(in_order(means(clicks, 3, seed=seed).matrix.toarray()), in_order(expected), rtol=1e-5)


def test_fewer_users_than_asked_are_landmarks_themselves(clicks):
    repeated = np.concatenate([clicks, clicks[:10]])
    found = means(repeated, 1000)
    assert found.shape == (N_USERS, N_ITEMS)
    assert_array_equal(found.matrix.toarray(), repeated[found.user_ids])
    assert_array_equal(in_order(found.matrix.toarray()), in_order(clicks))


def test_a_group_of_nobody_takes_users_far_from_theirs():
    """Two first users who differ in length alone: all who are near go to one of them."""
    soft = np.concatenate([np.outer([1, 0.5, 0.25, 0.125], [1, 1, 0, 0]), [[0, 0, 1, 1], [0, 0, 1, 0], [0, 0, 0, 1]]])
    users = Interactions(sp.csr_matrix(soft, dtype=np.float32), np.arange(7), np.arange(4))
    for seed in range(10):
        rows = means(users, 4, seed=seed).matrix.toarray()
        assert rows.any(axis=1).all()
        # All that differ in direction.
        assert len({tuple(row) for row in rows.round(4).tolist()}) == 4
        assert_allclose(in_order(rows / np.linalg.norm(rows, axis=1)[:, None]), in_order(directions()), atol=1e-6)


def directions():
    half = np.sqrt(0.5)
    return [[half, half, 0, 0], [0, 0, half, half], [0, 0, 1, 0], [0, 0, 0, 1]]


@pytest.mark.slow
@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_centroids_serve_as_if_handed_in(settings, clicks, histories):
    model = fit(clicks, anchors="kmeans", **settings)
    weights = model.inputs_.item_weights
    given = means(clicks, 20, weights)
    assert_array_equal(
        fit(clicks, anchors=given, **settings).predict(histories),
        model.predict(histories),
    )
    expected = formula(clicks, given.matrix.toarray().astype(np.float64), histories, 2.0, **settings)
    assert_allclose(model.predict(histories), expected, rtol=1e-5, atol=1e-7)
    assert_array_equal(model.user_ids_, np.arange(20))


@pytest.mark.slow
def test_on_planted_groups_means_are_nearer_the_exact_fit_than_users():
    clicks, _ = planted(300, 8, 4)
    exact = infae.fit(clicks, 0.5, dtype="float64").predict(clicks)
    off = {
        method: np.mean(
            [((fit(clicks, 0.5, n_anchors=24, anchors=method, seed=s).predict(clicks) - exact) ** 2) for s in range(3)]
        )
        for method in ("uniform", "kmeans")
    }
    assert off["kmeans"] < 0.8 * off["uniform"]


def test_a_model_of_centroids_is_saved_and_takes_blocks(clicks, histories, tmp_path):
    settings = {"anchors": "kmeans", "popularity_power": -0.5, "row_power": 0.5}
    model = fit(clicks, **settings)
    model.save(tmp_path / "model.npz")
    later = infae.load(tmp_path / "model.npz")
    assert later.get_params() == model.get_params()
    assert_array_equal(later.predict(histories), model.predict(histories))
    streamed = fit(Blocks(lambda: [clicks[:10], sp.csr_matrix(clicks[10:])], N_ITEMS), **settings)
    assert_allclose(streamed.predict(histories), model.predict(histories), rtol=1e-7, atol=1e-9)


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"solver": "cholesky"}, "solver must be one of 'exact', 'cg', 'nystrom', 'auto', got 'cholesky'"),
        ({"n_anchors": 0}, "n_anchors must be a whole number of at least 1, got 0"),
        ({"n_anchors": 2.5}, "n_anchors must be"),
        ({"anchors": "all"}, "anchors must be one of"),
    ],
)
def test_bad_parameters_are_refused(params, message, clicks):
    with pytest.raises(ValueError, match=message):
        InfiniteAE(**{"reg": 1.0, "solver": "nystrom", **params}).fit(clicks)


def test_without_a_penalty_there_is_no_solution(clicks):
    with pytest.raises(SingularKernelError, match="landmarks need a reg above 0"):
        fit(clicks, 0.0)
    train = Interactions.from_matrix(clicks)
    held_out = train.with_matrix(sp.csr_matrix(np.roll(clicks, 1, axis=1) * (clicks == 0)))
    with pytest.warns(IllConditionedWarning, match="passed over: landmarks need"):
        model = fit(train, (0.0, 1.0), validation=held_out)
    assert model.reg_ == 1.0
    assert "landmarks need" in model.path_[0]["failure"]


def test_blocks_need_landmarks_and_a_function_that_reads(clicks):
    blocks = Blocks(lambda: [clicks], N_ITEMS)
    with pytest.raises(ValueError, match="solver='nystrom'"):
        infae.fit(blocks)
    with pytest.raises(ValueError, match=r"gives the blocks anew.*got generator"):
        Blocks((x for x in [clicks]), N_ITEMS)
    with pytest.raises(ValueError, match="expected blocks of 39 columns"):
        fit(Blocks(lambda: [clicks], 39))
    with pytest.raises(ValueError, match="no user with clicks"):
        fit(Blocks(lambda: [0 * clicks], N_ITEMS))
    held_out = Interactions.from_matrix(clicks)
    with pytest.raises(ValueError, match="on a Split"):
        fit(blocks, validation=held_out)


@pytest.mark.slow
def test_only_landmark_models_take_more_users(clicks):
    with pytest.raises(ValueError, match="solver='nystrom'"):
        infae.fit(clicks).partial_fit(clicks)
    with pytest.raises(NotFittedError):
        InfiniteAE(solver="nystrom").partial_fit(clicks)


def test_leave_one_out_needs_the_exact_fit(clicks):
    with pytest.raises(ValueError, match="solver='exact'"):
        fit(clicks).leave_one_out([0])


def test_too_little_memory_is_said_before_any_work(clicks, monkeypatch):
    monkeypatch.setattr("infae.runtime.memory.available_bytes", lambda: 1000)
    with pytest.raises(MemoryError, match="sums over 20 landmarks x 40 items"):
        fit(clicks)


def test_uneven_blocks_are_evened_out(clicks):
    rows = [(sp.csr_matrix(part), sp.csr_matrix(2 * part)) for part in np.split(clicks, [1, 3, 40, 41])]
    even = list(sums._even(rows, 16))
    assert [block.shape[0] for block, _ in even] == [16] * 5 + [10]
    assert_array_equal(sp.vstack([block for block, _ in even]).toarray(), clicks)
    assert_array_equal(sp.vstack([targets for _, targets in even]).toarray(), 2 * clicks)


@pytest.mark.parametrize("row_power", [0.0, 0.5])
def test_pivots_end_where_the_users_left_are_repetitions(row_power):
    """With rows that are not 0/1 a repeated user's kernel with itself rounds below its diagonal."""
    clicks = np.repeat(random_clicks(12, N_ITEMS, seed=4, density=0.3), 5, axis=0)
    inputs = InputMap(np.linspace(0.3, 1.7, N_ITEMS), row_power)(sp.csr_matrix(clicks), np.dtype(np.float32))
    chosen, _ = pivoted_cholesky(ReluNTK(), inputs, 30, np.random.default_rng(0))
    assert set(chosen // 5) == set(range(12))
