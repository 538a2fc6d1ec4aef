"""What of a run stands in the header of a file that travels."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dreambooth.files.packaged import TOYBOX
from dreambooth.formats.base import Facts
from dreambooth.prompts.placeholder import PLACEHOLDER
from dreambooth.schema import flags, get
from dreambooth.setup.config import TrainConfig

NOTES = {
    "ss_learning_rate": "learning_rate", "ss_lr_scheduler": "lr_scheduler", "ss_optimizer": "optimizer", "ss_seed": "seed",
    "ss_mixed_precision": "mixed_precision", "ss_prior_loss_weight": "prior_loss_weight", "ss_resolution": "resolution",
}  # fmt: skip
"""Settings that kohya's headers have a name for."""


def method_of(config: TrainConfig | None) -> str:
    """The method as formats know it: DoRA apart from LoRA, a plain pipeline as one whose whole weights have learned."""
    if config is None:
        return "full"
    return "dora" if getattr(config.method, "use_dora", False) else config.method.kind


def facts_of(config: TrainConfig, record: Mapping[str, Any]) -> Facts:
    """By a run's configuration and record; no path, no host, no photo's name, and no clock."""
    tree, base = flags(type(config)), config.model.pretrained_model_name_or_path
    values = {note: get(config, tree[name].path) for note, name in NOTES.items() if name in tree}
    counts = {
        "ss_num_train_images": len(record.get("photos", ())), "ss_steps": record.get("result_step", record.get("step")),
        "ss_num_reg_images": sum(int(one.get("count", 0)) for one in record.get("class_images", ())),
    }  # fmt: skip
    trigger = min(record.get("instance_prompts") or [config.photos.identifier or "a photo"], key=len)
    word = config.photos.identifier
    is_here = base == TOYBOX or Path(base).expanduser().exists()
    digest = (record.get("base_model") or {}).get("sha256")
    return Facts(
        method_of(config), trigger, base=None if is_here else base, base_digest=digest, identifier=word,
        subject=trigger.replace(word, PLACEHOLDER) if word else trigger, notes={**values, **counts},
    )  # fmt: skip
