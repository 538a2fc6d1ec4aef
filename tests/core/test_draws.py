"""Draws belong to keys, and every item is shown once an epoch."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from dreambooth.core.draws import endless_order, generator, key

parts = st.lists(st.one_of(st.integers(0, 9), st.sampled_from("ab")), min_size=1, max_size=4)


@given(parts, parts)
def test_a_key_is_a_function_of_all_its_parts(left, right):
    same = [str(part) for part in left] == [str(part) for part in right]
    assert (key(*left) == key(*right)) == same
    assert 0 <= key(*left) < 2**63


def test_a_generator_draws_the_same_for_the_same_key_and_else_other_numbers():
    first, again, other = (torch.randn(32, generator=generator(1, "row", update, 0)) for update in (4, 4, 5))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_key_means_the_same_for_ever():
    """Class images, runs and tests depend on it; a change of numbers belongs into the changelog."""
    assert key(0, "row", 1, 2) == key("0", "row", "1", "2") == 6650712131432297336


@given(st.integers(1, 12), st.integers(0, 5))
def test_every_item_is_shown_once_in_each_epoch(num_items, epochs):
    order = endless_order(num_items, epochs * num_items, 2 * num_items, 7, "photos")
    assert sorted(order[:num_items]) == sorted(order[num_items:]) == list(range(num_items))


@given(st.integers(1, 9), st.integers(0, 40), st.integers(1, 30), st.integers(1, 29))
def test_the_order_does_not_depend_on_where_one_starts_to_look(num_items, start, count, cut):
    whole = endless_order(num_items, start, count, 1)
    cut = min(cut, count)
    assert endless_order(num_items, start, cut, 1) + endless_order(num_items, start + cut, count - cut, 1) == whole


def test_epochs_are_shuffled_anew():
    assert endless_order(8, 0, 8, 1) != endless_order(8, 8, 8, 1)
