"""Settings for values left out, by method: what families share of them."""

from collections.abc import Mapping
from typing import Any

Recipe = Mapping[str, Mapping[str, Any]]

INVERSION = {
    "learning_rate": 5e-4, "scale_lr": True, "train_batch_size": 1, "gradient_accumulation_steps": 4, "max_train_steps": 3000,
    "lr_warmup_steps": 0,
}  # fmt: skip
"""A family's recipe for Textual Inversion, that of diffusers' README. The original's is base rate 5e-3, 2 photos, 6,100 steps."""

CUSTOM = {
    "learning_rate": 2e-5, "scale_lr": True, "train_batch_size": 2, "max_train_steps": 500, "num_class_images": 200, "random_flip": True,
    "lr_warmup_steps": 0,
}  # fmt: skip
"""A family's recipe for Custom Diffusion, its authors' on one GPU (without their enlarged and shrunk photos): their 1e-5, which their
script doubles where class images are shown."""


def rates(full: float, lora: Mapping[str, Any] | None = None, **shared: Any) -> Recipe:
    """The rate and rank of the methods that change weights, of whole ones `full`, LoRA's where it is another; beside them what all share.

    OFT has its authors' rate. Those of LoHa and LoKr are LoRA's, and untested.
    """
    own = {
        "full": {"learning_rate": full}, "lora": lora or {"learning_rate": 1e-4, "rank": 16}, "loha": {"learning_rate": 1e-4, "rank": 8},
        "lokr": {"learning_rate": 1e-4, "rank": 8}, "oft": {"learning_rate": 6e-5},
    }  # fmt: skip
    return {method: {**rate, **shared} for method, rate in own.items()}
