"""The examples run as they stand in the repository, and say what the package says."""

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image

from dreambooth.core.noise import NoiseSchedule
from dreambooth.files.packaged import toybox
from dreambooth.training.objective import Objective
from dreambooth.training.step import forward_backward
from examples import bare
from tests import tiny


@pytest.fixture(scope="module")
def trained(tmp_path_factory, pipelines):
    """The folder that the bare example leaves after a few updates of a tiny pipeline."""
    folder = tmp_path_factory.mktemp("bare")
    tiny.photos(folder / "photos")
    bare.main(str(pipelines("stable_diffusion")), str(folder / "photos"), "dog", str(folder / "out"), steps=3, class_images=2, rate=1e-3)
    return folder / "out"


def test_the_bare_example_leaves_a_pipeline_that_has_learned_and_a_picture(trained, pipelines):
    before = StableDiffusionPipeline.from_pretrained(pipelines("stable_diffusion"))
    after = StableDiffusionPipeline.from_pretrained(trained)
    for part in ("unet", "text_encoder"):
        old, new = (getattr(pipe, part).state_dict() for pipe in (before, after))
        assert any(not torch.equal(old[name], new[name]) for name in old), part
    assert all(torch.equal(value, after.vae.state_dict()[name]) for name, value in before.vae.state_dict().items())
    with Image.open(trained / "beach.png") as image:
        assert np.asarray(image).std() > 0


def test_the_toybox_learns_by_it_too(tmp_path, capsys):
    tiny.photos(tmp_path / "photos", size=(128, 128))
    bare.main(str(toybox()), str(tmp_path / "photos"), "dog", str(tmp_path / "out"), steps=2, class_images=1)
    losses = [float(line.split()[-1]) for line in capsys.readouterr().out.splitlines() if line[:1].isdigit()]
    assert len(losses) == 2 and all(0 < loss < 10 for loss in losses)


@pytest.mark.parametrize("kind", ["stable_diffusion", "v_prediction"])
def test_its_gradients_are_those_of_the_packages_own_step(pipelines, kind):
    family = tiny.load(pipelines(kind))
    pipe, rng = family.pipe, torch.Generator().manual_seed(0)
    process = NoiseSchedule.from_betas(pipe.scheduler.config)
    whole = {"padding": "max_length", "max_length": pipe.tokenizer.model_max_length, "return_tensors": "pt"}
    ids = pipe.tokenizer(["a sks dog", "a dog"], **whole).input_ids
    photos, prior = torch.randn(4, 4, 8, 8, generator=rng), torch.randn(3, 4, 8, 8, generator=rng)
    batch = next(iter(bare.batches(photos, prior, ids[0], ids[1], process, 1)))
    for part in (pipe.unet, pipe.text_encoder):
        part.requires_grad_(True)
    learned = [*pipe.unet.parameters(), *pipe.text_encoder.parameters()]
    own = torch.autograd.grad(bare.eq2(pipe, process, batch), learned, allow_unused=True)
    condition = {"input_ids": batch.condition["input_ids"], "attention_mask": torch.ones_like(batch.condition["input_ids"])}
    forward_backward(
        family, type(batch)(batch.x, batch.eps, batch.t, batch.weight, condition, batch.photo), process=process, objective=Objective()
    )
    for mine, parameter in zip(own, learned, strict=True):
        assert (mine is None) == (parameter.grad is None)
        if mine is not None:
            torch.testing.assert_close(mine, parameter.grad)
    assert process.prediction == ("epsilon" if kind == "stable_diffusion" else kind)
