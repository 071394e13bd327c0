"""What students learn of teachers, each held against a slow twin that reads as its equation."""

import itertools
import math

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

torch = pytest.importorskip("torch")

from experiments.kd.losses import bd, cd, hint, listwise, rd, rrd, soft_targets, softmax, topology


def logits(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def log_loss(wanted, x):
    return -wanted * math.log(sigmoid(x)) - (1 - wanted) * math.log(1 - sigmoid(x))


# --- responses --------------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [1.0, 5.0])
def test_soft_targets_are_cross_entropies(temperature):
    student, teacher = logits(3, 4), logits(3, 4, seed=1)
    pairs = zip(student.flatten().tolist(), teacher.flatten().tolist(), strict=True)
    expected = [log_loss(sigmoid(t / temperature), s / temperature) for s, t in pairs]
    assert_allclose(soft_targets.soft_targets(student, teacher, temperature), np.mean(expected), rtol=1e-5)


def test_the_listwise_softmax_is_a_cross_entropy():
    student, shares = logits(3, 5), torch.tensor([1.0, 0.25, 0.75, 1.0])
    rows, items = torch.tensor([0, 1, 1, 2]), torch.tensor([4, 0, 3, 2])
    wanted = torch.zeros(3, 5).index_put((rows, items), shares)
    expected = []
    for told, found in zip(wanted.tolist(), student.tolist(), strict=True):
        whole = sum(map(math.exp, found))
        expected.append(-sum(q * math.log(math.exp(x) / whole) for q, x in zip(told, found, strict=True)))
    assert_allclose(listwise.listwise(student, rows, items, shares), np.mean(expected), rtol=1e-5)


def test_collaborative_distillation_softens_the_teacher_alone():
    student, teacher = logits(3, 4), logits(3, 4, seed=1)
    pairs = zip(student.flatten().tolist(), teacher.flatten().tolist(), strict=True)
    expected = [log_loss(sigmoid((t + 0.5) / 2), s) for s, t in pairs]
    assert_allclose(cd.cd(student, teacher, 2.0, 0.5), np.mean(expected), rtol=1e-5)


def test_ranks_are_drawn_by_their_weight_without_repeats():
    rng = torch.Generator().manual_seed(0)
    drawn = cd.by_rank(4000, 2, 5, 2.0, rng)
    assert (drawn[:, 0] < drawn[:, 1]).all()
    weights = np.exp(-np.arange(5) / 2)
    expected = np.zeros(5)
    for first, second in itertools.permutations(range(5), 2):
        left = weights.sum() - weights[first]
        expected[[first, second]] += weights[first] / weights.sum() * weights[second] / left
    found = np.bincount(drawn.flatten().numpy(), minlength=5) / 4000
    assert_allclose(found, expected, atol=4 * (0.25 / 4000) ** 0.5)
    with pytest.raises(ValueError, match="6 ranks are asked for, and there are 5"):
        cd.by_rank(1, 6, 5, 2.0, rng)


def test_ranking_distillation_weighs_places():
    student, weights = logits(3, 4), rd.position_weights(4, 2.0)
    plain = np.exp(-np.arange(1, 5) / 2)
    plain /= plain.sum()
    assert_allclose(weights, plain, rtol=1e-6)
    expected = [-sum(w * math.log(sigmoid(s)) for w, s in zip(plain, row, strict=True)) for row in student.tolist()]
    assert_allclose(rd.rd(student, weights), np.mean(expected), rtol=1e-5)


def test_ranking_distillation_weighs_what_the_student_ranks_low():
    student, others = logits(3, 4), logits(3, 50, seed=1)
    found = rd.discrepancy_weights(student, others, 74, 0.01)  # where tanh is far from 1
    for user, place in itertools.product(range(3), range(4)):
        rank = math.floor(73 * np.mean(others[user].numpy() > student[user, place].item()))
        assert_allclose(found[user, place], max(0, math.tanh(0.01 * (rank - place))), rtol=1e-5)


def test_the_relaxed_ranking_is_the_probability_of_an_order():
    interesting, others = logits(3, 4), logits(3, 6, seed=1)
    expected = []
    for first, below in zip(interesting.tolist(), others.tolist(), strict=True):
        total = 0.0
        for place, score in enumerate(first):
            total -= score - math.log(sum(map(math.exp, first[place:])) + sum(map(math.exp, below)))
        expected.append(total)
    assert_allclose(rrd.rrd(interesting, others), np.mean(expected), rtol=1e-5)
    assert torch.isfinite(rrd.rrd(1000 * interesting, 1000 * others))


def test_the_order_of_other_items_does_not_count_and_the_teacher_s_does():
    interesting, others = logits(3, 4), logits(3, 6, seed=1)
    assert_allclose(rrd.rrd(interesting, others), rrd.rrd(interesting, others.flip(1)), rtol=1e-6)
    ordered = interesting.sort(1, descending=True).values
    assert rrd.rrd(ordered, others) < rrd.rrd(ordered.flip(1), others)


def test_the_full_softmax_is_the_teacher_s_distribution():
    student, teacher = logits(2, 5), logits(2, 5, seed=1)
    teacher[0, 3] = -torch.inf
    expected = []
    for s, t in zip(student.tolist(), teacher.tolist(), strict=True):
        kept = np.isfinite(t)
        q = np.exp(np.array(t)[kept] / 2)
        p = np.exp(np.array(s)[kept] / 2)
        expected.append(-(q / q.sum() * np.log(p / p.sum())).sum())
    student.requires_grad_()
    loss = softmax.full_softmax(student, teacher, 2.0)
    assert_allclose(loss.detach(), np.mean(expected), rtol=1e-5)
    loss.backward()
    assert student.grad.isfinite().all()
    assert student.grad[0, 3] == 0


def test_bidirectional_weights_are_of_gaps_in_rank():
    teacher, student = logits(2, 6), logits(2, 6, seed=1)
    places = [bd.ranks(scores) for scores in (teacher, student)]
    for scores, found in zip((teacher, student), places, strict=True):
        for row, rank in zip(scores.numpy(), found.numpy(), strict=True):
            assert_array_equal(rank, [1 + (row > score).sum() for score in row])
    to_student = bd.rank_gaps(places[1], places[0], 0.01)
    to_teacher = bd.rank_gaps_of_teacher(*places, 1e-4)
    for user, item in itertools.product(range(2), range(6)):
        behind = float(places[1][user, item] - places[0][user, item])
        assert_allclose(to_student[user, item], math.tanh(max(0, 0.01 * behind)), rtol=1e-5, atol=1e-9)
        assert_allclose(to_teacher[user, item], math.exp(-1e-4 * behind), rtol=1e-5)
    rng = torch.Generator().manual_seed(0)
    weights = torch.tensor([[0.0, 1.0, 3.0], [0.0, 0.0, 0.0]])
    items = bd.drawn(weights, 4000, rng)
    shares = [np.bincount(row.numpy(), minlength=3) / 4000 for row in items]
    assert_allclose(shares, [[0, 0.25, 0.75], [1 / 3] * 3], atol=0.03)


def test_no_gradient_reaches_a_teacher():
    student, teacher = logits(3, 4).requires_grad_(), logits(3, 4, seed=1).requires_grad_()
    weights = logits(3, 4, seed=2).requires_grad_()
    losses = (
        soft_targets.soft_targets(student, teacher), cd.cd(student, teacher), rd.rd(student, weights),
        softmax.full_softmax(student, teacher), topology.ftd(student, teacher), hint.hint(student, teacher),
        topology.htd(student, teacher, torch.tensor([0, 1, 0]), 2),
    )  # fmt: skip
    sum(losses).backward()
    assert student.grad.any()
    assert teacher.grad is None
    assert weights.grad is None


# --- features and relations -------------------------------------------------------------------------


def test_experts_mix_what_each_of_them_says():
    experts = hint.Experts(3, 7, n_experts=4)
    experts.initialise(torch.Generator().manual_seed(0))
    with torch.no_grad():
        experts.offsets.normal_(generator=torch.Generator().manual_seed(1))
        experts.inner.bias.normal_(generator=torch.Generator().manual_seed(2))
    student, teacher = logits(6, 3), logits(6, 7, seed=1)
    shares = experts.shares(teacher, 0.5)
    assert_allclose(shares.detach().sum(1), np.ones(6), rtol=1e-5)
    said = experts(student, shares).detach()
    for n in range(6):
        expected = torch.zeros(7)
        for e in range(4):
            part = slice(5 * e, 5 * e + 5)
            hidden = torch.relu(student[n] @ experts.inner.weight[:, part] + experts.inner.bias[part])
            expected += shares[n, e] * (hidden @ experts.outer[e] + experts.offsets[e])
        assert_allclose(said[n], expected.detach(), rtol=1e-4, atol=1e-5)
    lengths = [float(((said[n] - teacher[n]) ** 2).sum()) for n in range(6)]
    assert_allclose(hint.hint(said, teacher), np.mean(lengths), rtol=1e-5)


def test_experts_are_chosen_by_the_gate_where_it_is_cold():
    experts = hint.Experts(3, 7, n_experts=4)
    experts.initialise(torch.Generator().manual_seed(0))
    teacher = logits(500, 7, seed=1)
    assert_allclose(experts.shares(teacher, 1e-6).detach().max(1).values, 1)
    noisy = experts.shares(teacher[:1].expand(4000, 7), 1e-6, torch.Generator().manual_seed(0)).detach()
    # By Gumbel noise each is chosen with the gate's probability.
    assert_allclose(noisy.mean(0), torch.softmax(experts.gate(teacher[:1]), 1).detach()[0], atol=0.03)


def test_topologies_are_of_cosines():
    student, teacher = logits(5, 3), logits(5, 8, seed=1)

    def cosine(a, b):
        return float(a @ b) / math.sqrt(float(a @ a) * float(b @ b))

    pairs = [*itertools.product(range(5), repeat=2)]
    gaps = [cosine(student[a], student[b]) - cosine(teacher[a], teacher[b]) for a, b in pairs]
    assert_allclose(topology.ftd(student, teacher), np.sum(np.square(gaps)) / 5, rtol=1e-4)

    groups = torch.tensor([0, 2, 0, 2, 2])
    within = [gap for (a, b), gap in zip(pairs, gaps, strict=True) if groups[a] == groups[b]
              and cosine(teacher[a], teacher[b]) > 0]  # fmt: skip
    for a, group in itertools.product(range(5), (0, 2)):
        means = [vectors[groups == group].mean(0) for vectors in (student, teacher)]
        if (wanted := cosine(teacher[a], means[1])) > 0:
            within.append(cosine(student[a], means[0]) - wanted)
    assert_allclose(topology.htd(student, teacher, groups, 4), np.sum(np.square(within)) / 5, rtol=1e-4)


def test_a_rotated_and_scaled_space_has_the_same_topology():
    teacher = logits(6, 4)
    turned = 3 * teacher @ torch.linalg.qr(logits(4, 4, seed=1))[0]
    assert topology.ftd(turned, teacher) < 1e-12
    assert topology.htd(turned, teacher, torch.arange(6) % 2, 2) < 1e-12
