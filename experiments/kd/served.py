"""A student as an `nn.Module`, and its export."""

from pathlib import Path

import torch
from torch import nn

from experiments.kd.names import EXPORTS
from experiments.kd.students import Student
from infae.runtime import checks
from infae.storage.atomic import replacing


class Served(nn.Module):
    """(items (n, k) int64, values (n, k)) -> scores (n, n_items); an item of value 0 counts for nothing.

    Rows of several lengths are filled up with such items.
    """

    def __init__(self, student: Student):
        super().__init__()
        for name in ("encode", "decode", "offset", "empty", "bias"):
            self.register_buffer(name, torch.from_numpy(getattr(student, name)))

    def forward(self, items: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        encode, decode, offset, empty, bias = (
            self.get_buffer(name) for name in ("encode", "decode", "offset", "empty", "bias")
        )
        total = values.sum(1, keepdim=True)
        shares = values / torch.where(total > 0, total, 1)
        user = torch.where(total > 0, offset + (shares[:, :, None] * encode[items]).sum(1), empty)
        return user @ decode.T + bias


def program(student: Student) -> torch.export.ExportedProgram:
    """What `torch.export.save` writes, for any number of rows and of items in a row."""
    n, k = torch.export.Dim("n"), torch.export.Dim("k")
    example = (torch.zeros(2, 3, dtype=torch.int64), torch.ones(2, 3))
    shapes = {"items": {0: n, 1: k}, "values": {0: n, 1: k}}
    return torch.export.export(Served(student), example, dynamic_shapes=shapes)


def write_onnx(student: Student, path: Path) -> None:
    """An ONNX model with inputs `items` and `values`, and output `scores`; needs the onnx extra.

    Written aside, then renamed.
    """
    with replacing(path) as aside:
        made = torch.onnx.export(
            program(student), input_names=["items", "values"], output_names=["scores"], dynamo=True, verbose=False
        )
        assert made is not None
        made.save(aside)


def export(student: Student, kind: str, folder: Path) -> Path:
    """Write a file of one of `names.EXPORTS` into a folder, and return it; ImportError without the onnx extra."""
    if checks.choice("export", kind, EXPORTS) == "onnx":
        path = folder / "student.onnx"
        write_onnx(student, path)
    else:
        path = folder / "student.pt2"
        with replacing(path) as aside:
            torch.export.save(program(student), aside)
    return path
