"""Fixtures for all tests: small clicks, a split of them, and a model fitted once."""

from __future__ import annotations

import importlib

import numpy as np
import pytest
from hypothesis import settings
from oracles import random_clicks, random_interactions

import infae
from infae.data import random_split

settings.register_profile("infae", deadline=None, derandomize=True, max_examples=60)
settings.load_profile("infae")


@pytest.fixture(scope="session")
def clicks():
    """24 users x 16 items."""
    return random_interactions(24, 16)


@pytest.fixture(scope="session")
def split():
    """A random 50/20/30 split of 40 users x 20 items, several held out of most users."""
    return random_split(random_interactions(40, 20, seed=1, density=0.5), fractions=(0.5, 0.2, 0.3), seed=3)


@pytest.fixture(scope="session")
def named():
    """12 users x 8 items with string ids, in no alphabetical order."""
    items = [f"item {letter}" for letter in "qrstabcd"]
    return infae.Interactions.from_matrix(random_clicks(12, 8, seed=2), [f"user {i}" for i in range(12)], items)


@pytest.fixture(scope="session")
def new_users():
    """Histories (10, 16) of users who are not in `clicks`; the last has no history."""
    histories = random_clicks(10, 16, seed=7)
    histories[-1] = 0
    return histories


@pytest.fixture(scope="session")
def model(clicks):
    """∞-AE fitted to `clicks` in float32; not to be changed."""
    return infae.fit(clicks, reg=1.0)


@pytest.fixture(params=["float32", pytest.param("float64", marks=pytest.mark.slow)])
def dtype(request):
    return np.dtype(request.param)


@pytest.fixture
def small_tiles(monkeypatch):
    """Kernel matrices in tiles of 16, so that tiny data has many, and a ragged last one."""
    # By the module itself: `infae.kernels.grams` is the function.
    monkeypatch.setattr(importlib.import_module("infae.kernels.grams"), "tile_size", lambda n: 16)
