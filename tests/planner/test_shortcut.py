"""What the tracer takes for granted of elementwise ops, reductions and concatenations is what real tensors get."""

from __future__ import annotations

import pytest
import torch

from lplan.planner.tracing.shortcut import declined, shortcut

_aten = torch.ops.aten


def heads(*shape, dtype=torch.bfloat16):
    """Queries as attention sees them: batch, heads, tokens, width of a view of batch, tokens, heads, width."""
    batch, count, tokens, width = shape
    return torch.zeros(batch, tokens, count, width, dtype=dtype).transpose(1, 2)


KNOWN = {
    "same": (_aten.mul.Tensor, (torch.zeros(2, 3, 4), torch.zeros(2, 3, 4))),
    "a row's factor": (_aten.mul.Tensor, (torch.zeros(2, 3, 4), torch.zeros(2, 3, 1))),
    "a norm's weights": (_aten.mul.Tensor, (torch.zeros(4), torch.zeros(2, 3, 4))),
    "rotary": (_aten.mul.Tensor, (heads(2, 3, 5, 4), torch.zeros(1, 1, 5, 4, dtype=torch.bfloat16))),
    "rotary of one": (_aten.mul.Tensor, (heads(1, 3, 5, 4), torch.zeros(1, 1, 5, 4, dtype=torch.bfloat16))),
    "bias": (_aten.add.Tensor, (torch.zeros(2, 3, 4), torch.zeros(4))),
    "scaled": (_aten.mul.Tensor, (heads(2, 3, 5, 4), 2.0)),
    "halves": (_aten.cat.default, ([torch.zeros(2, 3, 2), torch.zeros(2, 3, 2)], -1)),
    "rotated halves": (_aten.cat.default, ([heads(2, 3, 5, 4)[..., 2:], heads(2, 3, 5, 4)[..., :2]], -1)),
    "halves of a view": (_aten.cat.default, ([torch.zeros(2, 3, 8)[..., 4:], torch.zeros(2, 3, 4)], -1)),
    "rows": (_aten.cat.default, ([torch.zeros(2, 3), torch.zeros(5, 3)],)),
    "mean": (_aten.mean.dim, (torch.zeros(2, 3, 4), [-1], True)),
    "mean of a view": (_aten.mean.dim, (heads(2, 3, 5, 4), [-1], True)),
    "sum": (_aten.sum.dim_IntList, (torch.zeros(2, 3, 4), [0, 1])),
    "sum kept": (_aten.sum.dim_IntList, (torch.zeros(2, 3, 4), [0, 1], True)),
    "norm": (_aten.linalg_vector_norm.default, (torch.zeros(2, 3), 2)),
}


def to_meta(value):
    if isinstance(value, torch.Tensor):
        strides = value.stride()
        return torch.empty_strided(value.shape, strides, dtype=value.dtype, device="meta")
    return [to_meta(item) for item in value] if isinstance(value, list) else value


def layout(tensor):
    return tensor.shape, tensor.stride(), tensor.dtype, tensor.untyped_storage().nbytes()


@pytest.mark.parametrize("name", KNOWN)
def test_a_result_taken_for_granted_is_laid_out_as_the_real_one(name):
    func, args = KNOWN[name]
    found = shortcut(func, [to_meta(arg) for arg in args], {})
    assert not declined(found)
    assert found.device.type == "meta"
    assert layout(found) == layout(func(*args))


@pytest.mark.parametrize(
    ("func", "args"),
    [
        (_aten.mul.Tensor, (torch.zeros(2, 3), torch.zeros(3, dtype=torch.bfloat16))),
        (_aten.mul.Tensor, (torch.zeros(2, 1), torch.zeros(1, 3))),
        (_aten.mul.Tensor, (torch.zeros(1, 1, 5, 4), heads(2, 3, 5, 4, dtype=torch.float32))),
        (_aten.cat.default, ([torch.zeros(2, 3), torch.zeros(3, 2).t()], 0)),
        (_aten.cat.default, ([torch.zeros(2, 5, 4, 3).permute(0, 3, 1, 2)] * 2, 0)),
        (_aten.cat.default, ([torch.zeros(2, 3), torch.zeros(2, 3, dtype=torch.bfloat16)], 0)),
        (_aten.sum.dim_IntList, (torch.zeros(2, 3, dtype=torch.long), [0])),
        (_aten.sum.dim_IntList, (torch.zeros(2, 3), None)),
        (_aten.linalg_vector_norm.default, (torch.zeros(2, 3), 2, [0])),
    ],
    ids=[
        "dtypes",
        "both repeat",
        "views second",
        "views",
        "channels last",
        "mixed",
        "integers",
        "all",
        "norms of columns",
    ],
)
def test_what_does_not_follow_is_left_to_torch(func, args):
    assert declined(shortcut(func, [to_meta(arg) for arg in args], {}))


def test_another_dtype_for_a_sum_is_left_to_torch():
    args = [torch.empty(2, 3, device="meta"), [0]]
    assert declined(shortcut(_aten.sum.dim_IntList, args, {"dtype": torch.float64}))
