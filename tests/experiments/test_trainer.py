"""The one training loop, on modules and losses that have nothing to do with recommenders."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

torch = pytest.importorskip("torch")

from torch import nn

from distillcf import CheckpointError
from experiments.recommenders.mf import MF
from experiments.training.trainer import Task, Trainer, adam


class Line(Task):
    """y = 2 x - 1 with noise, by least squares; `fails_at` is an epoch at whose start it breaks off."""

    def __init__(self, fails_at=None):
        rng = torch.Generator().manual_seed(0)
        self.x = torch.randn(64, 1, generator=rng)
        self.y = 2 * self.x - 1 + 0.1 * torch.randn(64, 1, generator=rng)
        self.module = nn.Linear(1, 1)
        nn.init.zeros_(self.module.weight), nn.init.zeros_(self.module.bias)
        self.fails_at, self.sizes, self.settled = fails_at, [], 0

    def examples(self, epoch):
        if epoch == self.fails_at:
            raise KeyboardInterrupt
        return self.x, self.y

    def losses(self, rng, x, y):
        self.sizes.append(len(x))
        noise = 0.1 * torch.randn(len(x), 1, generator=rng)
        yield (self.module(x + noise) - y).square().mean()

    def settle(self):
        self.settled += 1

    def value(self):
        return -(self.module(self.x) - self.y).square().mean().item()


def fit(task, trainer, rate=0.1, value=None, **options):
    rng = torch.Generator().manual_seed(3)
    return trainer.fit(task, {"loss": adam(task.module, rate)}, rng, value, **options)


def test_a_line_is_fitted_and_every_example_comes_once_an_epoch():
    task = Line()
    done = fit(task, Trainer("line", 60, 24))
    assert task.sizes[:3] == [24, 24, 16]
    assert sum(task.sizes) == 60 * 64
    assert_allclose([task.module.weight.item(), task.module.bias.item()], [2, -1], atol=0.15)
    assert [row["epoch"] for row in done.path] == list(range(1, 61))
    assert done.path[-1]["loss"] < 0.1 < done.path[0]["loss"]
    assert (task.settled, task.module.training) == (1, False)


def test_the_best_state_by_any_value_is_kept_and_training_ends_without_a_better_one():
    task, values, told = Line(), iter([0.1, 0.3, np.nan, 0.2]), []
    states = []

    def value():
        states.append(task.module.weight.item())
        return next(values)

    trainer = Trainer("line", 100, 64, metric="x", check_every=2, patience=2)
    done = fit(task, trainer, value=value, report=lambda *look: told.append(look[0]))
    assert told == [2, 4, 6, 8]
    assert (done.epoch, done.best["epoch"], done.best["value"]) == (8, 4, 0.3)
    assert [row["x"] for row in done.path if "x" in row] == pytest.approx([0.1, 0.3, np.nan, 0.2], nan_ok=True)
    assert task.module.weight.item() == states[1] != states[-1]


@pytest.mark.parametrize("fails_at", [1, 7, 9])
def test_a_killed_training_goes_on_to_the_same_bits(tmp_path, fails_at):
    def trained(fails_at, path):
        task = Line(fails_at)
        trainer = Trainer("line", 12, 24, check_every=2, patience=5, checkpoint=path)
        return task, fit(task, trainer, value=task.value)

    whole, done = trained(None, tmp_path / "whole.npz")
    with pytest.raises(KeyboardInterrupt):
        trained(fails_at, tmp_path / "killed.npz")
    task, again = trained(None, tmp_path / "killed.npz")
    assert again.path == done.path
    assert again.best["epoch"] == done.best["epoch"]
    assert torch.equal(task.module.weight, whole.module.weight)
    assert len(task.sizes) == 3 * (12 - fails_at // 2 * 2)
    # One that had ended does nothing more.
    task, _ = trained(0, tmp_path / "whole.npz")
    assert torch.equal(task.module.weight, whole.module.weight)


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[:-50],
        lambda content: content[:900] + bytes([content[900] ^ 1]) + content[901:],
        lambda content: b"no archive",
        lambda content: b"",
    ],
)
def test_a_damaged_checkpoint_is_refused(tmp_path, damage):
    path = tmp_path / "line.npz"
    trainer = Trainer("line", 2, 64, checkpoint=path)
    fit(Line(), trainer)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(CheckpointError, match=r"line.npz is not a file of infae.training"):
        fit(Line(), trainer)


def test_a_checkpoint_of_another_training_is_refused(tmp_path, clicks, split):
    path = tmp_path / "mf.npz"
    MF(4, n_epochs=2, check_every=1).fit(clicks, checkpoint=path)
    for other, rows in ((MF(4, n_epochs=3), clicks), (MF(4, n_epochs=2, check_every=1, dropout=0.1), clicks),
                        (MF(4, n_epochs=2, check_every=1), split.train)):  # fmt: skip
        with pytest.raises(CheckpointError, match="is a checkpoint of another training"):
            other.fit(rows, checkpoint=path)
    kept = MF(4, n_epochs=2, check_every=1).fit(clicks, checkpoint=path)
    assert (kept.predict(clicks) == MF(4, n_epochs=2).fit(clicks).predict(clicks)).all()


class Duel(Task):
    """Two players of one number each: the first is to come near the second, which runs away to 1."""

    def __init__(self):
        self.module = nn.ParameterDict({"far": torch.zeros(1), "near": torch.zeros(1)})

    def examples(self, epoch):
        return (torch.arange(4),)

    def losses(self, rng, rows):
        before = self.module["near"].item()
        yield (self.module["near"] - self.module["far"] - 0.5).square().sum()
        # The first has made its step.
        assert self.module["near"].item() != before
        yield (self.module["far"] - 1).square().sum()


def test_two_optimisers_take_turns():
    duel = Duel()
    optimizers = {name: torch.optim.SGD([duel.module[name]], lr=0.2) for name in ("near", "far")}
    done = Trainer("duel", 8, 2).fit(duel, optimizers, torch.Generator().manual_seed(0))
    assert_allclose([duel.module["near"].item(), duel.module["far"].item()], [1.5, 1], atol=0.01)
    assert set(done.path[0]) == {"epoch", "near", "far"}


def test_a_loss_that_is_no_number_names_itself_epoch_and_rate():
    task = Line()
    task.y[3] = np.nan
    with pytest.raises(FloatingPointError, match=r"line: loss became nan in epoch 1, .*learning_rate = 0\.1; use"):
        fit(task, Trainer("line", 5, 8))


@pytest.mark.parametrize("name", ["n_epochs", "batch_size", "check_every", "patience"])
def test_bad_arguments_are_refused(name):
    with pytest.raises(ValueError, match=f"{name} must be a whole number of at least 1, got 0"):
        Trainer(**{"title": "line", "n_epochs": 1, "batch_size": 1, name: 0})
    with pytest.raises(ValueError, match="learning_rate must be a finite number above 0, got nan"):
        adam(nn.Linear(1, 1), np.nan)
