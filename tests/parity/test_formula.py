"""At fixed latents, noise and times, our loss and gradients are those of the script's formula, written anew from diffusers' parts."""

import pytest
import torch
from diffusers import DDPMScheduler, UNet2DConditionModel
from diffusers.training_utils import compute_snr
from torch.nn.functional import mse_loss
from transformers import CLIPTextModel, CLIPTokenizer

from dreambooth.core.batch import Batch, picture_weights
from dreambooth.core.loss import dreambooth_loss
from dreambooth.families import ModelSource, StableDiffusion
from dreambooth.training.objective import Objective
from dreambooth.training.step import forward_backward

PROMPTS = ["photo of sks dog"] * 2 + ["photo of dog"] * 2
each_prediction = pytest.mark.parametrize("model", ["stable_diffusion", "v_prediction"])


def rows() -> dict[str, torch.Tensor]:
    """Two photos and two class images, with everything that is drawn for them."""
    rng = torch.Generator().manual_seed(5)
    x, eps = (torch.randn(4, 4, 8, 8, generator=rng) for _ in range(2))
    return {"x": x, "eps": eps, "t": torch.tensor([7, 400, 999, 123])}


def theirs(folder, *, prior_loss_weight: float | None, snr_gamma: float | None = None) -> tuple[float, dict[str, torch.Tensor]]:
    """Loss and gradients as the script has them: one forward pass, cut in two, a mean of each half."""
    unet = UNet2DConditionModel.from_pretrained(folder, subfolder="unet")
    scheduler = DDPMScheduler.from_pretrained(folder, subfolder="scheduler")
    tokens = CLIPTokenizer.from_pretrained(folder, subfolder="tokenizer")(PROMPTS, padding="max_length", return_tensors="pt").input_ids
    with torch.no_grad():
        text = CLIPTextModel.from_pretrained(folder, subfolder="text_encoder", dtype=torch.float32)(tokens)[0]
    drawn = rows() if prior_loss_weight is not None else {name: value[:2] for name, value in rows().items()}
    x, eps, t = drawn["x"], drawn["eps"], drawn["t"]
    pred = unet(scheduler.add_noise(x, eps, t), t, text[: len(x)])[0]
    target = eps if scheduler.config.prediction_type == "epsilon" else scheduler.get_velocity(x, eps, t)
    if prior_loss_weight is not None:
        loss = mse_loss(pred[:2], target[:2]) + prior_loss_weight * mse_loss(pred[2:], target[2:])
    else:
        snr = compute_snr(scheduler, t)
        over = snr + 1 if scheduler.config.prediction_type == "v_prediction" else snr
        weight = snr.clamp(max=snr_gamma) / over if snr_gamma else torch.ones(2)
        loss = ((pred - target).square().mean(dim=(1, 2, 3)) * weight).mean()
    loss.backward()
    return loss.item(), {name: p.grad for name, p in unet.named_parameters() if p.grad is not None}


def ours(folder, objective: Objective, *, num_prior: int, pieces: int = 1) -> tuple[float, dict[str, torch.Tensor]]:
    """The same by `forward_backward`."""
    family = StableDiffusion.load(ModelSource(pretrained_model_name_or_path=str(folder)))
    family.denoiser.requires_grad_(True)
    with torch.no_grad():
        condition = family.embed(family.tokenize(PROMPTS))
    whole = Batch(**rows(), condition=condition, photo=torch.arange(4), weight=torch.zeros(4)).rows(0, 2 + num_prior)
    batch = Batch(**{**whole.__dict__, "weight": torch.tensor(picture_weights(2, num_prior, objective.prior_loss_weight))})
    error = forward_backward(family, batch, process=family.process, objective=objective, pieces=pieces)
    loss = dreambooth_loss(error * objective.weight(family.process, batch.t), batch.weight)
    return loss.item(), {name: p.grad for name, p in family.denoiser.named_parameters() if p.grad is not None}


def assert_same(one, other) -> None:
    assert one[0] == pytest.approx(other[0], rel=1e-6)
    assert one[1].keys() == other[1].keys()
    for name, gradient in one[1].items():
        torch.testing.assert_close(gradient, other[1][name], rtol=1e-4, atol=1e-6)


@each_prediction
@pytest.mark.parametrize("pieces", [1, 2, 4])
@pytest.mark.parametrize("weight", [1.0, 0.3])
def test_loss_with_prior_preservation(pipelines, model, weight, pieces):
    folder = pipelines(model)
    assert_same(ours(folder, Objective(prior_loss_weight=weight), num_prior=2, pieces=pieces), theirs(folder, prior_loss_weight=weight))


@each_prediction
@pytest.mark.parametrize("gamma", [None, 5.0])
def test_loss_of_photos_alone(pipelines, model, gamma):
    folder = pipelines(model)
    assert_same(ours(folder, Objective(snr_gamma=gamma), num_prior=0), theirs(folder, prior_loss_weight=None, snr_gamma=gamma))
