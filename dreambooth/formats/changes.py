"""What a file does to the weight of one layer, in the ways that programs write it: each kind is one formula, W -> W'.

LoRA (and LoCon, its form for convolutions): B A (Hu et al. 2022); LoHa: (B1 A1) * (B2 A2) (Hyeon-Woo et al. 2022); LoKr: C x (B A)
(Yeh et al. 2024, section 3); OFT (Qiu et al. 2023) as LyCORIS and ComfyUI read it: R W, which turns outputs, and as PEFT does: W R^T, which
turns inputs; (IA)3: each input or output by a factor of its own (Liu et al. 2022); and the whole difference.
With DoRA's lengths: W' = m V / |V| with V = W + difference (Liu et al. 2024, Eq. 5).
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

Lengths = Literal["of the result", "of the untuned row"]
"""Which length DoRA divides by: that of V, as in the paper, or that of W, as ComfyUI does where lengths are over outputs."""


@dataclass(frozen=True)
class Change(ABC):
    """One layer's change, in float32; `alpha` counts over `rank` where there is one, and no alpha means factor 1."""

    alpha: float | None = field(default=None, kw_only=True)
    magnitude: Tensor | None = field(default=None, kw_only=True)
    """DoRA's lengths, as they come."""
    lengths: Lengths = field(default="of the result", kw_only=True)

    roles: ClassVar[tuple[str, ...]]
    """What its tensors are called behind the layer's name, in files of LyCORIS' kind."""

    @property
    def tensors(self) -> dict[str, Tensor]:
        """Its tensors by role."""
        own = (getattr(self, one.name) for one in fields(self) if not one.kw_only)
        return {role: value for role, value in zip(self.roles, own, strict=True) if value is not None}

    @property
    def rank(self) -> int | None:
        """What alpha counts over; None where it counts for nothing."""
        return None

    @abstractmethod
    def product(self, weight: Tensor) -> Tensor:
        """The difference at factor 1, beside a weight [out, ...], shaped like it; raises RuntimeError where they do not fit."""

    @property
    def factor(self) -> float:
        """What the product is multiplied by."""
        return 1.0 if self.alpha is None or self.rank is None else self.alpha / self.rank

    def difference(self, weight: Tensor) -> Tensor:
        """W' - W in float32, shaped like `weight` [out, in] or [out, in, k, k]; raises RuntimeError where they do not fit."""
        weight = weight.float()
        moved = self.product(weight) * self.factor
        return moved if self.magnitude is None else _decomposed(weight, moved, self.magnitude, self.lengths) - weight


def _decomposed(weight: Tensor, moved: Tensor, magnitude: Tensor, lengths: Lengths) -> Tensor:
    """m V / |V|, each row or, with lengths over inputs ([1, in]), each column of its own."""
    full = weight + moved
    if magnitude.numel() == len(weight) and (magnitude.ndim < 2 or magnitude.shape[0] == len(weight)):
        shape = (-1, *[1] * (weight.ndim - 1))
        norm = (full if lengths == "of the result" else weight).flatten(1).norm(dim=1)
        return full * (magnitude.flatten() / norm).view(shape)
    if magnitude.numel() != weight.shape[1]:
        raise RuntimeError(f"{list(magnitude.shape)} lengths for a weight of {list(weight.shape)}")
    norm = full.transpose(0, 1).flatten(1).norm(dim=1)
    return full * (magnitude.flatten() / norm).view(1, -1, *[1] * (weight.ndim - 2))


@dataclass(frozen=True)
class Pair(Change):
    """up @ down: down [r, in ...], up [out, r ...]."""

    down: Tensor
    up: Tensor
    roles = ("lora_down.weight", "lora_up.weight")

    @property
    def rank(self) -> int:
        return self.down.shape[0]

    def product(self, weight: Tensor) -> Tensor:
        return (self.up.flatten(1) @ self.down.flatten(1)).reshape(weight.shape)

    def scaled(self, factor: float) -> "Pair":
        """With the factor in `up`, and no alpha beside it."""
        return replace(self, up=self.up * factor, alpha=None)

    def rows(self, part: slice) -> "Pair":
        """What it does to some of the outputs, without the components that do nothing there."""
        up = self.up[part] * self.factor
        kept = (up.flatten(1) != 0).any(0).nonzero().flatten()
        kept = kept if len(kept) else torch.tensor([0])
        lengths = None if self.magnitude is None else self.magnitude.flatten()[part]
        return replace(self, up=up[:, kept], down=self.down[kept], alpha=None, magnitude=lengths)


