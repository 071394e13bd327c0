"""Click-through models by other hands, to hold ours against: those of deepctr-torch, on our rows and training.

Needs the `peers` extra. deepctr-torch prints that it could not ask for its newest version where there is no network.
Its layers take ids alone, and of one kind of field: no soft values, so that ours are not built on them.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from experiments.ctr.fields import Fields
from experiments.ctr.layers import seeded
from infae.runtime import checks

MODELS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "deepfm": ("DeepFM", {}),
    "dcn": ("DCN", {}),
    "pnn": ("PNN", {"use_inner": True}),
    "xdeepfm": ("xDeepFM", {"cin_split_half": False, "cin_activation": "linear"}),
    "autoint": ("AutoInt", {}),
}
"""Our name -> theirs, and what of theirs has to be set to compute what ours does, without dropout.

Ours drops out what goes into the network, too.
"""


class Peer(nn.Module):
    """A model of deepctr-torch of so many hidden layers, for `train.fit`; it gives logits.

    `params` as of `experiments.ctr.models.Model`. Raises ValueError for an unknown name, a field that is no
    category, or batch normalisation of PNN, which theirs has not.
    """

    def __init__(
        self, name: str, fields: Fields, n_factors: int = 16, n_layers: int = 2, width: int = 64,
        batch_norm: bool = False, dropout: float = 0.0, seed: int = 0,
    ):  # fmt: skip
        from deepctr_torch import models
        from deepctr_torch.inputs import SparseFeat

        super().__init__()
        theirs, own = MODELS[checks.choice("name", name, MODELS)]
        if other := [field.name for field in fields if field.kind != "category"]:
            raise ValueError(f"deepctr-torch is given category fields alone, got {', '.join(other)}")
        self.fields = fields
        columns = [SparseFeat(field.name, field.size, embedding_dim=n_factors) for field in fields]
        about: dict[str, Any] = {
            "dnn_hidden_units": n_layers * (width,), "dnn_dropout": dropout, "l2_reg_embedding": 0.0, "l2_reg_dnn": 0.0,
            "seed": seed, "task": "regression", **own,
        }  # fmt: skip
        of_its_own: Mapping[str, Mapping[str, Any]] = {
            "dcn": {"cross_num": n_layers, "l2_reg_cross": 0.0},
            "xdeepfm": {"cin_layer_size": n_layers * (n_factors,)},
            "autoint": {"att_layer_num": n_layers},
        }
        about |= of_its_own.get(name, {})
        if name == "pnn":
            if batch_norm:
                raise ValueError("deepctr-torch's PNN has no batch normalisation")
            lists = [columns]
        else:
            lists = [columns, columns]
            about |= {"dnn_use_bn": batch_norm} | ({} if name == "autoint" else {"l2_reg_linear": 0.0})
        with torch.random.fork_rng(devices=[]):
            self.model = getattr(models, theirs)(*lists, **about)

    def forward(self, x: Sequence[torch.Tensor], rng: torch.Generator | None = None) -> torch.Tensor:
        """(n,) logits of columns of ids; `rng` seeds the global generator, which is restored, for what is dropped out.

        Raises ValueError for soft values.
        """
        if not all(isinstance(column, torch.Tensor) and column.dtype == torch.int64 for column in x):
            raise ValueError("deepctr-torch takes ids alone, and these rows have soft values")
        ids = torch.stack([*x], 1).float()
        if rng is None:
            return self.model(ids)[:, 0]
        with seeded(rng):
            return self.model(ids)[:, 0]
