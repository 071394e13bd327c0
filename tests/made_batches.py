"""Small batches, supports and inputs that the tests of DISTILL-CF's parts share."""

from functools import partial

import numpy as np
import scipy.sparse as sp
from jax.test_util import check_grads
from oracles import random_clicks

from distillcf.batches import Batches
from distillcf.config import Config
from distillcf.inner import Batch
from infae import Interactions
from infae.inputs import InputMap

N_SYNTHETIC, N_ITEMS, N_REAL = 4, 7, 9
INPUTS = [{}, {"popularity_power": -0.5}, {"popularity_power": -0.25, "row_power": 1.0}]
PLAIN = InputMap(None, 0.0)

check_reverse = partial(check_grads, order=1, modes=["rev"], eps=1e-5, rtol=1e-6, atol=1e-8)


def soft(n=N_SYNTHETIC, m=N_ITEMS, seed=3, dtype=np.float64):
    """Clicks in (0, 1)."""
    return np.random.default_rng(seed).uniform(0.02, 0.98, (n, m)).astype(dtype)


def real_clicks(dtype=np.float64):
    return random_clicks(N_REAL, N_ITEMS, seed=5).astype(dtype)


def a_batch(dtype=np.float64, holes=True):
    """Some clicks hidden from the histories, and the cells that are shown left out of the loss."""
    targets = real_clicks(dtype)
    shown = targets * (np.random.default_rng(6).random(targets.shape) < 0.6)
    return Batch(shown, targets, (shown == 0).astype(dtype) if holes else np.ones_like(targets))


def input_map(popularity_power=0.0, row_power=0.0):
    return InputMap.from_popularity(real_clicks().sum(axis=0), popularity_power, row_power)


def as_interactions(rows):
    # Trusted, for the constructor would round float64 values to float32.
    return Interactions.trusted(sp.csr_matrix(rows), np.arange(len(rows)), np.arange(rows.shape[1]))


def batches(clicks, scores=None, **settings):
    return Batches(sp.csr_matrix(clicks), Config(**{"objective": "squared", **settings}), scores)
