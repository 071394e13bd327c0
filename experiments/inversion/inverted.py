"""Algorithm 1 of the model-inversion paper (Wang et al., RecSys 2023): soft rows that the model gives random labels."""

import warnings
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits, pad

from experiments.ctr.models import Model
from experiments.ctr.rows import Rows
from experiments.ctr.train import DIVERGED, labelled
from experiments.inversion.pieces import Pieces
from experiments.training.trainer import one_thread
from infae.runtime import checks
from infae.runtime.memory import require_memory
from infae.runtime.progress import bar

FREEZE = ("half", "none")
SPACES = ("softmax", "weights")
LABELS = ("hard", "teacher")


def synthesise(
    model: Model, n_rows: int, seed: int = 0, *, positives: float = 0.5, threshold: float = 0.3,
    learning_rate: float = 0.1, weight_decay: float = 0.0, freeze: str = "half", space: str = "softmax",
    norm_weight: float = 0.0, labels: str = "hard", batch_size: int = 500, max_steps: int = 1000,
    checkpoint: Path | str | None = None, progress: bool = False,
) -> Rows:  # fmt: skip
    """Rows by gradient descent on soft values, from noise, batch by batch until a cross-entropy is reached.

        minimise mean over a batch of BCE(f(p_1, ..., p_F), r) + norm_weight R_feature          (Eq. 9, 15 to 17)

    Args:
      model: the trained model f; it is put into evaluation mode.
      n_rows: how many.
      seed: of noise and labels.
      positives: share of labels r that are 1.
      threshold: mean BCE (nats) below which a batch is done, as Algorithm 1 is printed: R_feature does not count.
      learning_rate: of Adam on the values. The paper's 1e-4 to 1e-6 are for `space="weights"`.
      weight_decay: of Adam.
      freeze: "half": in half of a batch's rows the first field stays as it was drawn, in the others all the rest do
        (Eq. 14); "none"; or the name of a field that stays.
      space: "softmax": p = softmax(w), w ~ U(0, 1), and w moves, so that p stays on the simplex; "weights": p itself
        moves, as Algorithm 1 is printed, and leaves it: it is clipped and scaled back at the end.
      norm_weight: of R_feature: sum over batch normalisations of |batch mean - running mean| + |batch variance -
        running variance|, Euclidean norms. A model without any refuses a weight above 0.
      labels: "hard": r; "teacher": sigmoid(f).
      batch_size: rows that descend together.
      max_steps: steps after which a batch is taken as it is; a warning says how many were.
      checkpoint: folder for the batches that are done, from which a run that was stopped goes on, to the same bits.
      progress: show a bar.

    Raises:
      ValueError: bad arguments, or a field of numbers that are no shares.
      CheckpointError: `checkpoint` holds rows of another model or other settings, or is damaged.
      MemoryError: so many rows do not fit.
      FloatingPointError: the model's logits are NaN or infinite.
    """
    n_rows, rng = checks.whole("n_rows", n_rows), torch.Generator().manual_seed(checks.seed("seed", seed))
    checks.share("positives", positives)
    checks.choice("space", space, SPACES)
    checks.choice("freeze", freeze, (*FREEZE, *model.fields.names))
    if other := [field.name for field in model.fields if not field.on_simplex]:
        raise ValueError(f"rows are inverted to shares of values, which a number is not, got {', '.join(other)}")
    norms = [part for part in model.modules() if isinstance(part, nn.BatchNorm1d)]
    if norm_weight and not norms:
        raise ValueError(f"norm_weight is of batch normalisations, and this {type(model).__name__} has none")
    checks.choice("labels", labels, LABELS)
    for name, value in (("threshold", threshold), ("norm_weight", norm_weight), ("weight_decay", weight_decay)):
        checks.number(name, value, least=0)
    checks.number("learning_rate", learning_rate, above=0)
    for name, value in (("batch_size", batch_size), ("max_steps", max_steps)):
        checks.whole(name, value)
    n_bytes = (40 * min(batch_size, n_rows) + 8 * n_rows) * sum(model.sizes)
    require_memory(n_bytes, f"{n_rows:,} soft rows of {sum(model.sizes):,} values")
    settings = positives, threshold, learning_rate, weight_decay, freeze, space, norm_weight, batch_size, max_steps
    pieces = Pieces(checkpoint, model, way="inverted", n_rows=n_rows, seed=seed, settings=settings)
    device = next(model.parameters()).device
    done: list[Mapping[str, np.ndarray]] = []
    model.eval()
    with one_thread(), _Statistics(norms) as statistics, bar("rows", progress, total=n_rows, unit="row") as shown_bar:

        def descended(n: int) -> dict[str, np.ndarray]:
            # Value 0 stands for values that nobody has seen.
            noise = [torch.rand(n, size - 1, generator=rng).to(device) for size in model.sizes]
            values = [w if space == "softmax" else torch.softmax(w, 1) for w in noise]
            moving = [mask.to(device) for mask in _moving(freeze, n, model)]
            wanted = (torch.rand(n, generator=rng) < positives).float().to(device)
            leaves = [value.requires_grad_() for value in values]
            optimizer = torch.optim.Adam(leaves, lr=learning_rate)
            for step in range(max_steps + 1):
                shares = [torch.softmax(w, 1) for w in leaves] if space == "softmax" else leaves
                logits = model([pad(share, (1, 0)) for share in shares])
                if not logits.isfinite().all():
                    raise FloatingPointError(DIVERGED)
                loss = binary_cross_entropy_with_logits(logits, wanted)
                reached = loss.item() < threshold
                if reached or step == max_steps:
                    break
                if norm_weight:
                    loss = loss + norm_weight * statistics.distance()
                # A model may leave a field out.
                slopes = torch.autograd.grad(loss, leaves, allow_unused=True, materialize_grads=True)
                for leaf, slope, mask in zip(leaves, slopes, moving, strict=True):
                    leaf.grad = mask * (slope + weight_decay * leaf.detach())
                optimizer.step()
            found = [w.detach() for w in leaves]
            shares = [torch.softmax(w, 1) if space == "softmax" else _on_simplex(w) for w in found]
            columns = [pad(share, (1, 0)).cpu().numpy() for share in shares]
            return {
                **{f"field_{k}": column for k, column in enumerate(columns)},
                "labels": wanted.cpu().numpy(), "reached": np.array(reached), "rng": rng.get_state().numpy(),
            }  # fmt: skip

        for start in range(0, n_rows, batch_size):
            n = min(batch_size, n_rows - start)
            done.append(pieces.once(f"batch_{start}", partial(descended, n)))
            rng.set_state(torch.from_numpy(done[-1]["rng"]))
            shown_bar.update(n)
    n_short = sum(not batch["reached"] for batch in done)
    if n_short:
        warnings.warn(
            f"{n_short:,} of {len(done):,} batches did not reach cross-entropy {threshold:g} in {max_steps:,} steps",
            stacklevel=2,
        )
    names = [*(f"field_{k}" for k in range(len(model.sizes))), "labels"]
    *columns, given = (np.concatenate([batch[name] for batch in done]) for name in names)
    rows = Rows(model.fields, tuple(columns), given)
    return rows if labels == "hard" else labelled(model, rows)


