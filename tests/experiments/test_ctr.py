"""Click-through models, their training, and their files."""

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.testing import assert_allclose, assert_array_equal

torch = pytest.importorskip("torch")

from distillcf.errors import CheckpointError
from experiments.ctr import store
from experiments.ctr.fields import Field, Fields
from experiments.ctr.layers import CIN, Attention, Bags, Cross, pairwise_products, pairwise_sum
from experiments.ctr.models import MODELS
from experiments.ctr.rows import Rows
from experiments.ctr.train import Training, evaluate, fit, initialise, labelled, logits, on
from experiments.inversion import designed, drawn, inverted
from experiments.recommenders.layers import Mixed, Repeated, Sparse

FIELDS = Fields.numbered(user=12, item=9, day=3)
WITH_HISTORY = Fields(
    (
        Field("user", values=tuple(range(12))),
        Field("item", values=tuple(range(9))),
        Field("history", "several", values=tuple(range(9))),
    )
)
SMALL = {"n_factors": 4, "width": 8}


def made(name, **params):
    model = MODELS[name](WITH_HISTORY if name == "din" else FIELDS, **{**SMALL, **params})
    initialise(model, torch.Generator().manual_seed(0))
    with torch.no_grad():  # far from zero, where any fault would show
        for parameter in model.parameters():
            parameter.add_(torch.rand(parameter.shape, generator=torch.Generator().manual_seed(1)) - 0.5)
    return model.eval()


def rows(fields=FIELDS, n=40, seed=0):
    """Rows whose label hangs on the pair of user and item."""
    rng = np.random.default_rng(seed)
    values = [rng.integers(field.size, size=n) for field in fields]
    if fields is WITH_HISTORY:
        shares = rng.random((n, fields.fields[2].size)) * (rng.random((n, fields.fields[2].size)) < 0.4)
        shares[:, 0] += 0.01
        values[2] = shares / shares.sum(1, keepdims=True)
    labels = (values[0] + values[1]) % 2
    return Rows(fields, tuple(values), labels)


def one_hot(column, size):
    return torch.eye(size)[column] if column.dtype == torch.int64 else column


# --- models ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("batch_norm", [False, True])
def test_one_hot_and_sparse_rows_give_the_bits_of_ids(name, batch_norm):
    model = made(name, batch_norm=batch_norm)
    given = rows(model.fields)
    if name == "din":
        given = Rows(given.fields, (*given.values[:2], given.soft().values[2]), given.labels)
    columns = on(given)
    pairs = [*zip(columns, model.sizes, strict=True)]
    hot = [c if isinstance(c, Sparse) else one_hot(c, size) for c, size in pairs]
    with torch.no_grad():
        assert_array_equal(model(hot), model(columns))
        assert_array_equal(model(on(given.soft())), model(columns))
        stored = [Bags.of(value) for value in given.soft().values]
        assert_array_equal(model(stored), model(columns))


@pytest.mark.parametrize("n_stored", [2, 9])  # of each row few values, kept as they are, or many
def test_soft_rows_among_ids_have_the_logits_and_gradients_of_dense_rows(n_stored):
    rng, fields = np.random.default_rng(0), Fields.numbered(user=40, item=30, day=20)
    model = MODELS["deepfm"](fields, **SMALL)
    initialise(model, torch.Generator().manual_seed(0))
    model.eval()
    ids, made_rows = rows(fields, n=40), []
    for field in fields:
        shares = rng.random((4, field.size)) * (np.argsort(rng.random((4, field.size)), 1) < n_stored)
        made_rows.append(shares / shares.sum(1, keepdims=True))
    joined = Rows.joined([ids, Rows(fields, tuple(made_rows), np.full(4, 0.5))])[rng.permutation(44)]
    dense = [torch.from_numpy(value.toarray()) for value in joined.values]
    slopes = []
    for columns in (on(joined), dense):
        found = model(columns)
        slopes.append(torch.autograd.grad(found.square().sum(), [*model.parameters()]))
    assert isinstance(on(joined)[0], Mixed)
    assert isinstance(on(joined)[0].soft, Sparse) == (n_stored == 2)
    assert_allclose(logits(model, joined), model(dense).detach(), rtol=1e-5, atol=1e-6)
    for ours, theirs in zip(*slopes, strict=True):
        assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", MODELS)
