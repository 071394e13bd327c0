import itertools
import pickle

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.testing import assert_array_equal

import infae
from infae.errors import ModelFileError, NotFittedError


def linear(x1, x2=None):
    return x1 @ (x1 if x2 is None else x2).T


WEIGHTS = np.linspace(0.2, 3.0, 16)
LABELS = np.random.default_rng(4).standard_normal((24, 16))


def rewrite(path, **changes):
    """Save the fields of a model again with some of them changed; None leaves one out."""
    with np.load(path) as archive:
        fields = {**archive, **changes}
    np.savez(path, **{name: value for name, value in fields.items() if value is not None})


@pytest.fixture
def saved(model, tmp_path):
    path = tmp_path / "model.npz"
    model.save(path)
    return path


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"dtype": "float64", "depth": 3},
        {"popularity_power": -0.5, "row_power": 1.0},
        {"dtype": np.float32, "depth": np.int64(2), "b_std": np.float32(0.5)},
        {"item_weights": WEIGHTS, "row_power": 1.0},
        {"targets": LABELS},
        {"targets": LABELS.astype(np.float32), "dtype": "float64"},
        {"targets": sp.csr_matrix(LABELS > 0.5, dtype=int)},
    ],
    ids=", ".join,
)
def test_a_loaded_model_predicts_the_same_bits(params, clicks, new_users, tmp_path):
    model = infae.fit(clicks, reg=2, **params)
    model.save(tmp_path / "model.npz")
    loaded = infae.load(tmp_path / "model.npz")
    assert loaded.predict(new_users).dtype == model.predict(new_users).dtype
    for histories in (new_users, clicks):
        assert_array_equal(loaded.predict(histories), model.predict(histories))
    assert_array_equal(loaded.leave_one_out(np.arange(24)), model.leave_one_out(np.arange(24)))
    assert loaded.path_ == model.path_
    assert (loaded.reg_, loaded.residual_, loaded.depth) == (model.reg_, model.residual_, model.depth)


def test_names_survive(named, tmp_path):
    model = infae.fit(named)
    model.save(str(tmp_path / "model.npz"))
    loaded = infae.load(str(tmp_path / "model.npz"))
    assert_array_equal(loaded.user_ids_, named.user_ids)
    assert_array_equal(loaded.recommend(named, n=3)[0], model.recommend(named, n=3)[0])


def test_a_chosen_reg_survives(split, tmp_path):
    model = infae.fit(split.train, reg=np.array([0.1, 10.0]), validation=split)
    model.save(tmp_path / "model.npz")
    loaded = infae.load(tmp_path / "model.npz")
    assert loaded.reg == [0.1, 10.0]
    assert (loaded.reg_, loaded.path_) == (model.reg_, model.path_)


def test_soft_clicks_survive(clicks, tmp_path):
    soft = clicks.matrix.multiply(np.random.default_rng(0).random(clicks.shape)).tocsr().astype(np.float32)
    model = infae.fit(clicks.with_matrix(soft), targets=LABELS)
    model.save(tmp_path / "model.npz")
    loaded = infae.load(tmp_path / "model.npz")
    for histories in (clicks, clicks.with_matrix(soft)):
        assert_array_equal(loaded.predict(histories), model.predict(histories))


def test_weights_survive_as_the_parameter_they_were(clicks, saved, tmp_path):
    assert infae.load(saved).item_weights is None
    own, by_power = infae.fit(clicks, item_weights=list(WEIGHTS)), infae.fit(clicks, popularity_power=-0.5)
    for model in (own, by_power):
        model.save(tmp_path / "model.npz")
        loaded = infae.load(tmp_path / "model.npz")
        assert loaded.popularity_power == model.popularity_power
        assert (loaded.item_weights is None) == (model.item_weights is None)
        assert_array_equal(loaded.inputs_.item_weights, model.inputs_.item_weights)
        loaded.save(tmp_path / "again.npz")
        refitted = infae.load(tmp_path / "again.npz").fit(clicks)
        assert_array_equal(refitted.predict(clicks), model.predict(clicks))


def test_a_loaded_model_saves_and_fits_again(saved, clicks, new_users, model):
    infae.load(saved).save(saved)
    assert_array_equal(infae.load(saved).predict(new_users), model.predict(new_users))
    assert_array_equal(infae.load(saved).fit(clicks).predict(new_users), model.predict(new_users))


def test_what_is_saved_is_the_fit_and_not_later_parameters(clicks, new_users, tmp_path):
    model = infae.fit(clicks)
    model.set_params(depth=3, row_power=1.0, kernel=linear)
    model.save(tmp_path / "model.npz")
    assert_array_equal(infae.load(tmp_path / "model.npz").predict(new_users), model.predict(new_users))


def test_a_kernel_of_the_callers_own_is_asked_for(clicks, new_users, saved, tmp_path):
    model = infae.fit(clicks, kernel=linear)
    path = tmp_path / "own.npz"
    model.save(path)
    assert_array_equal(infae.load(path, kernel=linear).predict(new_users), model.predict(new_users))
    with pytest.raises(ModelFileError, match="its own kernel: pass kernel="):
        infae.load(path)
    with pytest.raises(ModelFileError, match="a built-in kernel: pass none"):
        infae.load(saved, kernel=linear)


