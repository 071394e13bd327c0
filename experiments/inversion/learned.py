"""Rows learned from data, where it is there: by the closed-form inner solve of DISTILL-CF, by gradients, and chosen.

by_kernel learns soft rows and labels as DISTILL-CF learns users (Sachdeva et al. 2022, Eq. 3): kernel ridge regression
on them, with the neural tangent kernel of a row's vectors, is to tell the labels of real rows. Of two fields'
one-hot ids that kernel has but three values, for rows that share none, one or both, and tells main effects alone. So a
row's vector joins, field by field, p' T with T = [v, w], the factors and weights of a factorisation machine of all
rows. What is learned of a row's shares is a direction d: p = softmax(T d), which spreads over all values that are
alike. Shares learned value by value fit the kernel as well, but other models learn little from them.

by_gradients is one-step gradient matching for categorical data (CGM; Wang, Wang and Wang, RecSys 2023): a model drawn
anew in each step is to have the same gradient on soft rows, half of them of either label, as on real ones.

herded is a coreset: real rows, one after the other, such that the mean vector of those chosen keeps to that of all, for
either label (herding; Welling 2009). A vector holds the factors of all fields, their product, and a one.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
from jax.scipy.linalg import solve
from torch.nn.functional import binary_cross_entropy_with_logits

from experiments.ctr.models import FM, Model
from experiments.ctr.rows import Rows
from experiments.ctr.train import Training, fit, initialise, on
from experiments.training.trainer import one_thread
from infae.kernels import ReluNTK
from infae.runtime import checks
from infae.runtime.memory import require_memory
from infae.runtime.progress import bar

OF_VECTORS = Training(0.003, 1e-5, n_epochs=15)
"""The factorisation machine whose vectors rows have."""
BEGUN_REG = 0.01
SPREAD = 1.0
"""Standard deviation of the scores T d that rows by kernel start from; of peaked rows other models learn less."""
KEPT = 0.5
"""Of a row's first shares by gradients, what is a real row's; the rest is spread over all values."""
BATCH = 2048


def by_kernel(
    rows: Rows, n_rows: int, seed: int = 0, *, steps: int = 150, learning_rate: float = 0.1, progress: bool = False
) -> Rows:
    """Minimise over d, Y and reg   E |m + K(x, z) (K(z, z) + reg * mean diagonal * I)^-1 (Y - m) - y|^2.

    See the module; x are vectors of real rows, y their labels and m the mean of these; z = P T are vectors of the
    soft ones.

    Args:
      rows: real ones of ids, with labels.
      n_rows: how many soft ones, with labels Y in (0, 1).
      seed: of vectors, of the directions that it starts from, and of batches; labels start from m.
      steps: of Adam, each on `BATCH` real rows, and of n_rows^3 operations and more.
      learning_rate: of Adam on the logits of Y, a tenth of it on directions and on log reg; falls to 0 by a cosine.
      progress: show a bar.

    Raises:
      ValueError: bad arguments, soft rows, or fields that are no categories.
      MemoryError: so many rows do not fit.
      FloatingPointError: the loss became NaN.
    """
    rng = _checked(rows, n_rows, seed, steps, learning_rate)
    _require(rows, n_rows, n_rows)
    tables = _tables(rows, seed)
    real, labels = np.concatenate(_vectors(tables, rows), axis=1), rows.known_labels
    kernel = ReluNTK()
    width = tables[0].shape[1]
    directions = rng.normal(0, SPREAD * width**-0.5, (len(tables), n_rows, width)).astype(np.float32)
    begun = jnp.full(n_rows, jax.scipy.special.logit(labels.mean()))
    parameters = {"directions": jnp.asarray(directions), "labels": begun, "log_reg": jnp.log(BEGUN_REG)}

    def shares(learnt: Any) -> list[jax.Array]:
        # Value 0 stands for values that nobody has seen.
        scores = (d @ t.T for d, t in zip(learnt["directions"], tables, strict=True))
        return [jax.nn.softmax(each.at[:, 0].set(-jnp.inf), 1) for each in scores]

    def loss_of(learnt: Any, x: jax.Array, y: jax.Array) -> jax.Array:
        z = jnp.concatenate([p @ t for p, t in zip(shares(learnt), tables, strict=True)], axis=1)
        told = jax.nn.sigmoid(learnt["labels"])[:, None]
        gram = kernel(z)
        ridge = jnp.exp(learnt["log_reg"]) * jnp.trace(gram) / n_rows
        # Not by `infae.solvers.dense`: here one eigenvalue is 1e5 times the others, and of 1,000 rows it gives NaN.
        coef = solve(gram + ridge * jnp.eye(n_rows), told - labels.mean(), assume_a="pos")
        return jnp.mean((kernel(x, z) @ coef + labels.mean() - y[:, None]) ** 2)

    rates = {"directions": learning_rate / 10, "labels": learning_rate, "log_reg": learning_rate / 10}
    adams: dict[Any, Any] = {name: optax.adam(optax.cosine_decay_schedule(rate, steps)) for name, rate in rates.items()}
    optimise = optax.multi_transform(adams, {name: name for name in rates})

    @jax.jit
    def update(learnt: Any, state: Any, x: jax.Array, y: jax.Array) -> tuple[Any, Any, jax.Array]:
        loss, slope = jax.value_and_grad(loss_of)(learnt, x, y)
        change, state = optimise.update(slope, state, learnt)
        return optax.apply_updates(learnt, change), state, loss

    state = optimise.init(parameters)
    for _ in bar("rows by kernel", progress, range(steps), "step"):
        batch = rng.integers(0, len(rows), BATCH)
        parameters, state, loss = update(parameters, state, real[batch], labels[batch])
        if not np.isfinite(loss):
            raise FloatingPointError(
                f"the loss became {float(loss)}; use a smaller learning_rate than {learning_rate:g}"
            )
    return Rows(rows.fields, tuple(map(np.array, shares(parameters))), np.array(jax.nn.sigmoid(parameters["labels"])))


def by_gradients(
    rows: Rows, n_rows: int, seed: int = 0, *, model: Callable[..., Model] = FM, steps: int = 150,
    learning_rate: float = 0.1, progress: bool = False,
) -> Rows:  # fmt: skip
    """Minimise over P   sum over a model's tables of 1 - cos(its gradient on real rows, on soft ones); see the module.

    Args:
      rows: real ones of ids, with labels.
      n_rows: how many soft ones, with labels 0 and 1 in turn.
      seed: of initial values, of the rows that it starts from, and of batches.
      model: what is drawn anew at every step, as `train.fit` draws it.
      steps: of Adam, each on 5 `BATCH` real rows.
      learning_rate: of Adam on the logits of P.
      progress: show a bar.

    Raises as `by_kernel`, but for FloatingPointError.
    """
    rng = _checked(rows, n_rows, seed, steps, learning_rate)
    _require(rows, n_rows, 0)
    generator = torch.Generator().manual_seed(seed)
    labels = torch.from_numpy((np.arange(n_rows) % 2).astype(np.float32))
    begun = np.array([rng.choice(np.flatnonzero((rows.known_labels > 0.5) == bool(label))) for label in labels.numpy()])
    sizes = [field.size for field in rows.fields]
    leaves = [
        torch.from_numpy(_begun(size, value[begun])).requires_grad_()
        for size, value in zip(sizes, rows.values, strict=True)
    ]
    network, optimizer = model(rows.fields), torch.optim.Adam(leaves, lr=learning_rate)
    parameters = [value for value in network.parameters() if value.requires_grad]
    with one_thread():
        for _ in bar("rows by gradients", progress, range(steps), "step"):
            initialise(network, generator)
            batch = rows[rng.integers(0, len(rows), 5 * BATCH)]
            wanted = torch.from_numpy(batch.known_labels)
            real = torch.autograd.grad(binary_cross_entropy_with_logits(network(on(batch)), wanted), parameters)
            told = network([torch.softmax(leaf, 1) for leaf in leaves])
            made = torch.autograd.grad(binary_cross_entropy_with_logits(told, labels), parameters, create_graph=True)
            apart = [
                1 - torch.nn.functional.cosine_similarity(a.flatten(), b.flatten(), dim=0)
                for a, b in zip(real, made, strict=True)
            ]
            optimizer.zero_grad()
            torch.stack(apart).sum().backward()
            optimizer.step()
    shares = tuple(torch.softmax(leaf, 1).detach().numpy() for leaf in leaves)
    return Rows(rows.fields, shares, labels.numpy())


def herded(rows: Rows, n_rows: int, seed: int = 0) -> Rows:
    """A coreset; see the module. At most as many rows as there are; ValueError as of `by_kernel`."""
    _checked(rows, n_rows, seed, 1, 1.0)
    parts = _vectors(_tables(rows, seed), rows)
    vectors = np.concatenate([*parts, np.prod(parts, axis=0)], axis=1)
    vectors = (vectors - vectors.mean(0)) / np.maximum(vectors.std(0), 1e-12)
    # The number of rows of either label counts as much as all the rest.
    vectors = np.column_stack([vectors, np.full(len(vectors), vectors.shape[1] ** 0.5, vectors.dtype)])
    vectors = np.concatenate([vectors * (rows.known_labels == label)[:, None] for label in (0, 1)], axis=1)
    wanted, weights = vectors.mean(0), np.zeros(vectors.shape[1], vectors.dtype)
    chosen, free = [], np.ones(len(rows), bool)
    for _ in range(min(n_rows, len(rows))):
        weights += wanted
        best = int(np.where(free, vectors @ weights, -np.inf).argmax())
        weights -= vectors[best]
        free[best] = False
        chosen.append(best)
    return rows[np.array(chosen)]


def _checked(rows: Rows, n_rows: int, seed: int, steps: int, learning_rate: float) -> np.random.Generator:
    for name, value in (("n_rows", n_rows), ("steps", steps)):
        checks.whole(name, value)
    checks.number("learning_rate", learning_rate, above=0)
    if any(field.kind != "category" for field in rows.fields) or any(value.ndim > 1 for value in rows.values):
        raise ValueError(f"rows are learned from ids of category fields, got {', '.join(rows.fields.names)}")
    if {*np.unique(rows.known_labels)} != {0, 1}:
        raise ValueError("rows are learned from labels 0 and 1, both of them")
    return checks.generator(seed)


def _require(rows: Rows, n_rows: int, beside: int) -> None:
    """MemoryError where soft rows, with so many numbers beside each, do not fit."""
    sizes = sum(field.size for field in rows.fields)
    require_memory(24 * n_rows * (sizes + beside), f"{n_rows:,} soft rows of {sizes:,} values")


def _tables(rows: Rows, seed: int) -> list[np.ndarray]:
    """Of each field (size, n_factors + 1) factors and weights of an FM, each column over its standard deviation."""
    model = FM(rows.fields)
    fit(model, rows, training=replace(OF_VECTORS, seed=seed))
    tables = []
    for field in range(len(rows.fields)):
        parts = (model.vectors.table(field), model.linear.weights.table(field))
        table = torch.cat(parts, 1).detach().numpy()
        tables.append(table / np.maximum(table.std(0), 1e-12))
    return tables


def _vectors(tables: list[np.ndarray], rows: Rows) -> list[np.ndarray]:
    return [table[value] for table, value in zip(tables, rows.values, strict=True)]


def _begun(size: int, ids: np.ndarray) -> np.ndarray:
    """Logits of rows that are `KEPT` of these ids, and of the rest spread over all values but value 0."""
    shares = np.full((len(ids), size), (1 - KEPT) / (size - 1), np.float32)
    shares[:, 0] = 1e-9
    shares[np.arange(len(ids)), ids] += KEPT
    return np.log(shares)
