"""One process of a mesh, run by test_mesh.py: fits and predicts, and writes what came out.

python mesh_worker.py OUT CASES N_PROCESSES RANK PORT
"""

from __future__ import annotations

import sys
from unittest.mock import patch

import jax
import numpy as np
import scipy.sparse as sp
from oracles import random_clicks

import infae
from infae import Interactions
from infae.data import Blocks
from infae.linalg import sharded
from infae.solvers import sums

N_ITEMS = 40
ITEMS = np.arange(N_ITEMS)
# Not a multiple of the devices; the second of two processes has fewer users, and fewer blocks of them.
N_USERS, FIRST = 176, 103
LANDMARKS = {"solver": "nystrom", "n_anchors": 30}
SPARSE = {"popularity_power": -0.5, "row_power": 1.0, "b_std": 0.0}


def own_kernel(x, z=None):
    return infae.kernels.relu_ntk(x, x if z is None else z)


def all_clicks(n_users=N_USERS):
    """Users in threes of a kind, so that equal landmarks would be drawn; some without clicks."""
    clicks = random_clicks(n_users, N_ITEMS, seed=2, density=0.25)
    clicks[2::3] = clicks[1::3][: len(clicks[2::3])]
    clicks[7::31] = 0
    return clicks


def histories():
    """Users unknown and known, in more than one batch each."""
    return np.concatenate([random_clicks(21, N_ITEMS, seed=7), all_clicks()[:20]])


class Part:
    """What one process hands in, of users who are numbered through; by default all."""

    def __init__(self, first=0, last=None):
        self.first, self.last = first, last

    def __call__(self, rows):
        return rows[self.first : self.last]

    def clicks(self, n_users=N_USERS):
        return Interactions.from_matrix(self(all_clicks(n_users)), self(np.arange(n_users)), ITEMS)

    def blocks(self):
        rows = self(all_clicks())
        return Blocks(lambda: (rows[start : start + 40] for start in range(0, len(rows), 40)), N_ITEMS)


def scored(model, **also):
    return {
        "scores": model.predict(histories()),
        "coef": np.asarray(model.machine_.coef),
        "anchors": model.machine_.anchors.n,
        "residual": model.residual_,
        "reg": model.reg_,
        **also,
    }


def landmark(part, mesh, n_users=N_USERS, **params):
    model = infae.fit(part.clicks(n_users), 2.0, mesh=mesh, **{**LANDMARKS, **params})
    return scored(model, ids=model.user_ids_)


def exact(part, mesh, n_users=N_USERS, **params):
    model = infae.fit(part.clicks(n_users), 2.0, mesh=mesh, **params)
    return scored(model, ids=model.user_ids_, left_out=model.leave_one_out(np.arange(3)))


def shortlisted(part, mesh, anchors):
    # Fewer candidates than users.
    with patch.multiple("infae.landmarks", _LEAST_CANDIDATES=1, _CANDIDATES_PER_LANDMARK=1):
        return landmark(part, mesh, dtype="float64", anchors=anchors, **SPARSE)


def drawn(part, mesh):
    """Blocks with fewer candidates than users: which they are depends on the processes."""
    with patch.multiple("infae.landmarks", _LEAST_CANDIDATES=1, _CANDIDATES_PER_LANDMARK=2):
        return scored(infae.fit(part.blocks(), 2.0, mesh=mesh, **LANDMARKS))


def blocks(part, mesh):
    return scored(infae.fit(part.blocks(), 2.0, mesh=mesh, dtype="float64", **LANDMARKS, **SPARSE))


def given(part, mesh):
    anchors = Interactions.from_matrix(all_clicks()[:30])
    return landmark(part, mesh, anchors=anchors, dtype="float64")


def added(part, mesh):
    model = infae.fit(part.clicks(), 2.0, mesh=mesh, dtype="float64", **LANDMARKS)
    later = random_clicks(60, N_ITEMS, seed=9)
    model.partial_fit(later[:10] if part.first else later[10:] if part.last else later)
    return scored(model, n_users=model._fitted.sums.n_users)


