"""A student as an `nn.Module`, and its export."""

from pathlib import Path

import torch
from torch import nn

from experiments.kd.students import Student


class Served(nn.Module):
    """(items (n, k) int64, values (n, k)) -> scores (n, n_items); an item of value 0 counts for nothing.

    Rows of several lengths are filled up with such items.
    """

    def __init__(self, student: Student):
        super().__init__()
        for name in ("encode", "decode", "offset", "bias"):
            self.register_buffer(name, torch.from_numpy(getattr(student, name)))

    def forward(self, items: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        encode, decode, offset, bias = (self.get_buffer(name) for name in ("encode", "decode", "offset", "bias"))
        total = values.sum(1, keepdim=True)
        shares = values / torch.where(total > 0, total, 1)
        user = offset + (shares[:, :, None] * encode[items]).sum(1)
        return user @ decode.T + bias


def program(student: Student) -> torch.export.ExportedProgram:
    """What `torch.export.save` writes, for any number of rows and of items in a row."""
    n, k = torch.export.Dim("n"), torch.export.Dim("k")
    example = (torch.zeros(2, 3, dtype=torch.int64), torch.ones(2, 3))
    shapes = {"items": {0: n, 1: k}, "values": {0: n, 1: k}}
    return torch.export.export(Served(student), example, dynamic_shapes=shapes)


def write_onnx(student: Student, path: Path) -> None:
    """An ONNX model with inputs `items` and `values`, and output `scores`; needs onnx and onnxscript."""
    program(student).run_decompositions()
    torch.onnx.export(
        program(student), (), str(path), input_names=["items", "values"], output_names=["scores"], dynamo=True
    )