def test_gradients_reach_soft_values_and_every_parameter(name):
    model, given = made(name), rows(WITH_HISTORY if name == "din" else FIELDS)
    columns = [one_hot(c, size).clone() for c, size in zip(on(given), model.sizes, strict=True)]
    soft = [column.requires_grad_() for column in columns if isinstance(column, torch.Tensor)]
    model(columns).sum().backward()
    assert all((column.grad != 0).any() for column in soft)
    without = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert without == []


@pytest.mark.parametrize("of_values", [False, True])
def test_bags_have_the_products_and_gradients_of_dense_rows(of_values):
    rng = np.random.default_rng(0)
    dense = (rng.random((6, 9)) * (rng.random((6, 9)) < 0.4)).astype(np.float32)
    dense[2] = 0
    bags, table = Bags.of(sp.csr_matrix(dense)), torch.from_numpy(rng.random((9, 3), np.float32)).requires_grad_()
    bags.values.requires_grad_(of_values)
    given, plain = torch.from_numpy(dense).requires_grad_(), table.detach().clone().requires_grad_()
    cotangent = torch.from_numpy(rng.random((6, 3), np.float32))
    product = bags[torch.arange(6)].times(table)
    product.backward(cotangent)
    (given @ plain).backward(cotangent)
    assert_allclose(product.detach(), (given @ plain).detach(), rtol=1e-6)
    assert_allclose(table.grad, plain.grad, rtol=1e-6)
    if of_values:
        assert_allclose(bags.values.grad, given.grad[dense != 0], rtol=1e-6)

    row, column = dense.nonzero()
    parts = torch.from_numpy(rng.random((len(row), 2), np.float32)).requires_grad_()
    assert_array_equal(bags.places().times(plain).detach(), plain[column].detach())
    assert_array_equal(bags.rows().times(given).detach(), given[row].detach())
    sums = bags.row_sums(parts)
    assert_allclose(sums.detach(), [parts.detach().numpy()[row == n].sum(0) for n in range(6)], rtol=1e-6)
    sums.backward(cotangent[:, :2])
    assert_array_equal(parts.grad, cotangent[row, :2])


def test_a_factorisation_machine_is_its_double_sum():
    model, given = made("fm"), rows()
    w, v = ([t.weight.detach().numpy() for t in part.tables] for part in (model.linear.weights, model.vectors))
    x = given.values
    expected = [
        float(model.linear.bias.detach())
        + sum(w[f][x[f][n], 0] for f in range(3))
        + sum(v[f][x[f][n]] @ v[g][x[g][n]] for f in range(3) for g in range(f + 1, 3))
        for n in range(len(given))
    ]
    assert_allclose(logits(model, given), expected, rtol=1e-5)


def test_the_layers_are_their_formulas():
    rng = torch.Generator().manual_seed(0)
    v = torch.randn(5, 3, 4, generator=rng)
    dots = [(v[:, f] * v[:, g]).sum(1) for f in range(3) for g in range(f + 1, 3)]
    assert_allclose(pairwise_products(v), torch.stack(dots, 1), rtol=1e-5)
    assert_allclose(pairwise_sum(v), sum(dots), rtol=1e-4)

    cross = Cross(12, 2)
    initialise(cross, rng)
    x0 = x = v.flatten(1)
    for weight, bias in zip(cross.weights, cross.biases, strict=True):
        x = x0 * (x @ weight.weight) + bias + x
    assert_allclose(cross(x0).detach(), x.detach(), rtol=1e-5)

    cin = CIN(3, [2, 3])
    initialise(cin, rng)
    x, sums = v, []
    for dense in cin.dense:
        kernel = dense.weight.T.reshape(-1, x.shape[1], 3)
        x = torch.einsum("hij,nid,njd->nhd", kernel, x, v)
        sums.append(x.sum(2))
    assert_allclose(cin(v).detach(), torch.cat(sums, 1).detach(), rtol=1e-4, atol=1e-5)

    attention = Attention(4, 6, 2)
    initialise(attention, rng)
    heads = []
    for head in range(2):
        at = slice(3 * head, 3 * head + 3)
        q, k, w = (v @ part.weight[:, at] for part in (attention.query, attention.key, attention.value))
        heads.append(torch.softmax(q @ k.transpose(1, 2), 2) @ w)
    expected = torch.relu(torch.cat(heads, 2) + v @ attention.residual.weight)
    assert_allclose(attention(v).detach(), expected.detach(), rtol=1e-4, atol=1e-5)