# --- files that are no model ----------------------------------------------------------------------


def test_truncated_files(saved):
    whole = saved.read_bytes()
    for length in [0, 1, 4, 30, 100, *range(200, len(whole), 499), len(whole) - 1]:
        saved.write_bytes(whole[:length])
        with pytest.raises(ModelFileError, match=r"model\.npz"):
            infae.load(saved)


def test_a_flipped_bit_is_found_or_harmless(saved, new_users, model):
    whole = saved.read_bytes()
    expected = model.predict(new_users)
    found = 0
    for place, bit in itertools.product(range(0, len(whole), 61), (1, 128)):
        saved.write_bytes(whole[:place] + bytes([whole[place] ^ bit]) + whole[place + 1 :])
        try:
            loaded = infae.load(saved)
        except ModelFileError:
            found += 1
        else:
            assert_array_equal(loaded.machine_.coef, model.machine_.coef)
    assert found > 0
    assert_array_equal(model.predict(new_users), expected)


@pytest.mark.parametrize(
    "content", [b"user,item\n1,2\n", b"\x93NUMPY", pickle.dumps({"format": 1}), b"PK\x03\x04 no zip"]
)
def test_foreign_bytes(content, tmp_path):
    path = tmp_path / "model.npz"
    path.write_bytes(content)
    with pytest.raises(ModelFileError):
        infae.load(path)


def test_an_array_is_no_model(tmp_path):
    np.save(tmp_path / "array.npy", np.zeros(3))
    with pytest.raises(ModelFileError):
        infae.load(tmp_path / "array.npy")


@pytest.mark.parametrize("fields", [{"data": np.zeros(3)}, {"format": np.array("another.Model")}])
def test_a_foreign_npz(fields, tmp_path):
    np.savez(tmp_path / "other.npz", **fields)
    with pytest.raises(ModelFileError, match=r"is not a file of infae\.InfiniteAE"):
        infae.load(tmp_path / "other.npz")


class Bomb:
    went_off = False

    def __setstate__(self, state):
        Bomb.went_off = True


@pytest.mark.parametrize("field", ["format", "user_ids", "coef"])
def test_a_pickle_inside_is_never_opened(field, saved):
    bomb = Bomb()
    bomb.fuse = 1
    rewrite(saved, **{field: np.array([bomb], object)})
    with pytest.raises(ModelFileError):
        infae.load(saved)
    assert not Bomb.went_off


@pytest.mark.parametrize(
    ("version", "remedy"), [(2, "fit and save the model again"), (4, "upgrade infae"), (99, "upgrade infae")]
)
def test_another_version_says_what_to_do(version, remedy, saved):
    rewrite(saved, version=np.array(version))
    with pytest.raises(ModelFileError, match=rf"model\.npz has format version {version} .* reads 3; {remedy}$"):
        infae.load(saved)


@pytest.mark.parametrize(
    "changes",
    [
        {"coef": None},
        {"version": None},
        {"version": np.array([1, 1])},
        {"params": np.array("{")},
        {"params": np.array("[]")},
        {"params": np.array('{"own_kernel": false, "params": {"width": 3}, "path": [], "solution": {}}')},
        {"coef": np.zeros((3, 3), np.float32)},
        {"item_ids": np.arange(3)},
        {"clicks_indices": np.full(3, 0)},
        {"clicks_shape": np.array([24, 2])},
        {"item_weights": np.ones(2)},
        {"targets": np.zeros((24, 15))},
        {"targets": np.zeros(5)},
        {"targets": None},
        {"inverse_diagonal": np.ones(23)},
    ],
    ids=lambda changes: f"{next(iter(changes))}={next(iter(changes.values()))}",
)
def test_damaged_fields(changes, saved):
    rewrite(saved, **changes)
    with pytest.raises(ModelFileError, match=r"model\.npz"):
        infae.load(saved)


def test_clicks_beyond_the_matrix(saved):
    with np.load(saved) as archive:
        indices = archive["clicks_indices"].copy()
    indices[-1] = 1000
    rewrite(saved, clicks_indices=indices)
    with pytest.raises(ModelFileError, match="damaged"):
        infae.load(saved)


def test_a_missing_file_is_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        infae.load(tmp_path / "none.npz")


# --- writing --------------------------------------------------------------------------------------


def test_a_folder_that_cannot_be_written(model, tmp_path):
    (tmp_path / "file").write_text("no folder")
    for folder in (tmp_path / "missing", tmp_path / "file"):
        with pytest.raises(OSError, match=r"cannot write .*into the folder") as raised:
            model.save(folder / "model.npz")
        assert raised.value.filename == str(folder)


def test_a_failing_write_leaves_the_old_model(saved, model, monkeypatch):
    before = saved.read_bytes()

    def half(file, **fields):
        file.write(b"PK half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", half)
    with pytest.raises(OSError, match="No space left"):
        model.save(saved)
    assert saved.read_bytes() == before
    assert list(saved.parent.iterdir()) == [saved]


def test_saving_leaves_one_file(saved):
    assert list(saved.parent.iterdir()) == [saved]


def test_an_unfitted_model_writes_nothing(tmp_path):
    with pytest.raises(NotFittedError):
        infae.InfiniteAE().save(tmp_path / "model.npz")
    assert not list(tmp_path.iterdir())
