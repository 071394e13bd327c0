"""Errors that a caller may want to catch by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from distillcf.summary import Summary


class SummaryFileError(ValueError):
    """A file is not a summary this version can read: foreign, truncated, damaged or newer."""


class CheckpointError(ValueError):
    """A checkpoint cannot be continued from: foreign, damaged, or of other data or settings."""


class DivergedError(ArithmeticError):
    """The outer loss is no finite number any more.

    Attributes:
      summary: the best state until then, None where there was none.
    """

    def __init__(self, message: str, summary: Summary | None):
        super().__init__(message)
        self.summary = summary