def _moving(freeze: str, n: int, model: Model) -> list[torch.Tensor]:
    """(n, 1) ones where a field's values move."""
    masks = [torch.ones(n, 1) for _ in model.sizes]
    if freeze == "half":
        masks[0][: n // 2] = 0
        for mask in masks[1:]:
            mask[n // 2 :] = 0
    elif freeze != "none":
        masks[model.fields.position(freeze)][:] = 0
    return masks


def _on_simplex(weights: torch.Tensor) -> torch.Tensor:
    clipped = weights.clamp(min=0)
    clipped = torch.where(clipped.sum(1, keepdim=True) > 0, clipped, 1)  # nothing is left: all alike
    return clipped / clipped.sum(1, keepdim=True)


class _Statistics:
    """Mean and variance of what goes into each batch normalisation, as of the last forward."""

    def __init__(self, norms: list[nn.BatchNorm1d]):
        self._norms = norms
        self._inputs: dict[nn.Module, torch.Tensor] = {}

    def __enter__(self) -> "_Statistics":
        self._hooks = [norm.register_forward_pre_hook(self._keep) for norm in self._norms]
        return self

    def __exit__(self, *_: object) -> None:
        for hook in self._hooks:
            hook.remove()

    def _keep(self, norm: nn.BatchNorm1d, inputs: tuple[torch.Tensor]) -> None:
        self._inputs[norm] = inputs[0]

    def distance(self) -> torch.Tensor:
        """R_feature of the paper (Eq. 15)."""
        total = torch.zeros((), device=self._norms[0].weight.device)
        for norm in self._norms:
            x = self._inputs[norm]
            mean, variance = (cast(torch.Tensor, part) for part in (norm.running_mean, norm.running_var))
            total = total + (x.mean(0) - mean).norm() + (x.var(0, correction=0) - variance).norm()
        return total
