"""Our click-through models beside deepctr-torch's; skipped where it is not installed."""

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

torch = pytest.importorskip("torch")
pytest.importorskip("deepctr_torch", reason="needs the peers extra")

from experiments.ctr import peers, tables
from experiments.ctr.fields import Fields
from experiments.ctr.models import MODELS
from experiments.ctr.train import Training, evaluate, fit, logits
from experiments.inversion import ctr_models

FIELDS = Fields.numbered(user=7, item=5, day=3)
NETWORK = {"n_factors": 4, "n_layers": 2, "width": 6}


def copied(name, ours, theirs):
    """Our weights into their model."""

    def put(parameter, value):
        parameter.data.copy_(value.reshape(parameter.shape))

    model = theirs.model
    for k, field in enumerate(FIELDS.names):
        put(model.embedding_dict[field].weight, ours.vectors.table(k))
        if name == "pnn":  # theirs has no linear part
            ours.linear.weights.table(k).data.zero_()
        else:
            put(model.linear_model.embedding_dict[field].weight, ours.linear.weights.table(k))
    put(model.out.bias, ours.linear.bias)
    for mine, layer in zip(ours.mlp.dense, model.dnn.linears, strict=True):
        put(layer.weight, mine.weight.T)
        put(layer.bias, mine.bias)
    out = ours.out.weight
    width = NETWORK["width"]
    if name == "dcn":
        for k, weight in enumerate(ours.cross.weights):
            put(model.crossnet.kernels[k], weight.weight)
            put(model.crossnet.bias[k], ours.cross.biases[k])
    if name in ("dcn", "autoint"):  # the network's weights come last
        put(model.dnn_linear.weight, torch.cat([out[width:], out[:width]]))
    elif name == "xdeepfm":
        put(model.dnn_linear.weight, out[:width])
        put(model.cin_linear.weight, out[width:])
        for mine, layer in zip(ours.cin.dense, model.cin.conv1ds, strict=True):
            put(layer.weight, mine.weight.T)
            layer.bias.data.zero_()
    else:
        put(model.dnn_linear.weight, out)
    if name == "autoint":
        for mine, layer in zip(ours.attention, model.int_layers, strict=True):
            pairs = ((layer.W_Query, mine.query), (layer.W_key, mine.key), (layer.W_Value, mine.value))
            for parameter, dense in (*pairs, (layer.W_Res, mine.residual)):
                put(parameter, dense.weight)


@pytest.mark.parametrize("name", peers.MODELS)
def test_with_the_same_weights_theirs_give_our_logits(name):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {field: rng.integers(-1, size - 1, 40) for field, size in zip(FIELDS.names, (8, 6, 4), strict=True)}
    )
    rows = FIELDS.rows(frame)
    ours, theirs = MODELS[name](FIELDS, **NETWORK), peers.Peer(name, FIELDS, **NETWORK)
    with torch.no_grad():
        for parameter in ours.parameters():
            parameter.copy_(torch.from_numpy(rng.normal(0, 0.5, parameter.shape)))
        copied(name, ours, theirs)
    assert_allclose(logits(ours, rows), logits(theirs, rows), rtol=1e-4, atol=1e-5)


def test_ours_learn_no_less_than_theirs_by_the_same_training():
    data = tables.random_parts(tables.made(), 0)
    found = []
    for model in (MODELS["deepfm"](data.fields), peers.Peer("deepfm", data.fields)):
        fit(model, data.train, data.validation, Training(0.003, 1e-5, 1024, 30, patience=10))
        found.append(evaluate(model, data.test)["AUC"])
    assert found[1] > 0.7
    assert found[0] > found[1] - 0.01


def test_theirs_train_to_the_same_bits_by_the_same_seed():
    data = tables.random_parts(tables.made(n_rows=2000), 0)
    found = []
    for noise in (1, 2):
        torch.manual_seed(noise)
        model = peers.Peer("deepfm", data.fields, dropout=0.5)
        fit(model, data.train, training=Training(0.003, n_epochs=1, batch_size=500))
        found.append(logits(model, data.test))
    np.testing.assert_array_equal(*found)


def test_what_theirs_cannot_do_is_refused():
    with pytest.raises(ValueError, match="name must be one of"):
        peers.Peer("lr", FIELDS)
    with pytest.raises(ValueError, match="no batch normalisation"):
        peers.Peer("pnn", FIELDS, batch_norm=True)
    with pytest.raises(ValueError, match="category fields alone, got price"):
        peers.Peer("dcn", Fields.of(pd.DataFrame({"price": [1.0, 2.0]}), {"price": "standard"}))


def test_the_study_has_theirs_beside_ours(tmp_path):
    config = ctr_models.Config(learners=("LR", "DCN"), n_epochs=1, n_rows=1000, peers=True, out=str(tmp_path))
    record = ctr_models.run(config)
    assert [cell["learner"] for cell in record["cells"]] == ["LR", "DCN", "DCN (deepctr-torch)"]
