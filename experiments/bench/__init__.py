"""Benchmarks: seconds and bytes."""
