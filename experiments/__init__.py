"""Binaries: each has a `Config`, a `run(config)` and flags made from the Config."""
