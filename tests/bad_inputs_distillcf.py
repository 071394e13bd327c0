"""Bad inputs of distillcf's surface: (id, call, a regex of what the message must hold).

Every call raises ValueError, OSError, TypeError (an unknown keyword) or MemoryError, before any work.
"""

import functools
import os
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import scipy.sparse as sp

import distillcf
import infae
from distillcf import CORESETS, Budget, Config, Summary, distill
from distillcf.coresets import forgetting_counts, random_users, svp_cf_users
from infae import InfiniteAE, Interactions

N, M = 30, 12


@functools.cache
def clicks() -> Interactions:
    rows = np.random.default_rng(0).random((N, M)) < 0.4
    rows[:, 0] = True
    return Interactions.from_matrix(rows)


@functools.cache
def split():
    return infae.data.random_split(clicks(), fractions=(0.6, 0.2, 0.2), seed=0)


@functools.cache
def made() -> Summary:
    soft = np.random.default_rng(1).random((3, M)).astype(np.float32)
    return Summary(
        logits=np.log(soft + 1e-3),
        soft=soft,
        hard=(soft > 0.5).astype(np.uint8),
        labels=None,
        hard_labels=None,
        item_ids=clicks().item_ids,
        item_weights=None,
        model={"depth": 1, "w_std": 2**0.5, "b_std": 0.1, "row_power": 0.0, "own_kernel": False},
        reg=0.5,
        config=Config(n_users=3, n_draws=5).as_dict(),
        fingerprint="0" * 64,
        kept=3,
    )


@functools.cache
def folder() -> Path:
    path = Path(tempfile.mkdtemp(prefix="cases_dcf"))
    (path / "folder.inter").mkdir()
    (path / "text").write_text("user_id,item_id\n1,2\n")
    (path / "link.inter").symlink_to(path / "nothing")
    os.mkfifo(path / "pipe.inter")
    made().save(path / "summary.npz")
    np.savez(path / "foreign.npz", data=np.zeros(3))
    (path / "cut.npz").write_bytes((path / "summary.npz").read_bytes()[:600])
    return path


def run(**settings):
    return distill(
        settings.pop("X", clicks()), **{"n_users": 3, "steps": 1, "batch_size": 10, "n_draws": 5, **settings}
    )


def turned() -> Interactions:
    users = random_users(clicks(), 3)
    return Interactions(users.matrix[:, ::-1].tocsr(), users.user_ids, users.item_ids[::-1])


def about(**changes):
    """A summary file with some of its settings changed, loaded."""
    path = folder() / "changed.npz"
    replace(made(), **changes).save(path)
    return distillcf.load(path)


NUMBERS = [
    ("text", "1"),
    ("none", None),
    ("bool", True),
    ("nan", np.nan),
    ("inf", np.inf),
    ("complex", 1j),
    ("list", [1.0, "a"]),
    ("negative", -1.0),
    ("array", np.ones((2, 2))),
    ("huge", 10**400),
]
WHOLES = [
    ("zero", 0),
    ("negative", -1),
    ("part", 2.5),
    ("float", 2.0),
    ("text", "2"),
    ("none", None),
    ("bool", True),
    ("list", [2]),
    ("nan", np.nan),
    ("huge", 2**70),
    ("bytes", b"2"),
    ("date", pd.Timestamp("2020")),
]
SEEDS = [case for case in WHOLES if case[0] != "zero"] + [
    ("generator", np.random.default_rng(0)),
    ("past 63 bits", 2**63),
]
NAMES = [
    ("other", "other"),
    ("none", None),
    ("number", 3),
    ("list", ["clicks"]),
    ("array", np.array(["clicks", "free"])),
    ("bytes", b"clicks"),
    ("upper case", "CLICKS"),
    ("empty", ""),
]
PATHS = [
    ("none", None),
    ("number", 3),
    ("bytes", b"a.inter"),
    ("list", ["a.inter"]),
    ("empty", ""),
    ("nul", "a\0.inter"),
]