@dataclass(frozen=True)
class LoHa(Change):
    """(w1_a @ w1_b) * (w2_a @ w2_b): [out, r] and [r, in k k] each; of convolutions also through t1 and t2 [r, r, k, k]."""

    w1_a: Tensor
    w1_b: Tensor
    w2_a: Tensor
    w2_b: Tensor
    t1: Tensor | None = None
    t2: Tensor | None = None
    roles = ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b", "hada_t1", "hada_t2")

    @property
    def rank(self) -> int:
        return self.w1_b.shape[0]

    def product(self, weight: Tensor) -> Tensor:
        first, second = _through(self.w1_a, self.w1_b, self.t1), _through(self.w2_a, self.w2_b, self.t2)
        return (first * second).reshape(weight.shape)


@dataclass(frozen=True)
class LoKr(Change):
    """w1 x w2, Kronecker's product, each whole or of two factors; alpha counts where one of the two has factors, and only there."""

    w1: Tensor | None
    w2: Tensor | None
    w1_a: Tensor | None = None
    w1_b: Tensor | None = None
    w2_a: Tensor | None = None
    w2_b: Tensor | None = None
    t2: Tensor | None = None
    roles = ("lokr_w1", "lokr_w2", "lokr_w1_a", "lokr_w1_b", "lokr_w2_a", "lokr_w2_b", "lokr_t2")

    @property
    def rank(self) -> int | None:
        factor = self.w2_b if self.w2_b is not None else self.w1_b
        return None if factor is None else factor.shape[0]

    def product(self, weight: Tensor) -> Tensor:
        first, second = _whole(self.w1, self.w1_a, self.w1_b, None), _whole(self.w2, self.w2_a, self.w2_b, self.t2)
        return torch.kron(first.view(*first.shape, *[1] * (second.ndim - first.ndim)), second).contiguous().reshape(weight.shape)

    def folded(self, factor: float) -> "LoKr":
        """With the factor in the first of its matrices, and no alpha beside it."""
        name = "w1" if self.w1 is not None else "w1_a"
        own = getattr(self, name)
        return replace(self, alpha=None, **{name: own * factor})


@dataclass(frozen=True)
class OutputRotation(Change):
    """R W with R block-diagonal and orthogonal, by Cayley: (1 + Q) / (1 - Q) of Q = B - B^T; alpha bounds the length of Q."""

    blocks: Tensor
    """[blocks, n, n]"""
    rescale: Tensor | None = None
    roles = ("oft_blocks", "rescale")

    def product(self, weight: Tensor) -> Tensor:
        q = self.blocks - self.blocks.transpose(1, 2)
        if self.alpha and q.norm() > self.alpha:
            q = q * (self.alpha / q.norm())
        one = torch.eye(q.shape[1], dtype=q.dtype)
        rotation = (one + q) @ torch.linalg.inv(one - q)
        rows = weight.flatten(1).view(len(q), q.shape[1], -1)
        turned = torch.einsum("knm,kni->kmi", rotation, rows).reshape(weight.shape)
        return (turned if self.rescale is None else turned * self.rescale.view(-1, *[1] * (weight.ndim - 1))) - weight


