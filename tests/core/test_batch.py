"""A batch may be cut anywhere, and its weights are those of the whole update."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dreambooth.core.batch import Batch, picture_weights, spans


def batch_of(rows: int) -> Batch:
    number = torch.arange(rows)
    return Batch(
        x=torch.randn(rows, 4, 2, 2), eps=torch.randn(rows, 4, 2, 2), t=number, weight=torch.rand(rows),
        condition={"text": torch.randn(rows, 3, 5), "time_ids": torch.randn(rows, 6)}, photo=number,
    )  # fmt: skip


@given(st.integers(1, 50), st.integers(1, 60))
def test_spans_cover_everything_once_and_none_is_empty(total, parts):
    cut = spans(total, parts)
    assert [row for start, stop in cut for row in range(start, stop)] == list(range(total))
    sizes = [stop - start for start, stop in cut]
    assert len(cut) == min(parts, total)
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("pieces", [1, 2, 3, 6, 99])
def test_the_pieces_of_a_batch_are_its_rows(pieces):
    whole = batch_of(7)
    parts = list(whole.split(pieces))
    for name in ("x", "eps", "t", "weight", "photo"):
        assert torch.equal(torch.cat([getattr(part, name) for part in parts]), getattr(whole, name))
    for name, value in whole.condition.items():
        assert torch.equal(torch.cat([part.condition[name] for part in parts]), value)


def test_weights_of_photos_and_of_class_pictures_add_up_to_one_and_to_lambda():
    weights = picture_weights(3, 4, 0.5)
    assert sum(weights[:3]) == pytest.approx(1)
    assert sum(weights[3:]) == pytest.approx(0.5)
    assert picture_weights(2, 0, 0.5) == [0.5, 0.5]