def test_din_reads_a_history_through_the_item():
    model, given = made("din"), rows(WITH_HISTORY)
    history = given.values[2]
    table = model.vectors.tables[1].weight
    assert table is model.vectors.tables[2].weight
    seen = []
    model.mlp.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    soft = Rows(given.fields, (*given.values[:2], given.soft().values[2]), given.labels)
    logits(model, soft)
    with torch.no_grad():
        for n in range(len(given)):
            target, read = table[given.values[1][n]], torch.zeros(4)
            for item in np.flatnonzero(history[n]):
                parts = (model.of_past, table[item]), (model.of_item, target), (model.of_both, table[item] * target)
                hidden = torch.relu(sum(layer(vector[None]) for layer, vector in parts))
                read += history[n, item] * model.weight(hidden)[0] * table[item]
            assert_allclose(seen[0][n, -4:], read, rtol=1e-3, atol=1e-5)
    assert_allclose(logits(model, given), logits(model, soft), rtol=1e-5)
    of_one = Rows(given.fields, (*given.values[:2], given.values[1]))
    one_hot_rows = Rows(given.fields, (*given.values[:2], np.eye(10, dtype=np.float32)[given.values[1]]))
    assert_allclose(logits(model, of_one), logits(model, one_hot_rows), rtol=1e-5)
    repeated = Rows(given.fields, tuple(value[np.arange(40) % 3] for value in given.values))
    assert isinstance(on(repeated)[2], Repeated)
    assert_allclose(logits(model, repeated), logits(model, given)[np.arange(40) % 3], rtol=1e-5)
    mixed = Mixed.of(sp.csr_matrix(np.eye(10, dtype=np.float32)[[1, 2]]))
    with pytest.raises(ValueError, match="soft rows among them"):
        model([torch.zeros(2, dtype=torch.int64), torch.ones(2, dtype=torch.int64), mixed])
    other = Fields((*WITH_HISTORY.fields[:2], Field("history", "several", values=tuple("abcdefghi"))))
    for fields, item in ((WITH_HISTORY, "user"), (other, "item")):
        with pytest.raises(ValueError, match="fields of the same values"):
            MODELS["din"](fields, history="history", item=item)


# --- training -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["lr", "fm", "deepfm"])
def test_one_hot_rows_train_as_ids_do(name):
    given = rows(n=200)
    hot = Rows(FIELDS, tuple(np.eye(f.size, dtype=np.float32)[v] for f, v in zip(FIELDS, given.values, strict=True)))
    hot = Rows(FIELDS, hot.values, given.labels)
    found = []
    for each in (given, hot):
        model = made(name)
        fit(model, each, training=Training(learning_rate=0.01, n_epochs=3, batch_size=50))
        found.append(logits(model, given))
    assert_allclose(found[0], found[1], rtol=1e-4, atol=1e-6)


def test_a_model_learns_pairs_and_the_seed_is_all_chance():
    train, validation = rows(n=3000), rows(n=500, seed=1)
    settings = Training(learning_rate=0.03, n_epochs=30, batch_size=256)
    models = [made("fm", n_factors=8) for _ in range(2)]
    for model in models:
        torch.rand(3)  # the global generator has no part in it
        fit(model, train, validation, settings)
    assert evaluate(models[0], validation)["AUC"] > 0.95
    assert_array_equal(logits(models[0], validation), logits(models[1], validation))
    linear = made("lr")
    fit(linear, train, validation, settings)
    assert evaluate(linear, validation)["AUC"] < 0.6


@pytest.mark.parametrize("name", ["lr", "fm", "dcn"])
def test_a_second_fit_begins_anew(name):
    model, found = made(name), []
    for _ in range(2):
        fit(model, rows(), training=Training(n_epochs=3))
        found.append(logits(model, rows()))
    assert_array_equal(*found)


def test_a_training_goes_on_with_what_is_there():
    model, settings = made("lr"), Training(learning_rate=1e-9, n_epochs=1)
    before = logits(model, rows())
    fit(model, rows(), training=settings, go_on=True)
    assert_allclose(logits(model, rows()), before, atol=1e-5)


def test_vectors_of_one_number_are_learnt():
    model = made("fm", n_factors=1)
    fit(model, rows(), training=Training(n_epochs=2))
    assert model.vectors.table(0).abs().max() > 0


