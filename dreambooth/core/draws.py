"""Randomness as a function: every draw belongs to a key such as (seed, update, row), never to a rank, a piece or a moment.

So any step can be taken again alone, a resumed run draws what the uninterrupted one drew, and the number of processes changes
nothing. Draws are made on the CPU and moved, so that a seed means the same on every device.
"""

import hashlib

import torch


def key(*parts: int | str) -> int:
    """A 63-bit seed for a tuple of words and numbers."""
    digest = hashlib.blake2b("\x1f".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def generator(*parts: int | str) -> torch.Generator:
    """A fresh CPU generator for a key."""
    return torch.Generator().manual_seed(key(*parts))


def endless_order(num_items: int, start: int, count: int, *parts: int | str) -> list[int]:
    """Items `start ... start + count` of an endless stream which shows every item once per epoch, shuffled anew in each.

    A function of its arguments: there is no sampler state to save.
    """
    order: list[int] = []
    epoch, offset = divmod(start, num_items)
    while len(order) < count:
        shuffled = torch.randperm(num_items, generator=generator(*parts, "epoch", epoch)).tolist()
        order += shuffled[offset : offset + count - len(order)]
        epoch, offset = epoch + 1, 0
    return order
