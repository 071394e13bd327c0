"""The sentences of all claims that the studies decide, and of their causes, by name; they stand in wording.toml."""

import tomllib
from pathlib import Path
from typing import Any

from experiments.study.claims import Sentence, Words

_TEXTS = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))


def __getattr__(name: str) -> Any:
    """`Words` of a claim, a `Sentence`, or texts by key. AttributeError for a name that is not in the file."""
    if name not in _TEXTS:
        raise AttributeError(f"wording.toml has no {name}")
    texts = _TEXTS[name]
    return Words(**texts) if "says" in texts else Sentence(**texts) if "text" in texts else texts
