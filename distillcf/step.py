"""The outer loop's state and one step of it, as pure functions."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from distillcf.config import Config
from distillcf.inner import Batch, LabelSystem, Student, Support
from distillcf.losses import Objective
from distillcf.prior import soft_clicks
from infae.linalg.tiles import precision

_LEARNT_REG_RATE = 0.03


class State(NamedTuple):
    logits: jax.Array  # (n_synthetic, n_items)
    log_reg: jax.Array  # ()
    optimizer: Any  # optax state of both


Update = Callable[[State, Batch, jax.Array], tuple[State, jax.Array]]


def optimizer(config: Config) -> optax.GradientTransformation:
    """Adam with a cosine decay on the logits, and on the log of reg, which stays where it is unless learnt."""
    rates = {"logits": config.learning_rate, "log_reg": 0.0 if config.reg_grid else _LEARNT_REG_RATE}
    adams: dict[Any, Any] = {
        name: optax.adam(optax.cosine_decay_schedule(r, config.steps)) for name, r in rates.items()
    }
    return optax.multi_transform(adams, {"logits": "logits", "log_reg": "log_reg"})


def init(config: Config, logits: np.ndarray, reg: float) -> State:
    """The state before the first step."""
    parameters = {"logits": jnp.asarray(logits, jnp.float32), "log_reg": jnp.log(jnp.float32(reg))}
    return State(parameters["logits"], parameters["log_reg"], optimizer(config).init(parameters))


def outer_loss(config: Config, objective: Objective) -> Callable[[dict[str, jax.Array], Batch, jax.Array], jax.Array]:
    """The function that is minimised: ({"logits", "log_reg"}, batch, step number) -> ()."""
    key = jax.random.key(config.seed)

    def loss_of(parameters: dict[str, jax.Array], batch: Batch, step: jax.Array) -> jax.Array:
        clicks = soft_clicks(config, parameters["logits"], jax.random.fold_in(key, step))
        reg = jnp.exp(parameters["log_reg"])
        labels = _labels(config, objective.student, clicks, reg, batch)
        sharpness = (config.sharpness or 0.0) * ramp(step, config.steps)
        return objective(Support(clicks, labels, reg), batch, sharpness)

    return loss_of


def make_update(config: Config, objective: Objective) -> Update:
    """The compiled step: (state, batch, step number) -> (state, loss). Where the loss is not finite nothing moves."""
    optimise = optimizer(config)
    loss_of = outer_loss(config, objective)

    @precision(np.float32)
    @jax.jit
    def update(state: State, batch: Batch, step: jax.Array) -> tuple[State, jax.Array]:
        parameters = {"logits": state.logits, "log_reg": state.log_reg}
        loss, gradient = jax.value_and_grad(loss_of)(parameters, batch, step)
        change, moved = optimise.update(gradient, state.optimizer, parameters)
        new = optax.apply_updates(parameters, change)
        finite = jnp.isfinite(loss) & jnp.isfinite(optax.tree.norm(gradient))
        new_state = State(new["logits"], new["log_reg"], moved)
        kept = jax.tree.map(lambda new, old: jnp.where(finite, new, old), new_state, state)
        return kept, jnp.where(finite, loss, jnp.nan)

    return update


def ramp(step: jax.Array, steps: int) -> jax.Array:
    """0 in the first quarter of the steps, then linearly up to 1 at the last."""
    return jnp.clip((step / steps - 0.25) / 0.75, 0, 1)


def _labels(config: Config, student: Student, clicks: jax.Array, reg: jax.Array, batch: Batch) -> jax.Array:
    if config.labels == "clicks":
        return clicks
    # Differentiated through: what is minimised by the labels is not the outer loss to the letter (it
    # has a penalty, and counts all cells), so the derivative at fixed labels would not be the loss's.
    return LabelSystem.of(student, clicks, reg, batch).solve(config.label_penalty)
