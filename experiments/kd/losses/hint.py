"""Features: a student's vectors tell its teacher's, by one map (FitNet) or by experts (DE)."""

import torch
from torch import nn

from experiments.recommenders.layers import Dense


class Experts(nn.Module):
    """Maps of student's vectors (n, d) to teacher's (n, D), each user or item by its own mixture of them.

        sum_e s_e E_e(x),    s = softmax((log a + g) / temperature),    a = softmax(W y + b)

    x and y are the vectors of student and teacher, g Gumbel noise, E_e two layers of width (d + D) / 2 with a ReLU
    between (Kang et al. 2020, Eq. 1 to 4). One expert is a hint (FitNet, Romero et al. 2015, Eq. 3).
    """

    def __init__(self, n_student: int, n_teacher: int, n_experts: int = 30):
        super().__init__()
        width = (n_student + n_teacher) // 2
        with torch.random.fork_rng(devices=[]):  # layers draw values at once, which are drawn anew
            self.inner = Dense(n_student, n_experts * width)
            self.outer = nn.Parameter(torch.empty(n_experts, width, n_teacher))
            self.offsets = nn.Parameter(torch.zeros(n_experts, n_teacher))
            self.gate = Dense(n_teacher, n_experts)

    @torch.no_grad()
    def initialise(self, rng: torch.Generator) -> None:
        """Draw values, of Glorot and Bengio's (2010) variance; offsets are zero."""
        n_experts, width, n_teacher = self.outer.shape
        n_student = self.inner.weight.shape[0]
        nn.init.normal_(self.inner.weight, std=(2 / (n_student + width)) ** 0.5, generator=rng)
        nn.init.normal_(self.outer, std=(2 / (width + n_teacher)) ** 0.5, generator=rng)
        nn.init.normal_(self.gate.weight, std=(2 / (n_teacher + n_experts)) ** 0.5, generator=rng)
        for offsets in (self.inner.bias, self.offsets, self.gate.bias):
            nn.init.zeros_(offsets)

    def shares(self, teacher: torch.Tensor, temperature: float, rng: torch.Generator | None = None) -> torch.Tensor:
        """(n, n_experts) s; without `rng` no noise is added."""
        scores = torch.log_softmax(self.gate(teacher), 1)
        if rng is not None:
            noise = torch.rand(scores.shape, generator=rng).clamp_(min=1e-20)
            scores = scores - (-noise.log()).log()
        return torch.softmax(scores / temperature, 1)

    def forward(self, student: torch.Tensor, shares: torch.Tensor) -> torch.Tensor:
        """(n, D) the mixtures of what experts say."""
        n_experts, width, _ = self.outer.shape
        hidden = torch.relu(self.inner(student)).unflatten(1, (n_experts, width)) * shares[:, :, None]
        return hidden.flatten(1) @ self.outer.flatten(0, 1) + shares @ self.offsets


def hint(said: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """Mean over users or items of |said - teacher|^2, of vectors (n, D) (Eq. 5)."""
    return (said - teacher.detach()).square().sum(1).mean()
