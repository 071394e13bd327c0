"""Ask before allocating: a refusal with numbers instead of a killed process.

Host memory is what is asked for; an accelerator's own allocator speaks for itself.
"""

import os
from pathlib import Path

_LIMIT_FILES = (
    (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")),
    (Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"), Path("/sys/fs/cgroup/memory/memory.usage_in_bytes")),
)


def available_bytes() -> int | None:
    """Memory that can still be allocated, as the system and the container tell it; None if neither does."""
    found = []
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                found.append(int(line.split()[1]) * 1024)
    except OSError:
        if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
            found.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    for limit, used in _LIMIT_FILES:
        try:
            found.append(int(limit.read_text()) - int(used.read_text()) + _reclaimable(used.with_name("memory.stat")))
        except (OSError, ValueError):  # no such control group, or the word "max"
            continue
    return min(found, default=None)


# Measured on fits of ML-1M's 6,040 users.
_BASE_BYTES, _MARGIN = 256 << 20, 1.25
_REMEDY = "fit on fewer users (Interactions.select_users), in float32, or on a larger machine"


def require_memory(n_bytes: int, what: str, remedy: str = _REMEDY) -> None:
    """Raise MemoryError, with both figures, `what` it is for and the remedy, where n_bytes are not to be had."""
    available = available_bytes()
    if available is not None and n_bytes > available:
        raise MemoryError(
            f"{what} takes {n_bytes / 2**30:.1f} GiB and {available / 2**30:.1f} GiB are available; {remedy}"
        )


def with_margin(n_bytes: int) -> int:
    """What a plan of n_bytes takes in the end: compiled code, and copies that XLA and SciPy make on the way."""
    return _BASE_BYTES + int(_MARGIN * n_bytes)


def fits(n_bytes: int) -> bool:
    """Whether so many bytes are to be had, as far as is known."""
    available = available_bytes()
    return available is None or n_bytes <= available


def _reclaimable(stat: Path) -> int:
    """Cached file pages, which count as used but make way."""
    fields = dict(line.split() for line in stat.read_text().splitlines())
    return int(fields.get("total_inactive_file", fields.get("inactive_file", 0)))
