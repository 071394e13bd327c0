"""The outer loop: step after step, validated at intervals, until all are taken or nothing gets better."""

import time
from collections.abc import Iterator
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np

from distillcf.batches import Batches
from distillcf.checkpoint import Best, Progress
from distillcf.config import Config
from distillcf.losses import Objective
from distillcf.prior import most_probable
from distillcf.step import make_update
from distillcf.validate import Judge
from infae.linalg.tiles import precision


@dataclass(frozen=True, eq=False)
class Loop:
    """What is minimised, on whom, and how its states are judged."""

    config: Config
    objective: Objective
    batches: Batches
    judge: Judge

    def steps(self, begun: Progress, started: float) -> Iterator[Progress]:
        """The progress after each outer step, until the loop has `ended` or the next step's loss is not finite."""
        config, progress = self.config, begun
        update = make_update(config, self.objective)
        before = begun.history[-1]["seconds"] if begun.history else 0.0
        batch = self.batches(begun.step)
        for step in range(begun.step, config.steps):
            if self.ended(progress):
                return
            state, loss = update(progress.state, batch, jnp.int32(step))
            # The next batch is laid out while this step is computed.
            batch = self.batches(step + 1)
            if not np.isfinite(loss):
                return
            progress = progress._replace(step=step + 1, state=state, losses=[*progress.losses, float(loss)])
            if (step + 1) % config.validate_every == 0 or step + 1 == config.steps:
                progress = self._validated(progress, before + time.perf_counter() - started)
            yield progress

    def ended(self, progress: Progress) -> bool:
        """All steps are taken, or `patience` validations of states that may be kept brought nothing better."""
        config, best = self.config, progress.best
        if progress.step == config.steps:
            return True
        if not config.patience or best is None or np.isnan(best.value) or not self._eligible(best.step):
            return False
        return progress.step - best.step >= config.patience * config.validate_every

    def _eligible(self, step: int) -> bool:
        """Whether a state may be the best: a prior that is to be sharp is not taken before it is."""
        return not self.config.sharpness or step > 0.75 * self.config.steps

    def _validated(self, progress: Progress, seconds: float) -> Progress:
        config, judge, state, best = self.config, self.judge, progress.state, progress.best
        with precision(np.float32):
            soft = judge.soft(state.logits)
            value, reg = judge.best(soft, float(jnp.exp(state.log_reg)))
            values = {config.metric: value}
            if config.sharpness:
                values[f"{config.metric} hard"] = judge.value(judge.support(most_probable(np.asarray(soft)), reg))
            if config.reg_grid:
                state = state._replace(log_reg=jnp.log(jnp.float32(reg)))
            late = best is not None and self._eligible(progress.step) > self._eligible(best.step)
            if best is None or late or not value <= best.value:
                best = Best(np.asarray(state.logits), reg, value, progress.step)
            row = {
                "step": progress.step,
                "loss": float(np.mean(progress.losses)),
                **values,
                "reg": reg,
                "clicks": float(jnp.mean(jnp.sum(soft, axis=1))),
                "variance": float(jnp.mean(jnp.sum(soft * (1 - soft), axis=1))),
                "seconds": seconds,
            }
        return progress._replace(state=state, best=best, losses=[], history=[*progress.history, row])