@pytest.mark.parametrize(("n", "batch_size"), [(41, 20), (7, 3), (7, 2), (3, 2)])
def test_a_last_batch_of_one_row_is_normalised_with_others(n, batch_size):
    model = made("deepfm", batch_norm=True)
    fit(model, rows(n=n), training=Training(n_epochs=2, batch_size=batch_size))
    assert np.isfinite(logits(model, rows())).all()


def test_one_row_is_not_normalised():
    given = rows(n=10)
    for part, batch_size in ((given, 1), (Rows(FIELDS, tuple(v[:1] for v in given.values), [0.5]), 20)):
        with pytest.raises(ValueError, match="one row has no variance"):
            fit(made("deepfm", batch_norm=True), part, training=Training(batch_size=batch_size))


def test_rows_of_one_kind_of_label_are_refused():
    given = rows()
    with pytest.raises(ValueError, match="all labels are 1: rows of both kinds are needed"):
        fit(made("lr"), given[given.labels == 1])


def test_a_temperature_is_taken_out_again():
    """A student that says of every row what its teacher says at a temperature has the teacher's logits."""
    teacher, given = made("lr"), rows(n=500)
    student = made("lr")
    settings = Training(learning_rate=0.05, n_epochs=200, batch_size=100, temperature=3.0)
    fit(student, labelled(teacher, given, 3.0), training=settings)
    assert_allclose(logits(student, given), logits(teacher, given), atol=0.05)


def test_weights_count_rows():
    given = rows(n=100)
    heavy = Rows(FIELDS, given.values, given.labels, np.r_[np.full(50, 2.0), np.zeros(50)])
    twice = given[np.r_[np.arange(50), np.arange(50)]]
    found = []
    for each in (heavy, twice):
        model = made("lr")
        fit(model, each, training=Training(learning_rate=0.01, n_epochs=20, batch_size=100))
        found.append(logits(model, given))
    assert_allclose(*found, rtol=1e-4, atol=1e-5)


def test_squared_errors_on_probabilities_find_the_logits():
    teacher, given = made("lr"), rows(n=500)
    labels = 1 / (1 + np.exp(-logits(teacher, given).astype(np.float64)))
    student = made("lr")
    settings = Training(learning_rate=0.05, n_epochs=100, batch_size=100, loss="squared_error")
    fit(student, Rows(FIELDS, given.values, labels), training=settings)
    assert_allclose(logits(student, given), logits(teacher, given), atol=0.02)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"loss": "hinge"}, "loss must be one of"),
        ({"metric": "HR"}, "metric must be one of"),
        ({"weight_decay": -1}, "weight_decay"),
        ({"temperature": 0}, "temperature"),
        ({"learning_rate": 0}, "learning_rate"),
        ({"batch_size": 0}, "batch_size"),
        ({"seed": -1}, "seed"),
        ({"device": "gpu9"}, "device"),
    ],
)
def test_bad_settings_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        fit(made("lr"), rows(), training=Training(**change))


def test_rows_that_nothing_can_be_learnt_from_are_refused():
    given = rows()
    with pytest.raises(ValueError, match="no labels"):
        fit(made("lr"), Rows(FIELDS, given.values))
    with pytest.raises(ValueError, match="both of them"):
        fit(made("lr"), given, Rows(FIELDS, given.values, np.ones(len(given))))
    with pytest.raises(ValueError, match="no rows to train on"):
        fit(made("lr"), given[:0])
    with pytest.raises(ValueError, match="above 0 and below 1"):
        fit(made("lr"), given, training=Training(loss="squared_error"))
    other = Rows(Fields.numbered(user=13, item=9, day=3), given.values, given.labels)
    for call in (
        lambda: fit(made("lr"), other),
        lambda: fit(made("lr"), given, other),
        lambda: logits(made("lr"), other),
    ):
        with pytest.raises(ValueError, match="of other fields than the model's"):
            call()
    assert logits(made("lr"), given.soft()[:0]).shape == (0,)
    with pytest.raises(FloatingPointError, match="became"):
        fit(made("fm"), given, training=Training(learning_rate=1e30, n_epochs=5))


# --- files ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
def test_a_saved_model_is_the_same_to_the_bit(name, tmp_path):
    model = made(name, batch_norm=True)
    given = rows(model.fields).soft()
    store.save(model, tmp_path / "model.pt")
    loaded = store.load(str(tmp_path / "model.pt"), model.fields)
    assert_array_equal(logits(loaded, given), logits(model, given))


def build(fields):
    return made("lr")


