"""Slow, obvious twins of the library's fast paths, the inputs they are compared on, and how closely.

Everything here is plain Python and NumPy in float64; nothing imports the library's numerics.
"""

from __future__ import annotations

import math

import numpy as np
import scipy.sparse as sp

from infae import Interactions


def tolerance(dtype) -> dict[str, float]:
    """How far a result computed in `dtype` may be from its twin, as keywords of assert_allclose."""
    return {"float32": {"rtol": 2e-4, "atol": 2e-5}, "float64": {"rtol": 1e-8, "atol": 1e-10}}[np.dtype(dtype).name]


def random_clicks(n_users: int, n_items: int, seed: int = 0, density: float = 0.3) -> np.ndarray:
    """(n_users, n_items) 0/1 clicks, popular items first, nobody and nothing without a click."""
    rng = np.random.default_rng(seed)
    share = np.linspace(1, 0.05, n_items) ** 2
    clicks = rng.random((n_users, n_items)) < density * share / share.mean()
    clicks[np.arange(n_users), rng.integers(0, n_items, n_users)] = True
    clicks[rng.integers(0, n_users, n_items), np.arange(n_items)] = True
    return clicks.astype(np.float32)


def random_interactions(n_users: int, n_items: int, seed: int = 0, density: float = 0.3) -> Interactions:
    return Interactions.from_matrix(random_clicks(n_users, n_items, seed, density))


# --- kernel and model ---------------------------------------------------------------------------


def relu_ntk(x1, x2, depth: int = 1, w_std: float = 2**0.5, b_std: float = 0.1) -> np.ndarray:
    """Every pair of rows by itself, after the recursion in Jacot et al. (2018)."""
    rows1, rows2 = (np.asarray(x, np.float64).tolist() for x in (x1, x2))
    return np.array([[_ntk_of_pair(x, z, depth, w_std, b_std) for z in rows2] for x in rows1])


def _ntk_of_pair(x: list[float], z: list[float], depth: int, w_std: float, b_std: float) -> float:
    def first_layer(a: list[float], b: list[float]) -> float:
        return w_std**2 * math.fsum(p * q for p, q in zip(a, b, strict=True)) / len(a) + b_std**2

    xx, zz, xz = first_layer(x, x), first_layer(z, z), first_layer(x, z)
    ntk = xz
    for _ in range(depth):
        scale = math.sqrt(xx * zz)
        cosine = 1.0 if x == z else max(-1.0, min(1.0, xz / scale)) if scale else 0.0
        angle = math.acos(cosine)
        expected_relu = scale * (math.sin(angle) + (math.pi - angle) * cosine) / (2 * math.pi)
        expected_slope = (math.pi - angle) / (2 * math.pi)
        xz = w_std**2 * expected_relu + b_std**2
        ntk = xz + w_std**2 * expected_slope * ntk
        xx, zz = (w_std**2 * v / 2 + b_std**2 for v in (xx, zz))
    return ntk


def ridge(gram, targets, reg: float) -> np.ndarray:
    """Dual coefficients; `reg` is relative to the mean diagonal."""
    gram = np.asarray(gram, np.float64)
    return np.linalg.solve(gram + reg * np.trace(gram) / len(gram) * np.eye(len(gram)), np.asarray(targets, np.float64))


def input_rows(histories, train, popularity_power: float = 0.0, row_power: float = 0.0) -> np.ndarray:
    rows = np.array(histories, np.float64)
    for i, popularity in enumerate(np.asarray(train).sum(axis=0).tolist()):
        rows[:, i] *= max(popularity, 1) ** popularity_power
    for row in rows:
        if row.any():
            row /= math.sqrt((row**2).sum()) ** row_power
    return rows


def infinite_ae(train, histories, reg: float, *, popularity_power=0.0, row_power=0.0, **network) -> np.ndarray:
    """Scores of `histories` by kernel ridge regression on the rows of `train`."""
    anchors = input_rows(train, train, popularity_power, row_power)
    rows = input_rows(histories, train, popularity_power, row_power)
    coef = ridge(relu_ntk(anchors, anchors, **network), train, reg)
    return relu_ntk(rows, anchors, **network) @ coef


def ease_weights(clicks, reg: float) -> np.ndarray:
    """(n_items, n_items) weights: each item by least squares from all the others (`reg` absolute)."""
    clicks = np.asarray(clicks, np.float64)
    n_items = clicks.shape[1]
    weights = np.zeros((n_items, n_items))
    for item in range(n_items):
        others = [j for j in range(n_items) if j != item]
        inputs = clicks[:, others]
        weights[others, item] = np.linalg.solve(
            inputs.T @ inputs + reg * np.eye(n_items - 1), inputs.T @ clicks[:, item]
        )
    return weights


# --- metrics of one user: scores, and the items in the context and held out ----------------------


def ranking(scores, context: set[int]) -> list[int]:
    """Items that may be recommended, best first; of equal scores the lower position first."""
    return sorted((i for i in range(len(scores)) if i not in context), key=lambda i: (-float(scores[i]), i))


def hit_rate(ranked: list[int], held_out: set[int], k: int) -> float:
    return len(set(ranked[:k]) & held_out) / min(k, len(held_out)) if held_out else 0.0


def recall(ranked: list[int], held_out: set[int], k: int) -> float:
    return len(set(ranked[:k]) & held_out) / len(held_out) if held_out else 0.0


def ndcg(ranked: list[int], held_out: set[int], k: int) -> float:
    gain = sum(1 / math.log2(place + 2) for place, item in enumerate(ranked[:k]) if item in held_out)
    best = sum(1 / math.log2(place + 2) for place in range(min(k, len(held_out))))
    return gain / best if held_out else 0.0


def psp(ranked: list[int], held_out: set[int], k: int, weights) -> float:
    """As in the papers' code: found weight / min(k, held-out) over the largest weights that k items hold."""
    if not held_out:
        return 0.0
    found = sum(weights[item] for item in ranked[:k] if item in held_out)
    best = sum(sorted((weights[item] for item in held_out), reverse=True)[:k])
    return found / min(k, len(held_out)) / best


def psp_printed(ranked: list[int], held_out: set[int], k: int, weights) -> float:
    """As in the paper's appendix B.5: found weight / k over the weight of all held-out items."""
    if not held_out:
        return 0.0
    found = sum(weights[item] for item in ranked[:k] if item in held_out)
    return found / k / sum(weights[item] for item in held_out)


def auc(scores, context: set[int], held_out: set[int]) -> float:
    """Pairs (held out, neither) in the right order, ties a half, context left out; NaN without a pair."""
    positives = [scores[i] for i in held_out - context]
    negatives = [scores[i] for i in range(len(scores)) if i not in held_out | context]
    return pair_auc(positives, negatives)


def pair_auc(positives, negatives) -> float:
    pairs = [(p > n) + (p == n) / 2 for p in positives for n in negatives]
    return sum(pairs) / len(pairs) if pairs else math.nan


def inverse_propensity(train, a: float = 0.55, b: float = 1.5) -> np.ndarray:
    clicks = np.asarray(train.toarray() if sp.issparse(train) else train, np.float64)
    c = (math.log(clicks.sum()) - 1) * (b + 1) ** a
    return np.array([1 + c * math.exp(-a * math.log(n + b)) for n in clicks.sum(axis=0)])
