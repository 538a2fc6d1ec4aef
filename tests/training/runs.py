"""Small runs for the tests of training. As a module it trains in a process of its own, to be killed."""

import filecmp
import sys
from pathlib import Path

from dreambooth.run.train import train
from dreambooth.setup.config import TrainConfig
from dreambooth.setup.given import train_config
from tests import tiny

SETTINGS = {
    "instance_prompt": "a sks dog", "identifier": "sks", "class_prompt": "a dog", "with_prior_preservation": True, "num_class_images": 3,
    "prior_inference_steps": 2, "resolution": 16, "center_crop": True, "train_batch_size": 2, "learning_rate": 1e-3, "seed": 1,
    "checkpointing_steps": 100, "skip_final_inference": True, "log_interval": 2,
}  # fmt: skip


def config(model: Path, *, root: Path, photo_size: tuple[int, int] = (24, 24), **settings) -> TrainConfig:
    """A configuration on four photos with prior preservation; `settings` win."""
    folder = tiny.photos(root / f"photos-{photo_size[0]}", size=photo_size)
    given = {**SETTINGS, "pretrained_model_name_or_path": str(model), "instance_data_dir": str(folder), **settings}
    return train_config(**given)


def weights(run: Path) -> dict[str, Path]:
    """The result's weight files (no checkpoints), by their place in the run."""
    found = {str(path.relative_to(run)): path for path in sorted(run.rglob("*.safetensors"))}
    return {name: path for name, path in found.items() if not name.startswith("checkpoint-")}


def same_files(left: dict[str, Path], right: dict[str, Path]) -> None:
    """Both hold the same files, byte for byte."""
    assert left and left.keys() == right.keys()
    different = [name for name in left if not filecmp.cmp(left[name], right[name], shallow=False)]
    assert not different, different


if __name__ == "__main__":
    model, root, output = map(Path, sys.argv[1:])
    for _ in train(config(model, root=root, output_dir=output, checkpointing_steps=5, max_train_steps=40)):
        pass
