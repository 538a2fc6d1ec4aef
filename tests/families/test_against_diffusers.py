"""Prompts are embedded as diffusers' pipelines do it, and the loss is that of diffusers' training scripts, written here anew."""

import pytest
import torch
from diffusers import DDPMScheduler, FlowMatchEulerDiscreteScheduler
from torch.nn.functional import mse_loss

from dreambooth.core.errors import SettingError
from dreambooth.core.loss import squared_error
from dreambooth.core.noise import draw_timestep
from tests import tiny

PROMPTS = ["a sks dog", "a photo of a cat on the beach"]
U = torch.tensor([0.031, 0.74])


def numbers(count: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    x, eps = torch.randn(2, count, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    return x, eps


def our_loss(family, x, eps, t, condition) -> torch.Tensor:
    process = family.process
    pred = family.answer(process.noise(x, eps, t), process.times[t], condition)
    return squared_error(pred, process.target(x, eps, t)).mean()


def test_stable_diffusion_embeds_prompts_as_its_pipeline(pipelines):
    family = tiny.load(pipelines("stable_diffusion"))
    theirs, _ = family.pipe.encode_prompt(PROMPTS, "cpu", 1, False)
    assert torch.equal(family.embed(family.tokenize(PROMPTS))["text"], theirs)


def test_sdxl_embeds_prompts_as_its_pipeline(pipelines):
    family = tiny.load(pipelines("sdxl"))
    text, _, pooled, _ = family.pipe.encode_prompt(PROMPTS, device="cpu", num_images_per_prompt=1, do_classifier_free_guidance=False)
    ours = family.embed(family.tokenize(PROMPTS))
    assert torch.equal(ours["text"], text)
    assert torch.equal(ours["pooled"], pooled)


@pytest.mark.parametrize("length", [None, 12, 512])
def test_flux_embeds_prompts_as_its_pipeline(pipelines, length):
    family = tiny.load(pipelines("flux"))
    if length == 512:
        family.tokenizers[1].model_max_length = 512
    family.configure_tokenizers(max_length=length if length != 512 else None)
    theirs, pooled, text_ids = family.pipe.encode_prompt(PROMPTS, None, device="cpu", max_sequence_length=family.text_length(2))
    ours = family.embed(family.tokenize(PROMPTS))
    assert torch.equal(ours["text"], theirs)
    torch.testing.assert_close(ours["pooled"], pooled, rtol=0, atol=1e-6)
    assert not text_ids.any()


def test_the_attention_mask_reaches_the_text_encoder_when_asked_for(pipelines):
    family = tiny.load(pipelines("stable_diffusion"))
    tokens = family.tokenize(PROMPTS)
    plain = family.embed(tokens)["text"]
    family.configure_tokenizers(max_length=None, use_attention_mask=True)
    masked = family.embed(tokens)["text"]
    theirs, _ = family.pipe.encode_prompt(PROMPTS, "cpu", 1, do_classifier_free_guidance=False)
    assert torch.equal(masked, theirs), "and pictures are drawn from the same"
    assert not torch.allclose(plain, masked)


def test_a_shorter_text_is_read_in_training_as_in_pictures(pipelines):
    family = tiny.load(pipelines("stable_diffusion"))
    family.configure_tokenizers(max_length=12)
    theirs, _ = family.pipe.encode_prompt(PROMPTS, "cpu", 1, do_classifier_free_guidance=False)
    assert theirs.shape[1] == 12 and torch.equal(family.embed(family.tokenize(PROMPTS))["text"], theirs)


@pytest.mark.parametrize("name", ["sdxl", "flux"])
def test_a_mask_that_a_pipeline_would_not_use_is_refused(pipelines, name):
    with pytest.raises(SettingError, match="--text_encoder_use_attention_mask"):
        tiny.load(pipelines(name)).configure_tokenizers(max_length=None, use_attention_mask=True)


@pytest.mark.parametrize("kind", ["stable_diffusion", "v_prediction"])
def test_the_loss_of_stable_diffusion_is_that_of_diffusers(pipelines, kind):
    family = tiny.load(pipelines(kind))
    scheduler = DDPMScheduler.from_pretrained(pipelines(kind), subfolder="scheduler")
    (x, eps), t = numbers(), draw_timestep(family.process, U)
    ids = family.pipe.tokenizer(PROMPTS, padding="max_length", max_length=77, truncation=True, return_tensors="pt").input_ids
    text = family.pipe.text_encoder(ids)[0]
    target = eps if kind == "stable_diffusion" else scheduler.get_velocity(x, eps, t)
    theirs = mse_loss(family.pipe.unet(scheduler.add_noise(x, eps, t), t, text).sample, target)
    torch.testing.assert_close(our_loss(family, x, eps, t, family.embed(family.tokenize(PROMPTS))), theirs, rtol=1e-6, atol=0)


def test_the_loss_of_sdxl_is_that_of_diffusers(pipelines):
    family = tiny.load(pipelines("sdxl"))
    scheduler = DDPMScheduler.from_pretrained(pipelines("sdxl"), subfolder="scheduler")
    (x, eps), t = numbers(), draw_timestep(family.process, U)
    text, _, pooled, _ = family.pipe.encode_prompt(PROMPTS, device="cpu", do_classifier_free_guidance=False)
    time_ids = torch.tensor([[48, 32, 8, 0, 16, 16], [16, 16, 0, 0, 16, 16]])
    output = {"text_embeds": pooled, "time_ids": time_ids}
    theirs = mse_loss(family.pipe.unet(scheduler.add_noise(x, eps, t), t, text, added_cond_kwargs=output).sample, eps)
    geometry = [family.geometry((48, 32), (8, 0), (16, 16)), family.geometry((16, 16), (0, 0), (16, 16))]
    condition = family.embed(family.tokenize(PROMPTS)) | {"time_ids": torch.cat([one["time_ids"] for one in geometry])}
    torch.testing.assert_close(our_loss(family, x, eps, t, condition), theirs, rtol=1e-6, atol=0)


def test_sdxl_is_conditioned_on_sizes_and_crops_in_the_order_of_its_pipeline(pipelines):
    family = tiny.load(pipelines("sdxl"))
    theirs = family.pipe._get_add_time_ids((48, 32), (8, 4), (16, 24), dtype=torch.float32, text_encoder_projection_dim=32)
    ours = family.geometry((48, 32), (8, 4), (16, 24))["time_ids"]
    assert ours.dtype == torch.float32
    assert torch.equal(ours, theirs)
    assert ours.tolist() == [[48, 32, 8, 4, 16, 24]]


def packed(latents: torch.Tensor) -> torch.Tensor:
    """2 x 2 latents a token, channels first: [b, c, 2h, 2w] to [b, h w, 4c]."""
    b, c, h, w = latents.shape
    return latents.reshape(b, c, h // 2, 2, w // 2, 2).permute(0, 2, 4, 1, 3, 5).reshape(b, h * w // 4, c * 4)


@pytest.mark.parametrize(
    "shift", [{"use_dynamic_shifting": True}, {"shift": 3.0, "use_dynamic_shifting": False}], ids=["dynamic", "static"]
)
@pytest.mark.parametrize("guided", [True, False], ids=["dev", "schnell"])
def test_the_loss_of_flux_is_that_of_diffusers(tmp_path, guided, shift):
    pipe = tiny.flux(guided)
    pipe.scheduler = FlowMatchEulerDiscreteScheduler(**shift)
    pipe.save_pretrained(tmp_path)
    family = tiny.load(tmp_path)
    family.embedded_guidance = 2.0
    (x, eps), t = numbers(), draw_timestep(family.process, U)
    x, eps = x[:, :, :, :6], eps[:, :, :, :6]
    scheduler = FlowMatchEulerDiscreteScheduler.from_pretrained(tmp_path, subfolder="scheduler")
    times = scheduler.timesteps[(U * 1000).long()]
    sigma = scheduler.sigmas[(U * 1000).long()].view(-1, 1, 1, 1)
    text, pooled, text_ids = family.pipe.encode_prompt(PROMPTS, None, device="cpu", max_sequence_length=32)
    ids = torch.tensor([[0.0, row, column] for row in range(4) for column in range(3)])
    answer = family.denoiser(
        hidden_states=packed((1 - sigma) * x + sigma * eps), timestep=times / 1000, guidance=torch.full((2,), 2.0) if guided else None,
        pooled_projections=pooled, encoder_hidden_states=text, txt_ids=text_ids, img_ids=ids,
    ).sample  # fmt: skip
    theirs = mse_loss(answer, packed(eps - x))
    condition = family.embed(family.tokenize(PROMPTS))
    torch.testing.assert_close(our_loss(family, x, eps, t, condition), theirs, rtol=1e-5, atol=0)


def test_flux_is_conditioned_on_the_guidance_it_is_trained_with(pipelines):
    family = tiny.load(pipelines("flux"))
    (x, _), condition = numbers(), family.embed(family.tokenize(PROMPTS))
    answers = []
    for guidance in (1.0, 3.5):
        family.embedded_guidance = guidance
        answers.append(family.predict(x, torch.tensor([100.0, 900.0]), condition))
    assert not torch.allclose(*answers)
