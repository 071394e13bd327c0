"""The settings of a distillation."""

import json
import math

import numpy as np
import pytest

from distillcf.config import Config


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"labels": "soft"}, "labels must be one of 'clicks', 'free', got 'soft'"),
        ({"sampler": "hard"}, "sampler must be one of 'expected', 'gumbel'"),
        ({"objective": "mse"}, "objective must be one of 'match', 'squared', 'softmax', 'logistic'"),
        ({"objective": None}, "objective must be one of"),
        *(
            ({name: value}, f"{name} must be a whole number from 1 to")
            for name in ("n_users", "n_draws", "steps", "batch_size", "validate_every")
            for value in (0, -1, 2.0, True, "5", None, 2**31)
        ),
        *(
            ({name: value}, f"{name} must be a whole number from 0 to")
            for name in ("patience", "seed")
            for value in (-1, 1.0, False, None, 2**63)
        ),
        *(
            ({name: 0}, f"{name} must be a finite number at least 1e-12 .*, got 0")
            for name in ("temperature", "learning_rate", "reg")
        ),
        *(
            ({name: -1e-9}, f"{name} must be a finite number at least 0 .*, got -1e-09")
            for name in ("l1", "sharpness", "label_penalty")
        ),
        *(
            ({name: value}, f"{name} must be a finite number")
            for name in ("temperature", "learning_rate", "reg", "l1", "sharpness", "label_penalty", "held_out")
            for value in (math.nan, math.inf, "1", True, 10**400)
        ),
        ({"l1": None}, "l1 must be a finite number .*, got None"),
        ({"held_out": -0.1}, "held_out must be .*at least 0 and below 1, got -0.1"),
        ({"held_out": 1.0}, "held_out must be .*at least 0 and below 1"),
        ({"reg": (1.0, 0.0)}, "reg must be .*at least 1e-12 .*, got 0.0"),
        ({"reg": [1.0, "2"]}, "reg must be a finite number .*, got '2'"),
        ({"reg": np.array([[1.0, 2.0]])}, "reg must be a sequence of numbers"),
        ({"metric": "HR"}, "unknown metric 'HR'"),
        ({"metric": 10}, "metric must be a name such as 'HR@100', got 10"),
        ({"reg": ()}, "reg is an empty sequence"),
        ({"reg": []}, "reg is an empty sequence"),
    ],
    ids=str,
)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Config(**settings)


@pytest.mark.parametrize(("labels", "sharpness"), [("clicks", 0.003), ("free", 0.0)])
def test_the_sharpness_left_open_goes_by_the_labels(labels, sharpness):
    assert Config(labels=labels).sharpness == Config(labels=labels, sharpness=None).sharpness == sharpness
    assert Config(labels=labels, sharpness=0.5).sharpness == 0.5
    assert Config(labels=labels, sharpness=0).sharpness == 0


@pytest.mark.parametrize(
    ("reg", "grid"),
    [
        (None, ()),
        (2, (2,)),
        (0.5, (0.5,)),
        ((1.0, 5.0), (1.0, 5.0)),
        ([1.0, 5.0], (1.0, 5.0)),
        (np.array([1, 5]), (1.0, 5.0)),
    ],
)
def test_the_grid_of_regs(reg, grid):
    assert Config(reg=reg).reg_grid == grid


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"reg": (1.0, 2.0)},
        {"reg": [1, 2]},
        {"n_users": np.int64(5), "temperature": np.float32(0.5), "reg": [np.float32(1)], "labels": np.str_("free")},
    ],
    ids=str,
)
def test_settings_are_records_that_give_them_back(settings):
    config = Config(**settings)
    record = json.loads(json.dumps(config.as_dict()))
    assert record == config.as_dict()
    assert Config(**record).as_dict() == config.as_dict()
