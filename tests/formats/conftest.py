"""Runs of every kind, trained once for a few updates on pipelines of test size."""

from pathlib import Path

import pytest

from dreambooth.run.train import train
from tests import tiny
from tests.training.runs import config

SHAPED = {"sd_shaped": tiny.sd_shaped, "sdxl_shaped": tiny.sdxl_shaped}
"""With as many levels as the real ones, so that single files can be made of them."""


@pytest.fixture(scope="session")
def shaped(tmp_path_factory):
    """The folder of a pipeline with the real count of levels: `shaped("sdxl_shaped")`."""
    root = tmp_path_factory.mktemp("shaped")

    def folder(name: str) -> Path:
        path = root / name
        if not path.exists():
            (SHAPED.get(name) or (lambda: tiny.sd_shaped("v_prediction")))().save_pretrained(path)
        return path

    return folder


@pytest.fixture(scope="session")
def learned(pipelines, shaped, tmp_path_factory):
    """A run's folder: `learned("sdxl", method="lora", rank=2)`; all that can learn has moved far enough to be seen in a picture."""
    known: dict[tuple, Path] = {}

    def run(base: str, **settings) -> Path:
        key = (base, *sorted(settings.items()))
        if key not in known:
            root = tmp_path_factory.mktemp("run")
            model = pipelines(base) if base in tiny.PIPELINES else shaped(base)
            given = {
                "max_train_steps": 3, "learning_rate": 3e-2, "with_prior_preservation": False, "class_prompt": None, "seed": 2,
                "train_batch_size": 1, **settings,
            }  # fmt: skip
            for _ in train(config(model, root=root, output_dir=root / "my-dog", **given)):
                pass
            known[key] = root / "my-dog"
        return known[key]

    return run
