"""The keys by which the rows of the shipped plans are found: code may move as it likes, and they stay."""

import hashlib

from dreambooth.bench import expand
from dreambooth.bench.config import BenchConfig
from dreambooth.bench.datasets import open_dataset
from dreambooth.bench.job import Job
from dreambooth.bench.plan import plans, read_plan

DIGEST = "a3d26d5bf56a76f3f9c317df0825fcb8047688ea5923a86f817533aba49bb2f6"
EXAMINED = {"num_prompts": 8, "num_images": 2, "class_samples": 16}
"""As the Makefile asks for the tables that are in the tree."""


def jobs(tmp_path):
    """Every arm of every shipped plan on one subject, as the Makefile asks for them."""
    dataset = open_dataset(None, tmp_path / "photos")
    for name in plans():
        config = BenchConfig.parse({"plan": name, "num_subjects": 1, "output_dir": str(tmp_path), **EXAMINED})
        for job in expand.expand(expand.Request(read_plan(name), config, dataset)):
            assert isinstance(job, Job)
            yield job


def test_the_keys_of_all_shipped_plans_are_those_of_before(tmp_path, monkeypatch):
    """A plan, a recipe or a default that changes on purpose changes this digest; nothing else may.

    Other bytes of photos or weights are other keys by right, so they are left out here. None of the rows in the tree can stand for it:
    all were made with weights of the toybox that are gone.
    """
    monkeypatch.setattr(expand, "photos_digest", lambda folder, count: f"the photos, {count}")
    monkeypatch.setattr(expand, "weights_digest", lambda model, encoders: "the weights")
    keys = {job.key for job in jobs(tmp_path)}
    assert len(keys) == 42
    assert hashlib.sha256("\n".join(sorted(keys)).encode()).hexdigest() == DIGEST
