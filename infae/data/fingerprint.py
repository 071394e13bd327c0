"""What tells one data set from another, in files."""

import hashlib
from collections.abc import Sequence

import numpy as np

from infae.data.interactions import Interactions
from infae.data.splits import Split


def fingerprint(arrays: Sequence[np.ndarray]) -> str:
    """SHA-256 of arrays, their types and shapes, as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def clicks_fingerprint(clicks: Interactions) -> str:
    """Of the clicks and the item ids; who the users are does not enter."""
    matrix = clicks.matrix
    return fingerprint([matrix.indptr.astype(np.int64), matrix.indices.astype(np.int64), matrix.data, clicks.item_ids])


def split_fingerprint(split: Split) -> str:
    """Of which user clicked which item in train, validation, test, and contexts of their own where there are any."""
    contexts = [part for part in (split.validation_context, split.test_context) if part is not None]
    matrices = [part.matrix for part in (split.train, split.validation, split.test, *contexts)]
    return fingerprint([array for m in matrices for array in (m.indptr.astype(np.int64), m.indices.astype(np.int64))])