CASES = [
    # --- Config, and distill's settings ---
    *(
        (
            f"Config {name} {kind}",
            lambda name=name, value=value: Config(**{name: value}),
            f"^{name} must be a whole number from",
        )
        for name in ("n_users", "n_draws", "steps", "batch_size", "validate_every")
        for kind, value in WHOLES
    ),
    *(
        (
            f"Config patience {kind}",
            lambda value=value: Config(patience=value),
            "^patience must be a whole number from 0",
        )
        for kind, value in WHOLES
        if kind != "zero"
    ),
    *(
        (f"Config seed {kind}", lambda value=value: Config(seed=value), "^seed must be a whole number from 0")
        for kind, value in SEEDS
    ),
    *(
        (
            f"Config {name} {kind}",
            lambda name=name, value=value: Config(**{name: value}),
            f"^{name} must be a (finite )?number",
        )
        for name in ("temperature", "learning_rate", "l1", "label_penalty", "held_out")
        for kind, value in NUMBERS
    ),
    *(
        (f"Config sharpness {kind}", lambda value=value: Config(sharpness=value), "^sharpness must be a finite number")
        for kind, value in NUMBERS
        if kind != "none"
    ),
    *(
        (
            f"Config reg {kind}",
            lambda value=value: Config(reg=value),
            "^reg must be a (finite number|sequence of numbers)",
        )
        for kind, value in NUMBERS
        if kind != "none"
    ),
    *(
        (f"Config reg of several, {kind}", lambda value=value: Config(reg=(1.0, value)), "^reg must be a finite number")
        for kind, value in NUMBERS
    ),
    ("Config reg empty", lambda: Config(reg=()), "^reg is an empty sequence"),
    ("Config reg empty array", lambda: Config(reg=np.zeros(0)), "^reg is an empty sequence"),
    ("Config reg scalar array", lambda: Config(reg=np.array(1.0)), "^reg must be a sequence of numbers"),
    ("Config reg generator", lambda: Config(reg=(x for x in (1.0, 2.0))), "^reg must be a finite number"),
    ("Config reg set", lambda: Config(reg={1.0, 2.0}), "^reg must be a finite number"),
    ("Config reg zero", lambda: Config(reg=0), "^reg must be .*at least 1e-12"),
    ("Config reg too small for 32 bits", lambda: Config(reg=1e-50), "^reg must be .*at least 1e-12"),
    ("Config l1 too large for 32 bits", lambda: Config(l1=1e30), r"^l1 must be .*at most 1e\+12"),
    ("Config held_out one", lambda: Config(held_out=1), "^held_out must be .*below 1"),
    ("Config temperature zero", lambda: Config(temperature=0), "^temperature must be .*at least 1e-12"),
    *(
        (f"Config {name} {kind}", lambda name=name, value=value: Config(**{name: value}), f"^{name} must be one of ")
        for name in ("labels", "sampler", "objective")
        for kind, value in NAMES
    ),
    *(
        (f"Config metric {kind}", lambda value=value: Config(metric=value), "metric.*HR@")
        for kind, value in [
            *NAMES,
            ("without k", "HR"),
            ("k of zero", "HR@0"),
            ("k of a part", "HR@1.5"),
            ("negative", "HR@-1"),
            ("superscript", "HR@²"),
            ("spaces", "HR @ 10"),
            ("lower case", "hr@10"),
        ]
    ),
    ("Config unknown", lambda: Config(gamma=3), "gamma"),
    ("distill unknown setting", lambda: run(learningrate=0.1), "learningrate"),
    *(
        (f"distill n_users {kind}", lambda value=value: run(n_users=value), "^n_users must be a whole number")
        for kind, value in WHOLES
    ),
    *(
        (f"distill seed {kind}", lambda value=value: run(seed=value), "^seed must be a whole number from 0")
        for kind, value in SEEDS
    ),
    (
        "distill more users than there are",
        lambda: run(n_users=31),
        "at most as many synthetic users .*30, got n_users=31",
    ),
    ("distill draws without end", lambda: run(n_draws=2**31 - 1), "GiB are available; ask for fewer"),
    # --- clicks ---
    *(
        (f"distill X {kind}", lambda X=X: run(X=X), message)
        for kind, X, message in [
            ("none", None, "Interactions, a SciPy sparse .*NoneType"),
            ("text", "clicks.csv", "Interactions, a SciPy sparse .*str"),
            ("number", 5, "Interactions, a SciPy sparse .*int"),
            ("dictionary", {"user_id": [1], "item_id": [2]}, "Interactions, a SciPy sparse .*dict"),
            ("zeros", np.zeros((5, 5)), "no clicks: all 5 users"),
            ("vector", np.ones(5), "2-D"),
            ("cube", np.ones((2, 2, 2)), "2-D"),
            ("nan", np.full((5, 5), np.nan), "NaN or infinite"),
            ("negative", -np.ones((5, 5)), "negative"),
            ("texts", np.full((5, 5), "a"), "numeric"),
            ("complex", np.ones((5, 5), complex), "numeric|complex"),
            ("objects", np.full((5, 5), None), "numeric"),
            ("no users", np.zeros((0, 5)), "at least one user"),
            ("no items", np.zeros((5, 0)), "at least one"),
            ("frame of other columns", pd.DataFrame({"user": [1], "item": [2]}), "user_id and item_id"),
        ]
    ),
    ("distill X summary", lambda: run(X=made()), "got Summary"),
    ("distill X split", lambda: run(X=split()), "got Split"),
    ("distill X model", lambda: run(X=InfiniteAE(1.0)), "got InfiniteAE"),
    # --- validation, model, scores, start ---
    *(
        (
            f"distill validation {kind}",
            lambda value=value: run(validation=value),
            "validation must be a Split or Interactions",
        )
        for kind, value in [
            ("matrix", np.ones((N, M))),
            ("text", "test"),
            ("number", 0.1),
            ("flag", True),
            ("sparse", sp.eye(N, M, format="csr")),
        ]
    ),
    ("distill validation frame", lambda: run(validation=clicks().to_frame()), "validation must be a Split"),
    ("distill validation of other users", lambda: run(validation=clicks().select_users(np.arange(5))), "row by row"),
    (
        "distill validation without clicks",
        lambda: run(validation=clicks().with_matrix(sp.csr_matrix((N, M), dtype=np.float32))),
        "no clicks to rank",
    ),
    *(
        (f"distill model {kind}", lambda value=value: run(model=value), "^model must be an InfiniteAE or None, got")
        for kind, value in [
            ("class", InfiniteAE),
            ("matrix", np.eye(M)),
            ("text", "ease"),
            ("number", 1.0),
            ("flag", False),
            ("dictionary", {"reg": 1.0}),
        ]
    ),
    ("distill model is a summary", lambda: run(model=made()), "^model must be an InfiniteAE"),
    ("distill model of several regs, no validation", lambda: run(model=InfiniteAE((1.0, 2.0))), "reg is a sequence"),
    (
        "distill model of wrong weights",
        lambda: run(model=InfiniteAE(1.0, item_weights=np.ones(3)), objective="softmax"),
        "item_weights must be 12 positive",
    ),
    *(
        (f"distill scores {kind}", lambda value=value: run(scores=value), "^scores (must be|hold|are)")
        for kind, value in [
            ("shape", np.ones((N, M + 1))),
            ("vector", np.ones(N)),
            ("number", 1.0),
            ("text", "scores"),
            ("texts", np.full((N, M), "a")),
            ("complex", np.ones((N, M), complex)),
            ("nan", np.full((N, M), np.nan)),
            ("inf", np.full((N, M), np.inf)),
            ("beyond float32", np.full((N, M), 1e39)),
            ("squares beyond float32", np.full((N, M), 1e30)),
            ("masked", np.ma.masked_array(np.ones((N, M)), mask=np.eye(N, M))),
            ("ragged", [[1.0], [1.0, 2.0]]),
            ("objects", np.full((N, M), None)),
            ("dates", np.full((N, M), np.datetime64("2020"))),
            ("transposed", np.ones((M, N))),
        ]
    ),
    ("distill scores sparse", lambda: run(scores=clicks().matrix), "^scores must be numbers"),
    ("distill scores clicks", lambda: run(scores=clicks()), "^scores must be numbers"),
    ("distill scores function", lambda: run(scores=len), "^scores must be numbers"),
    (
        "distill scores and another objective",
        lambda: run(scores=np.ones((N, M)), objective="squared"),
        "scores are matched by objective='match'",
    ),
    *(
        (
            f"distill start {kind}",
            lambda value=value: run(start=value),
            "^start, .*Summary or Interactions.*'mixed', 'random', 'head', got",
        )
        for kind, value in [
            ("other", "tail"),
            ("none", None),
            ("matrix", np.ones((3, M))),
            ("number", 3),
            ("list", ["mixed"]),
            ("array", np.array(["mixed", "head"])),
            ("sparse", sp.eye(3, M, format="csr")),
            ("bytes", b"mixed"),
            ("flag", True),
        ]
    ),
    (
        "distill start too many users",
        lambda: run(start=clicks()),
        "^start must have 3 users over X's own 12 items.*got 30 users x 12",
    ),
    (
        "distill start summary of another size",
        lambda: run(n_users=4, start=made()),
        "^start must have 4 users.*got 3 users",
    ),
    ("distill start items in another order", lambda: run(start=turned()), "in the same order"),
    ("distill start split", lambda: run(start=split()), "^start, "),
    # --- files ---
    *(
        (
            f"distill checkpoint {kind}",
            lambda value=value: run(checkpoint=value),
            "^checkpoint must be the path of a file, got",
        )
        for kind, value in [*PATHS[1:], ("flag", True)]
    ),
    *(
        (f"distill resume {kind}", lambda value=value: run(resume=value), "^resume must be the path of a file, got")
        for kind, value in [*PATHS[1:], ("flag", True)]
    ),
    ("distill checkpoint folder", lambda: run(checkpoint=folder()), "^checkpoint must be a file, and .* is a folder"),
    (
        "distill checkpoint in a missing folder",
        lambda: run(checkpoint=folder() / "missing" / "run.npz"),
        "cannot write checkpoint=run.npz .*No such file or directory",
    ),
    (
        "distill checkpoint in a file",
        lambda: run(checkpoint=folder() / "text" / "run.npz"),
        "cannot write checkpoint=run.npz .*[Nn]ot a directory",
    ),
    (
        "distill checkpoint device",
        lambda: run(checkpoint="/dev/null"),
        "^checkpoint must be a file, and /dev/null is a device",
    ),
    (
        "distill checkpoint pipe",
        lambda: run(checkpoint=folder() / "pipe.inter"),
        "^checkpoint must be a file, .* device or a pipe",
    ),
    (
        "distill checkpoint dangling link",
        lambda: run(checkpoint=folder() / "link.inter"),
        "^checkpoint must be a file, .* link to .*nothing",
    ),
    ("distill resume folder", lambda: run(resume=folder()), "^resume must be a file, and .* is a folder"),
    ("distill resume missing", lambda: run(resume=folder() / "none.npz"), "^resume must be a file, and there is no"),
    ("distill resume device", lambda: run(resume="/dev/zero"), "^resume must be a file, and /dev/zero is a device"),
    ("distill resume pipe", lambda: run(resume=folder() / "pipe.inter"), "^resume must be a file, .* pipe"),
    ("distill resume text", lambda: run(resume=folder() / "text"), "text is not a file of distillcf.checkpoint"),
    ("distill resume summary", lambda: run(resume=folder() / "summary.npz"), "is not a file of distillcf.checkpoint"),
    *(
        (
            f"distill checkpoint_every {kind}",
            lambda value=value: run(checkpoint_every=value),
            "^checkpoint_every must be a whole number of at least 1",
        )
        for kind, value in WHOLES
        if kind != "huge"
    ),
    *(
        (f"distill progress {kind}", lambda value=value: run(progress=value), "^progress must be True or False")
        for kind, value in [("none", None), ("text", "yes"), ("number", 1)]
    ),
    # --- Summary ---
    *(
        (f"Summary.sample seed {kind}", lambda value=value: made().sample(value), "^seed must be a whole number from 0")
        for kind, value in SEEDS
    ),
    *(
        (
            f"Summary.{method} form {kind}",
            lambda method=method, value=value: getattr(made(), method)(value),
            "^form must be one of 'soft', 'hard', got",
        )
        for method in ("interactions", "fit", "to_csr", "to_frame")
        for kind, value in NAMES
    ),
    *(
        (
            f"Summary.{method} path {kind}",
            lambda method=method, value=value: getattr(made(), method)(value),
            "^path must be the path of a file, got",
        )
        for method in ("save", "to_csv", "to_parquet", "to_recbole")
        for kind, value in PATHS
    ),
    *(
        (f"Summary.{method} {kind}", lambda method=method, name=name: getattr(made(), method)(folder() / name), message)
        for method in ("save", "to_csv", "to_parquet", "to_recbole")
        for kind, name, message in [
            ("folder", "folder.inter", "^path must be a file, and .* is a folder"),
            ("dangling link", "link.inter", "^path must be a file, .* link to .*nothing"),
            ("pipe", "pipe.inter", "^path must be a file, .* pipe"),
            (
                "missing folder",
                "missing/a.inter",
                "cannot write path=a.inter into the folder: No such file or directory",
            ),
            ("file for a folder", "text/a.inter", "cannot write path=a.inter into the folder: [Nn]ot a directory"),
        ]
    ),
    *(
        (
            f"Summary.to_csv form {kind}",
            lambda value=value: made().to_csv(folder() / "a.csv", value),
            "^form must be one of",
        )
        for kind, value in NAMES
    ),
    ("Summary.to_recbole ending", lambda: made().to_recbole(folder() / "a.csv"), r"ending \.inter, got 'a.csv'"),
    (
        "Summary.fit kernel that was not used",
        lambda: made().fit(kernel=lambda x, y=None: x),
        "none where it was a built-in one",
    ),
    ("Summary.fit kernel text", lambda: made().fit(kernel="ntk"), "none where it was a built-in one"),
    ("Summary.fit unknown", lambda: made().fit(width=3), "width"),
    (
        "Summary.fit validation matrix",
        lambda: made().fit(validation=np.ones((3, M)), reg=(1.0, 2.0)),
        "validation must be a Split",
    ),
    ("Summary.fit several regs, no validation", lambda: made().fit(reg=(1.0, 2.0)), "reg is a sequence"),
    ("Summary.fit bad reg", lambda: made().fit(reg="large"), "reg must be"),
    # --- load ---
    *(
        (f"load {kind}", lambda value=value: distillcf.load(value), "^path must be the path of a file, got")
        for kind, value in PATHS
    ),
    ("load folder", lambda: distillcf.load(folder()), "^path must be a file, and .* is a folder"),
    ("load missing", lambda: distillcf.load(folder() / "none.npz"), "^path must be a file, and there is no"),
    ("load device", lambda: distillcf.load("/dev/zero"), "device"),
    ("load pipe", lambda: distillcf.load(folder() / "pipe.inter"), "pipe"),
    ("load text", lambda: distillcf.load(folder() / "text"), "text is not a file of distillcf.Summary"),
    (
        "load foreign archive",
        lambda: distillcf.load(folder() / "foreign.npz"),
        "foreign.npz is not a file of distillcf.Summary",
    ),
    ("load cut", lambda: distillcf.load(folder() / "cut.npz"), "truncated or damaged"),
    *(
        (f"load changed {kind}", lambda changes=changes: about(**changes), "changed.npz is damaged")
        for kind, changes in [
            ("reg", {"reg": -1.0}),
            ("reg text", {"reg": "a"}),
            ("kept", {"kept": 401}),
            ("fingerprint", {"fingerprint": "0"}),
            ("history", {"history": [{"step": 1, "loss": "low"}]}),
            ("history row", {"history": [3]}),
            ("depth", {"model": {"depth": 0}}),
            ("config", {"config": {}}),
            ("config of other users", {"config": Config(n_users=4).as_dict()}),
            ("soft", {"soft": np.full((3, M), 2, np.float32)}),
            ("hard", {"hard": np.full((3, M), 2, np.uint8)}),
            ("logits", {"logits": np.full((3, M), np.nan, np.float32)}),
            ("shape", {"soft": np.zeros((3, M + 1), np.float32)}),
            ("ids", {"item_ids": np.zeros(M, int)}),
            ("weights", {"item_weights": np.zeros(M)}),
            ("labels alone", {"labels": np.ones((3, M))}),
        ]
    ),
    # --- coresets ---
    *(
        (
            f"{make.__name__} {kind}",
            lambda make=make, value=value: make(value),
            "whole number of at least 1, got .*Budget.share",
        )
        for make in (Budget.users, Budget.interactions)
        for kind, value in WHOLES
        if kind != "huge"
    ),
    *(
        (f"Budget.share {kind}", lambda value=value: Budget.share(value), "above 0 and at most 1, got")
        for kind, value in [*NUMBERS[:2], *NUMBERS[3:], ("flag", True), ("zero", 0), ("percent", 10)]
    ),
    *(
        (
            f"Budget unit {kind}",
            lambda value=value: Budget(3, value),
            "^unit must be one of 'users', 'interactions', 'share'",
        )
        for kind, value in NAMES
    ),
    *(
        (
            f"{name} budget {kind}",
            lambda sample=sample, value=value: sample(clicks(), value),
            "a budget of users must be a whole number",
        )
        for name, sample in CORESETS.items()
        for kind, value in WHOLES
        if kind != "huge"
    ),
    *(
        (
            f"{name} seed {kind}",
            lambda sample=sample, value=value: sample(clicks(), 3, value),
            "^seed must be a whole number from 0",
        )
        for name, sample in CORESETS.items()
        for kind, value in SEEDS
    ),
    *(
        (f"{name} too many users", lambda sample=sample: sample(clicks(), 31), "at most the 30 users there are")
        for name, sample in CORESETS.items()
    ),
    *(
        (
            f"{name} too many clicks",
            lambda sample=sample: sample(clicks(), Budget.interactions(10**9)),
            "at most the .* interactions there are",
        )
        for name, sample in CORESETS.items()
    ),
    *(
        (f"{name} X without clicks", lambda sample=sample: sample(np.zeros((3, 3)), 1), "no clicks to draw from")
        for name, sample in CORESETS.items()
    ),
    *(
        (f"{name} X text", lambda sample=sample: sample("clicks", 1), "expected Interactions, a SciPy sparse")
        for name, sample in CORESETS.items()
    ),
    *(
        (
            f"forgetting_counts {name} {kind}",
            lambda name=name, value=value: forgetting_counts(clicks(), **{name: value}),
            f"^{name} must be a whole number",
        )
        for name in ("epochs", "batches")
        for kind, value in WHOLES
        if kind != "huge"
    ),
    *(
        (
            f"forgetting_counts learning_rate {kind}",
            lambda value=value: forgetting_counts(clicks(), learning_rate=value),
            "^learning_rate must be a finite number above 0",
        )
        for kind, value in NUMBERS
    ),
    *(
        (
            f"forgetting_counts seed {kind}",
            lambda value=value: forgetting_counts(clicks(), value),
            "^seed must be a whole number from 0",
        )
        for kind, value in SEEDS
        if kind != "generator"
    ),
    *(
        (
            f"svp_cf_users {name}",
            lambda name=name, value=value: svp_cf_users(clicks(), 3, **{name: value}),
            f"^{name} must be",
        )
        for name, value in [("epochs", 0), ("batches", "2"), ("learning_rate", np.nan)]
    ),
    ("svp_cf_users unknown", lambda: svp_cf_users(clicks(), 3, rate=3), "rate"),
]