@dataclass(frozen=True)
class InputRotation(Change):
    """W R^T with R block-diagonal and orthogonal, by Cayley of skew Q: a row holds the upper triangle of each, [blocks, n (n - 1) / 2]."""

    triangles: Tensor
    settings: Mapping[str, Any] | None = field(default=None, kw_only=True)
    """How PEFT makes R of them: `use_cayley_neumann`, `block_share` ...; None where it is not known."""
    roles = ("oft_R.weight",)

    def product(self, weight: Tensor) -> Tensor:
        from peft.tuners.oft.layer import OFTRotationModule

        if self.settings is None or weight[0, 0].numel() > 1:  # PEFT turns a larger kernel's patches, and adds them up where they overlap
            raise RuntimeError("no layer for this rotation")
        (rows, elements), rows_of_weight = self.triangles.shape, weight.flatten(1)
        turn = OFTRotationModule(rows, elements, (1 + math.isqrt(1 + 8 * elements)) // 2, rows_of_weight.shape[1], **self.settings)
        turn.weight.data = self.triangles.clone()
        return (rows_of_weight @ turn.get_weight().detach().T).reshape(weight.shape) - weight


@dataclass(frozen=True)
class Factors(Change):
    """Inputs [1, in] or outputs [out, 1] of a linear layer multiplied by a factor each: (IA)3 of PEFT's. Of a bias [out], too."""

    values: Tensor
    roles = ("ia3_l",)

    @property
    def of_outputs(self) -> bool:
        """Whether a layer's bias is multiplied with its weight."""
        return self.values.numel() == self.values.shape[0]

    def product(self, weight: Tensor) -> Tensor:
        if self.values.ndim != weight.ndim or self.values.numel() not in self.values.shape[:2]:
            raise RuntimeError("factors of something else")
        return weight * (self.values - 1)


@dataclass(frozen=True)
class Whole(Change):
    """The difference itself, of a weight of any shape."""

    values: Tensor
    roles = ("diff",)

    def product(self, weight: Tensor) -> Tensor:
        return self.values.reshape(weight.shape)


def _through(a: Tensor, b: Tensor, middle: Tensor | None) -> Tensor:
    """a @ b, or of a convolution's two factors through the small kernel between them (Tucker's form)."""
    return a @ b if middle is None else torch.einsum("ijkl,jr,ip->prkl", middle, b, a)


def _whole(matrix: Tensor | None, a: Tensor | None, b: Tensor | None, middle: Tensor | None) -> Tensor:
    if matrix is not None:
        return matrix
    assert a is not None and b is not None, "`lora_files` sees to it"
    return _through(a, b, middle)


def of_roles(own: Mapping[str, Tensor], **options: object) -> Change | None:
    """The change that tensors by role are; None where a tensor is missing, or they are no kind that is known."""
    roles = set(own)
    if roles == set(Pair.roles):
        return Pair(own["lora_down.weight"], own["lora_up.weight"], **options)  # type: ignore[arg-type]
    if roles == {*Pair.roles, "lora_mid.weight"}:
        down = torch.einsum("ijkl,jr->irkl", own["lora_mid.weight"], own["lora_down.weight"].flatten(1))
        return Pair(down, own["lora_up.weight"], **options)  # type: ignore[arg-type]
    if roles in (set(LoHa.roles), set(LoHa.roles[:4])):
        return LoHa(*(own.get(role) for role in LoHa.roles), **options)  # type: ignore[arg-type]
    if roles and roles <= set(LoKr.roles) and _is_whole(roles, "lokr_w1") and _is_whole(roles - {"lokr_t2"}, "lokr_w2"):
        return LoKr(*(own.get(role) for role in LoKr.roles), **options)  # type: ignore[arg-type]
    if "oft_blocks" in roles and roles <= set(OutputRotation.roles) and own["oft_blocks"].ndim == 3:
        return OutputRotation(own["oft_blocks"], own.get("rescale"), **options)  # type: ignore[arg-type]
    if roles == set(InputRotation.roles) and own["oft_R.weight"].ndim == 2:
        return InputRotation(own["oft_R.weight"], **options)  # type: ignore[arg-type]
    if roles == set(Factors.roles):
        return Factors(own["ia3_l"], **options)  # type: ignore[arg-type]
    if roles == {"diff"}:
        return Whole(own["diff"], **options)  # type: ignore[arg-type]
    return None


def _is_whole(roles: set[str], name: str) -> bool:
    """Whether one of LoKr's two factors is there, as one matrix or as two."""
    return {role for role in roles if role.startswith(name)} in ({name}, {f"{name}_a", f"{name}_b"})
