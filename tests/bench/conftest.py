"""A small dataset on a tiny pipeline, and a bench on it."""

import shutil

import pytest

from dreambooth.bench.config import BenchConfig
from dreambooth.bench.datasets import open_dataset
from dreambooth.bench.expand import Request
from dreambooth.bench.plan import parse_plan
from dreambooth.bench.run import bench
from tests import tiny
from tests.evaluation.conftest import encoder_flags

__all__ = ["encoder_flags"]

FEW = {"num_prompts": 2, "num_images": 2, "class_samples": 2}
SMALL = {
    "max_train_steps": 2, "num_class_images": 2, "prior_inference_steps": 2, "resolution": 16, "train_batch_size": 2, "identifier": "sks",
    "validation_inference_steps": 2,
}  # fmt: skip
ARMS = {
    "with": {"settings": {"with_prior_preservation": True}},
    "without": {"settings": {"with_prior_preservation": False}},
    "described": {"model": "described"},
}


@pytest.fixture
def dataset(tmp_path):
    """Two subjects with four photos each; one of them is described."""
    root = tmp_path / "dataset"
    for name in ("dog7", "toy1"):
        tiny.photos(root / name)
    (root / "subjects.csv").write_text("subject_name,class,live,description\ndog7,dog,1,red dog\ntoy1,toy,0,\n")
    return root


@pytest.fixture
def ask(dataset, pipelines, encoder_flags, tmp_path):
    """A function that makes a request: arms, then settings of the bench and of training by name."""

    def request(arms=ARMS, *, root=None, training=(), plan=(), **settings) -> Request:
        config = BenchConfig.parse({"plan": "p", "output_dir": str(tmp_path / "out"), **FEW, **settings})
        tree = {"name": "p", "title": "A plan", "arms": arms, **dict(plan)}
        given = {"pretrained_model_name_or_path": str(pipelines("stable_diffusion")), **encoder_flags, **SMALL, **dict(training)}
        own = {name: value for name, value in given.items() if value is not None}
        return Request(parse_plan(tree, "p"), config, open_dataset(str(root or dataset), tmp_path), own)

    return request


@pytest.fixture(scope="session")
def finished(tmp_path_factory, pipelines, encoder_flags):
    """A folder on which the small bench has run once, to be copied; with its records."""
    root = tmp_path_factory.mktemp("finished")
    for name in ("dog7", "toy1"):
        tiny.photos(root / "dataset" / name)
    (root / "dataset" / "subjects.csv").write_text("subject_name,class,live,description\ndog7,dog,1,red dog\ntoy1,toy,0,\n")
    config = BenchConfig.parse({"plan": "p", "output_dir": str(root / "out"), **FEW})
    training = {"pretrained_model_name_or_path": str(pipelines("stable_diffusion")), **encoder_flags, **SMALL}
    plan = parse_plan({"name": "p", "title": "A plan", "arms": ARMS}, "p")
    records = list(bench(Request(plan, config, open_dataset(str(root / "dataset"), root), training)))
    return root / "out", records


@pytest.fixture
def copied(finished, tmp_path):
    """The finished bench in a folder of its own."""
    shutil.copytree(finished[0], tmp_path / "out")
    return tmp_path / "out"
