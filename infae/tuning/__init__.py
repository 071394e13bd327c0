"""Choosing settings on held-out clicks."""
