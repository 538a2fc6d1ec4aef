"""Nested mappings of plain values: a leaf by its path, and one tree over another."""

from collections.abc import Mapping
from typing import Any


def place(tree: dict[str, Any], path: tuple[str, ...], value: Any) -> None:
    """Put a value into a nested dictionary, making the branches on the way."""
    for branch in path[:-1]:
        tree = tree.setdefault(branch, {})
    tree[path[-1]] = value


def at(tree: Any, path: tuple[str, ...], default: Any = None) -> Any:
    """The leaf of a nested dictionary; `default` where it is not there."""
    for step in path:
        if not isinstance(tree, Mapping) or step not in tree:
            return default
        tree = tree[step]
    return tree


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Nested mappings, the second winning; another kind in a branch empties it first. A text in a branch's place is its kind."""
    out = dict(base)
    for name, value in over.items():
        old = {"kind": out[name]} if isinstance(out.get(name), str) and isinstance(value, Mapping) else out.get(name)
        if isinstance(value, Mapping) and isinstance(old, Mapping):
            out[name] = dict(value) if value.get("kind", old.get("kind")) != old.get("kind") else merged(old, value)
        else:
            out[name] = value
    return out