def chosen(part, mesh, **params):
    train = part.clicks()
    rng = np.random.default_rng(3)
    held_out = part((all_clicks() == 0) & (rng.random((N_USERS, N_ITEMS)) < 0.1))
    held_out = train.with_matrix(sp.csr_matrix(held_out, dtype=np.float32))
    model = infae.fit(train, (0.1, 1.0, 10.0), validation=held_out, mesh=mesh, dtype="float64", **params)
    return scored(model, metric=[row["HR@100"] for row in model.path_])


def labels(part, mesh, **params):
    targets = part(np.random.default_rng(0).standard_normal((N_USERS, N_ITEMS)))
    model = infae.InfiniteAE(2.0, mesh=mesh, dtype="float64", **params)
    return scored(model.fit(part.clicks(), targets=targets))


def other_items(part, mesh):
    clicks = part.clicks()
    ids = ITEMS + (1000 if part.first else 0)
    return scored(infae.fit(Interactions(clicks.matrix, clicks.user_ids, ids), mesh=mesh, **LANDMARKS))


def other_params(part, mesh):
    return scored(infae.fit(part.clicks(), 2.0 if part.first else 3.0, mesh=mesh))


def other_anchors(part, mesh):
    anchors = Interactions.from_matrix(all_clicks()[:6, :: -1 if part.first else 1])
    return scored(infae.fit(part.clicks(), 2.0, solver="nystrom", anchors=anchors, mesh=mesh))


def other_solver(part, mesh):
    return scored(infae.fit(part.clicks(), mesh=mesh, solver="cg" if part.first else "exact"))


def bad_block(part, mesh):
    """The second process's second pass breaks off."""
    passes = []

    def read():
        passes.append(1)
        yield part(all_clicks())
        if part.first and len(passes) == 2:
            raise OSError("the disk is gone")

    return scored(infae.fit(Blocks(read, N_ITEMS), mesh=mesh, **LANDMARKS))


def empty(part, mesh):
    return scored(infae.fit(part.clicks().matrix * (0 if part.first else 1), mesh=mesh))


CASES = {
    "float32": lambda *on: landmark(*on),
    "float64": lambda *on: landmark(*on, dtype="float64"),
    "uniform": lambda *on: shortlisted(*on, "uniform"),
    "pivots": lambda *on: shortlisted(*on, "rpcholesky"),
    "many": lambda *on: landmark(*on, dtype="float64", n_anchors=1000),
    "kernel": lambda *on: landmark(*on, dtype="float64", kernel=own_kernel),
    "blocks": blocks,
    "given": given,
    "added": added,
    "chosen": lambda *on: chosen(*on, **LANDMARKS),
    "labels": lambda *on: labels(*on, **LANDMARKS),
    "exact float32": lambda *on: exact(*on),
    "exact float64": lambda *on: exact(*on, dtype="float64", **SPARSE),
    "exact kernel": lambda *on: exact(*on, dtype="float64", kernel=own_kernel),
    "few": lambda *on: landmark(*on, n_users=5, dtype="float64"),
    "exact few": lambda *on: exact(*on, n_users=5, dtype="float64"),
    "exact chosen": chosen,
    "exact labels": labels,
}
# What only several processes have.
TOGETHER = {
    "drawn": drawn,
    "other items": other_items,
    "other params": other_params,
    "other anchors": other_anchors,
    "other solver": other_solver,
    "bad block": bad_block,
    "empty": empty,
}


def main(out, names, n_processes, rank, port):
    n_processes, rank = int(n_processes), int(rank)
    if n_processes > 1:
        jax.distributed.initialize(f"127.0.0.1:{port}", n_processes, rank, initialization_timeout=60)
    mesh = jax.make_mesh((jax.device_count(),), ("users",))
    part = Part() if n_processes == 1 else [Part(0, FIRST), Part(FIRST)][rank]
    # Many blocks and steps of elimination, with so few users.
    sums.block_users = lambda n_landmarks: 8
    sums.tile_size = lambda n: 16
    sys.modules["infae.kernels.grams"].tile_size = lambda n: 16
    sharded._BLOCK = 8
    found = {}
    for name in names.split(","):
        try:
            results = {**CASES, **TOGETHER}[name](part, mesh)
        except (ValueError, RuntimeError, OSError) as error:
            results = {"error": f"{type(error).__name__}: {error}"}
        found |= {f"{name}/{key}": value for key, value in results.items()}
    np.savez(out, **found)


if __name__ == "__main__":
    main(*sys.argv[1:])
