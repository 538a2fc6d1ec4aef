"""An anchor at the initial weights, in place of class images: loss + strength * sum over tensors of mean((theta - theta_0)^2).

From Preserve and Personalize (ICLR 2026), whose strength is 500 for a whole UNet. The term's gradient is known, so it is added to the
gradients as they stand before a step; no second forward pass, no class images, one more copy of what learns.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Anchor:
    """The weights as they are now, and a pull towards them."""

    def __init__(self, parameters: Sequence[nn.Parameter], strength: float):
        self.parameters, self.strength = list(parameters), strength
        self.start = [parameter.detach().clone() for parameter in self.parameters]

    @torch.no_grad()
    def pull(self, scale: Tensor | float = 1.0) -> None:
        """Add the term's gradient, 2 strength (theta - theta_0) / size; `scale` is what the loss was multiplied by."""
        for parameter, start in zip(self.parameters, self.start, strict=True):
            drift = (parameter - start) * (2 * self.strength / parameter.numel()) * scale
            parameter.grad = drift if parameter.grad is None else parameter.grad.add_(drift)
