"""Relations: cosines between users and items are as the teacher's, of all pairs or by groups (Kang et al. 2021)."""

import torch
from torch.nn.functional import normalize, one_hot


def ftd(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """Mean over a of sum_b (cos(x_a, x_b) - cos(y_a, y_b))^2, of vectors x (n, d) and y (n, D) (FTD, Eq. 3 and 4).

    The paper and its code take the sum over a.
    """
    gaps = cosines(student, student) - cosines(teacher, teacher).detach()
    return gaps.square().sum(1).mean()


def htd(student: torch.Tensor, teacher: torch.Tensor, groups: torch.Tensor, n_groups: int) -> torch.Tensor:
    """As `ftd`, of pairs within a group, and of each user or item with the mean of every group (HTD, Eq. 7 to 10).

    `groups` (n,) are those of a hard choice; pairs whose cosine is negative with the teacher are left out, as in the
    public code. Groups without a member have no mean.
    """
    alike = groups[:, None] == groups[None, :]
    members = one_hot(groups, n_groups).T.to(student.dtype)
    members = members[members.any(1)]
    shares = members / members.sum(1, keepdim=True)
    of_pairs = _kept(cosines(student, student), cosines(teacher, teacher), alike)
    of_means = _kept(cosines(student, shares @ student), cosines(teacher, shares @ teacher), torch.tensor(True))
    return torch.cat([of_pairs, of_means]).square().sum() / len(student)


def cosines(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """(len(a), len(b)) cosines of rows; 0 of a zero row."""
    return normalize(a) @ normalize(b).T


def _kept(student: torch.Tensor, teacher: torch.Tensor, among: torch.Tensor) -> torch.Tensor:
    teacher = teacher.detach()
    kept = among & (teacher > 0)
    return student[kept] - teacher[kept]
