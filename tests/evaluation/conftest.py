"""A finished run on a tiny pipeline, and encoders of the real architectures, made once a session."""

import os

import pytest

from dreambooth.metrics.perceptual import convert_lpips
from dreambooth.run.train import train
from tests.metrics import encoders
from tests.training.runs import config


@pytest.fixture(scope="session")
def encoder_flags(tmp_path_factory):
    """Folders of tiny encoders, as `evaluate` takes them."""
    root = tmp_path_factory.mktemp("encoders")
    convert_lpips(*encoders.lpips_states(), root / "lpips", size=64)
    folders = {"dino": encoders.dino_folder(root / "dino"), "clip": encoders.clip_folder(root / "clip"), "lpips": root / "lpips"}
    return {f"{name}_encoder": str(folder) for name, folder in folders.items()}


@pytest.fixture(scope="session")
def trained(pipelines, tmp_path_factory):
    """A run by method, with a checkpoint: `trained("lora")`."""
    root = tmp_path_factory.mktemp("runs")
    os.environ["DREAMBOOTH_CACHE"] = str(root / "cache")

    def run(method: str):
        folder = root / method
        if not folder.exists():
            wanted = config(
                pipelines("stable_diffusion"), root=root, method=method, max_train_steps=2, checkpointing_steps=1, output_dir=folder,
                validation_inference_steps=2, class_noun="dog", learning_rate=1e-2,
            )  # fmt: skip
            for _ in train(wanted):
                pass
        return folder

    return run
