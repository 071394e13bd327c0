"""Recommenders to measure ∞-AE against; each is fitted, predicts and recommends as it does."""

from experiments.baselines.bias import BiasOnly
from experiments.baselines.ease import EASE, select_ease
from experiments.baselines.popularity import PopRec

__all__ = ["EASE", "BiasOnly", "PopRec", "select_ease"]