def test_a_model_of_ones_own_is_built():
    assert_array_equal(logits(store.load(f"{__name__}:build", FIELDS), rows()), logits(made("lr"), rows()))
    for name in ("no_such_module:build", f"{__name__}:no_such"):
        with pytest.raises(ValueError, match="is not found"):
            store.load(name, FIELDS)
    with pytest.raises(ValueError, match=r"must give a torch\.nn\.Module"):
        store.load("builtins:len", FIELDS)
    with pytest.raises(ValueError, match=r"Pairs must give 40 logits, one a row, got \(40, 3\) of Tensor"):
        logits(store.load(f"{__name__}:Pairs", FIELDS), rows())


class Products(torch.nn.Module):
    """A model that knows nothing of this library: q_user . q_item by ids or soft values."""

    def __init__(self, fields):
        super().__init__()
        rng = torch.Generator().manual_seed(0)
        self.tables = torch.nn.ParameterList(torch.randn(field.size, 3, generator=rng) for field in fields)

    def forward(self, columns):
        vectors = [
            table[column] if column.dtype == torch.int64 else column @ table
            for table, column in zip(self.tables, columns, strict=True)
        ]
        return (vectors[0] * vectors[1]).sum(1)


class Dropping(Products):
    """The same with half of its vectors dropped in training."""

    def forward(self, columns):
        return super().forward(columns) + torch.nn.functional.dropout(columns[0].float(), training=self.training)


class Pairs(Products):
    """What gives a row of numbers for a logit."""

    def forward(self, columns):
        return self.tables[0][columns[0]]


def test_a_module_of_ones_own_drops_out_by_the_seed_and_is_not_saved(tmp_path):
    found = []
    for noise in (1, 2):
        torch.manual_seed(noise)
        model = store.load(f"{__name__}:Dropping", FIELDS)
        fit(model, rows(), training=Training(n_epochs=2, batch_size=20))
        found.append(logits(model, rows()))
    assert_array_equal(*found)
    with pytest.raises(ValueError, match="Dropping is no model of ours"):
        store.save(model, tmp_path / "model.pt")


def test_two_modules_of_ones_own_do_not_share_a_checkpoint(tmp_path):
    first, second = (store.load(f"{__name__}:{name}", FIELDS) for name in ("Products", "Dropping"))
    designed.synthesise(first, 20, checkpoint=tmp_path)
    with pytest.raises(CheckpointError, match="another model"):
        designed.synthesise(second, 20, checkpoint=tmp_path)


def test_any_module_may_be_read_out():
    model = store.load(f"{__name__}:Products", FIELDS)
    given = rows()
    expected = logits(model, given)
    soft = Rows(FIELDS, tuple(np.eye(f.size, dtype=np.float32)[v] for f, v in zip(FIELDS, given.values, strict=True)))
    for other in (soft, given.soft()):
        assert_allclose(logits(model, other), expected, rtol=1e-5)
    for make in (designed.synthesise, inverted.synthesise, drawn.synthesise):
        made_rows = make(model, 50)
        found = model([torch.from_numpy(np.asarray(value)) for value in made_rows.values]).detach()
        assert np.isfinite(found.numpy()).all()


def test_files_that_are_no_model_are_refused(tmp_path):
    path = tmp_path / "model.pt"
    with pytest.raises(ValueError, match="is no file"):
        store.load(str(path), FIELDS)
    for content in (b"", b"text", np.random.default_rng(0).bytes(1000)):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="cannot be read"):
            store.load(str(path), FIELDS)
    torch.save({"weights": torch.zeros(3)}, path)
    with pytest.raises(ValueError, match="holds something else"):
        store.load(str(path), FIELDS)
    torch.save(made("lr"), path)  # a pickle, which could run code
    with pytest.raises(ValueError, match="cannot be read"):
        store.load(str(path), FIELDS)
    store.save(made("lr"), path)
    of_letters = Fields((*FIELDS.fields[:2], Field("day", values=("a", "b", "c"))))
    for other in (Fields.numbered(user=5, item=5), of_letters):
        with pytest.raises(ValueError, match="of other fields, or of other values"):
            store.load(str(path), other)
    content = torch.load(path, weights_only=True)
    for damage in ({"state": {1: 2}}, {"params": {"n_factors": -1}}, {"params": {"colour": 1}}):
        torch.save({**content, **damage}, path)
        with pytest.raises(ValueError, match="is damaged"):
            store.load(str(path), FIELDS)
