"""Recommenders to measure ∞-AE against; each is fitted, predicts and recommends as it does."""

from experiments.recommenders.bias import BiasOnly
from experiments.recommenders.ease import EASE, select_ease
from experiments.recommenders.popularity import PopRec

__all__ = ["EASE", "BiasOnly", "PopRec", "select_ease"]
