"""Muon: momentum whose matrices are made orthogonal before they are applied (Jordan et al. 2024).

For the matrices inside a network, a convolution's kernel read as [out, in * h * w]; embeddings, first and last layers, norms and biases
stay with AdamW. The step has AdamW's usual length (Liu et al. 2025: 0.2 per weight in the mean square), so that one rate serves both.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the quintic that pushes singular values from 0..1 to about 1 in few rounds."""
ROUNDS = 5


def orthogonal(matrices: Tensor) -> Tensor:
    """Matrices [n, h, w] with their singular values near 1 (0.7 to 1.2), by Newton and Schulz' iteration in bf16."""
    a, b, c = COEFFICIENTS
    x = matrices.bfloat16()
    tall = x.shape[-2] > x.shape[-1]
    x = x.mT if tall else x
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(ROUNDS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


class Muon(torch.optim.Optimizer):
    """Nesterov momentum made orthogonal, with decoupled weight decay."""

    def __init__(self, params: Iterable[Tensor] | Iterable[dict], lr: float, momentum: float = 0.95, weight_decay: float = 0.01):
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})  # type: ignore[arg-type]

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One update of every weight that has a gradient; matrices of one shape are made orthogonal together: fewer, larger products."""
        for group in self.param_groups:
            alike: dict[torch.Size, list[Tensor]] = {}
            for p in group["params"]:
                if p.grad is not None:
                    alike.setdefault(p.flatten(1).shape, []).append(p)
            for shape, weights in alike.items():
                flat = torch.stack([self.nesterov(p, group["momentum"]).flatten(1) for p in weights])
                updates = orthogonal(flat).float() * (0.2 * max(shape) ** 0.5)
                torch._foreach_mul_(weights, 1 - group["lr"] * group["weight_decay"])
                for p, update in zip(weights, updates, strict=True):
                    p.add_(update.view(p.shape), alpha=-group["lr"])

    def nesterov(self, p: Tensor, momentum: float) -> Tensor:
        """The gradient a step ahead along the momentum, which this moves on."""
        state = self.state[p]
        if not state:
            state["momentum"] = torch.zeros_like(p)
        assert p.grad is not None
        return p.grad.lerp(state["momentum"].lerp_(p.grad, 1 - momentum), momentum)


def matrices(module: nn.Module, *, outer: tuple[str, ...] = ()) -> set[Tensor]:
    """The weights that Muon suits: two dimensions or more, no embedding, and no name that begins with one of `outer`."""
    embeddings = {m.weight for m in module.modules() if isinstance(m, nn.Embedding)}
    named = module.named_parameters()
    return {p for name, p in named if p.ndim >= 2 and min(p.flatten(1).shape) > 1 and p not in embeddings and not name.startswith(outer)}
