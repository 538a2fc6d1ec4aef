"""Pictures are a function of model, prompt, seed and settings, whatever stands beside them in a batch."""

import logging

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, FlowMatchEulerDiscreteScheduler
from PIL import Image

from dreambooth.core.errors import RunError, SettingError
from dreambooth.families.samplers import SHORT_NAMES, make_scheduler
from dreambooth.families.sampling import Picture, Sampling, check
from tests import tiny
from tests.tiny import draw

SAMPLING = Sampling(num_inference_steps=3, height=16, width=16, scheduler="ddim")
PROMPTS = ["a sks dog", "a cat on the beach", "a red toy"]


@pytest.fixture(params=tiny.PIPELINES)
def family(request, pipelines):
    return tiny.load(pipelines(request.param))


@pytest.fixture
def stable_diffusion(pipelines):
    return tiny.load(pipelines("stable_diffusion"))


def pictures(family, prompts=PROMPTS, seeds=(5, 6, 7), sampling=SAMPLING, **options) -> list[Picture]:
    return list(draw(family, prompts, seeds, sampling=sampling, **options))


def distance(left: Picture, right: Picture) -> int:
    """Of the most different of all levels from 0 to 255."""
    return int(np.abs(np.asarray(left.image, dtype=int) - np.asarray(right.image, dtype=int)).max())


def fails(family, *, above: int, monkeypatch, error: Exception | None = None) -> list[int]:
    """Let the denoiser run out of memory for more than so many rows; returns the rows of every call."""
    own, seen = family.denoiser.forward, []

    def forward(*args, **kwargs):
        rows = len(args[0] if args else kwargs["hidden_states"])
        seen.append(rows)
        if rows > above:
            raise error or torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return own(*args, **kwargs)

    monkeypatch.setattr(family.denoiser, "forward", forward)
    return seen


@pytest.mark.parametrize("scheduler", ["ddim", "euler_a", "ddpm"])
def test_a_seed_draws_the_same_picture_wherever_it_stands_in_a_batch(family, scheduler):
    """Within one of 255 levels: sums over larger batches round otherwise."""
    sampling = SAMPLING.model_copy(update={"scheduler": scheduler, "eta": 1.0})
    together = pictures(family, sampling=sampling)
    for place in range(3):
        (alone,) = pictures(family, PROMPTS[place : place + 1], (5 + place,), sampling)
        assert distance(alone, together[place]) <= 1
    by_twos = pictures(family, sampling=sampling, batch_size=2)
    assert all(distance(left, right) <= 1 for left, right in zip(by_twos, together, strict=True))


def test_other_seeds_and_other_prompts_draw_other_pictures(family):
    first, second = pictures(family, PROMPTS[:1] * 2, (5, 6))
    assert distance(first, second) > 20
    (other,) = pictures(family, PROMPTS[1:2], (5,))
    assert distance(first, other) > 0


def test_pictures_equal_those_of_the_pipeline_itself(family):
    (ours,) = pictures(family, PROMPTS[:1], (3,), Sampling(num_inference_steps=2, height=16, guidance_scale=4.0, scheduler="ddim"))
    if family.process.prediction != "flow":
        unsaid = {} if "clip_sample" in family.pipe.scheduler.config else {"clip_sample": False}
        family.pipe.scheduler = DDIMScheduler.from_config(family.pipe.scheduler.config, **unsaid)
    black, white = family.picture_range
    options = family.pipeline_kwargs(4.0, [family.default_negative_prompt] if family.default_negative_prompt else None)
    theirs = ((tiny.picture(family.pipe, PROMPTS[0], **options) - black) / (white - black)).clamp(0, 1)
    theirs = (theirs * 255).round().byte().permute(1, 2, 0).numpy()
    assert distance(ours, Picture(Image.fromarray(theirs), "", 0, True)) == 0


def test_a_picture_carries_all_that_draws_it_again(stable_diffusion):
    (picture,) = pictures(stable_diffusion, PROMPTS[:1], (9,), negative_prompt="blurry")
    settings = picture.settings
    assert settings["prompt"] == picture.prompt == "a sks dog"
    assert settings["seed"] == picture.seed == 9
    assert settings["negative_prompt"] == "blurry"
    again = Sampling(**{name: value for name, value in settings.items() if name in Sampling.model_fields})
    assert distance(pictures(stable_diffusion, [settings["prompt"]], [9], again, negative_prompt="blurry")[0], picture) == 0


def test_a_negative_prompt_changes_the_picture(stable_diffusion):
    with_it, without = pictures(stable_diffusion, negative_prompt="red"), pictures(stable_diffusion)
    assert distance(with_it[0], without[0]) > 0


def test_a_flow_that_takes_no_negative_prompt_says_so(pipelines):
    with pytest.raises(SettingError, match="--negative_prompt"):
        pictures(tiny.load(pipelines("flux")), negative_prompt="red")


def test_global_randomness_neither_matters_nor_is_touched(family):
    torch.manual_seed(1)
    first = pictures(family)
    state = torch.get_rng_state()
    second = pictures(family)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(distance(left, right) == 0 for left, right in zip(first, second, strict=True))


@pytest.mark.parametrize("name", [*SHORT_NAMES, "DPMSolverSinglestepScheduler", "DEISMultistepScheduler"])
def test_samplers_are_known_by_their_names_and_draw(stable_diffusion, name):
    scheduler = make_scheduler(stable_diffusion, name)
    assert type(scheduler).__name__ == SHORT_NAMES.get(name, name)
    assert scheduler.config.beta_end == stable_diffusion.pipe.scheduler.config.beta_end
    own = stable_diffusion.pipe.scheduler
    (picture,) = pictures(stable_diffusion, PROMPTS[:1], (1,), SAMPLING.model_copy(update={"scheduler": name}))
    assert picture.finite
    assert stable_diffusion.pipe.scheduler is own


@pytest.mark.parametrize("name", ["dpm++_sde", "euler_a", "ddpm"])
def test_noise_that_a_sampler_adds_is_the_pictures_own(stable_diffusion, name):
    sampling = Sampling(num_inference_steps=4, height=16, scheduler=name)
    together = pictures(stable_diffusion, sampling=sampling)
    (alone,) = pictures(stable_diffusion, PROMPTS[1:2], (6,), sampling)
    assert distance(alone, together[1]) <= 1
    without = sampling.model_copy(update={"scheduler": {"dpm++_sde": "dpm++", "euler_a": "euler", "ddpm": "ddim"}[name]})
    assert distance(pictures(stable_diffusion, PROMPTS[1:2], (6,), without)[0], alone) > 1


@pytest.mark.parametrize(
    ("name", "output"),
    [
        ("dpmm++", "Did you mean dpm++"),
        ("EulerDiscretScheduler", "Did you mean EulerDiscreteScheduler"),
        ("FlowMatchEulerDiscreteScheduler", "this model has no sampler"),
        ("UNet2DConditionModel", "this model has no sampler"),
    ],
)
def test_an_unknown_sampler_is_refused_with_those_that_are(stable_diffusion, name, output):
    with pytest.raises(SettingError, match="--scheduler") as caught:
        pictures(stable_diffusion, sampling=SAMPLING.model_copy(update={"scheduler": name}))
    assert output in str(caught.value)
    assert "euler_a" in str(caught.value)


def test_a_sampler_whose_package_is_missing_is_refused(stable_diffusion, monkeypatch):
    from diffusers import LMSDiscreteScheduler

    def from_config(config):
        raise ImportError("LMSDiscreteScheduler requires the scipy library but it was not found.")

    monkeypatch.setattr(LMSDiscreteScheduler, "from_config", from_config)
    with pytest.raises(SettingError, match=r"LMSDiscreteScheduler cannot be used here .*scipy"):
        pictures(stable_diffusion, sampling=SAMPLING.model_copy(update={"scheduler": "lms"}))


def test_a_flow_keeps_the_scheduler_it_was_made_with(pipelines):
    family = tiny.load(pipelines("flux"))
    assert isinstance(make_scheduler(family, "ddim"), FlowMatchEulerDiscreteScheduler)
    assert make_scheduler(family, "euler") is family.pipe.scheduler


def test_the_own_sampler_is_put_back_also_when_drawing_fails_or_is_left(stable_diffusion, monkeypatch):
    own = stable_diffusion.pipe.scheduler
    left = draw(stable_diffusion, PROMPTS, (1, 2, 3), sampling=SAMPLING, batch_size=1)
    next(left)
    left.close()
    assert stable_diffusion.pipe.scheduler is own
    fails(stable_diffusion, above=0, monkeypatch=monkeypatch, error=ValueError("other"))
    with pytest.raises(ValueError, match="other"):
        pictures(stable_diffusion)
    assert stable_diffusion.pipe.scheduler is own


def test_batches_halve_when_memory_runs_out_and_it_is_reported(family, monkeypatch, caplog):
    usual = fails(family, above=99, monkeypatch=monkeypatch)
    expected = pictures(family, PROMPTS * 2, range(6), batch_size=6)
    rows = usual[0] // 6  # some pipelines draw with and without the prompt in one pass
    seen = fails(family, above=2 * rows, monkeypatch=monkeypatch)
    with caplog.at_level(logging.WARNING, logger="dreambooth"):
        found = pictures(family, PROMPTS * 2, range(6), batch_size=5)
    assert [picture.seed for picture in found] == list(range(6))
    assert all(distance(left, right) <= 1 for left, right in zip(found, expected, strict=True))
    assert seen[0] == 5 * rows
    assert set(seen[1:]) == {2 * rows}
    assert [record.getMessage() for record in caplog.records] == ["Out of memory: drawing 2 at a time from here on."]


def test_one_picture_that_does_not_fit_ends_with_the_ways_out(stable_diffusion, monkeypatch):
    fails(stable_diffusion, above=0, monkeypatch=monkeypatch)
    with pytest.raises(RunError, match=r"Out of memory while drawing one picture.*--height.*bf16"):
        pictures(stable_diffusion)


def test_memory_is_freed_after_the_failed_batch_has_let_go_of_it(stable_diffusion, monkeypatch):
    """While an exception is handled its frames hold the batch's tensors."""
    import sys

    from dreambooth.families import sampling as sample

    handled = []
    monkeypatch.setattr(sample, "free_memory", lambda device: handled.append(sys.exc_info()[1]))
    fails(stable_diffusion, above=2, monkeypatch=monkeypatch)
    pictures(stable_diffusion, batch_size=2)
    assert handled == [None]


def test_numbers_that_are_not_finite_are_reported_and_the_others_kept(family):
    with torch.no_grad():
        last = family.pipe.vae.decoder if family.vae_classes else family.denoiser
        last.conv_out.weight.fill_(float("nan"))
    found = pictures(family)
    assert [picture.finite for picture in found] == [False] * 3
    assert not np.asarray(found[0].image).any()


def test_the_size_is_the_models_own_or_the_one_asked_for(stable_diffusion):
    small = Sampling(num_inference_steps=1, scheduler="ddim")
    assert [p.image.size for p in pictures(stable_diffusion, PROMPTS[:1], (0,), small)] == [(16, 16)]
    for given, size in (({"height": 32}, (32, 32)), ({"width": 32}, (32, 16)), ({"height": 24, "width": 32}, (32, 24))):
        (found,) = pictures(stable_diffusion, PROMPTS[:1], (0,), small.model_copy(update=given))
        assert found.image.size == size


def test_eta_puts_noise_back_and_is_seeded(stable_diffusion):
    plain = pictures(stable_diffusion)
    noisy, again = (pictures(stable_diffusion, sampling=SAMPLING.model_copy(update={"eta": 1.0})) for _ in range(2))
    assert distance(plain[0], noisy[0]) > 0
    assert distance(noisy[0], again[0]) == 0


def test_flux_draws_with_as_many_tokens_as_it_is_trained_with(pipelines, monkeypatch):
    family = tiny.load(pipelines("flux"))
    own, seen = family.pipe.encode_prompt, []
    monkeypatch.setattr(family.pipe, "encode_prompt", lambda **output: seen.append(output["max_sequence_length"]) or own(**output))
    pictures(family)
    family.configure_tokenizers(max_length=9)
    pictures(family)
    assert set(seen) == {32, 9}
    assert seen[0] == 32


@pytest.mark.parametrize("upcast", [True, False])
def test_a_vae_that_overflows_in_fp16_decodes_in_float32(pipelines, upcast):
    """diffusers casts it only where its weights are in fp16, which they never are here."""
    family, seen = tiny.load(pipelines("stable_diffusion")), []
    family.pipe.vae.register_to_config(force_upcast=upcast)
    family.pipe.vae.decoder.register_forward_hook(lambda layer, args, out: seen.append(out.dtype))
    (found,) = pictures(family, PROMPTS[:1], (5,), precision="fp16")
    assert found.finite and seen == [torch.float32 if upcast else torch.float16]
    assert "decode" not in vars(family.pipe.vae)


@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_pictures_can_be_drawn_in_half_precision(family, precision):
    plain, (found,) = pictures(family), pictures(family, PROMPTS[:1], (5,), precision=precision)
    assert found.finite
    near = 120 if family.name.startswith("FLUX.2") else 60  # whose tiny has modulations twenty times as strong
    assert distance(found, plain[0]) <= (1 if precision == "no" else near)


def test_latents_are_not_clipped_where_the_base_model_does_not_say_so(pipelines):
    family = tiny.load(pipelines("sdxl"))
    assert "clip_sample" not in family.pipe.scheduler.config
    assert make_scheduler(family, "ddim").config.clip_sample is False


@pytest.mark.parametrize(
    ("given", "output"), [({"height": 17}, "--height: .*Give 16"), ({"num_inference_steps": 2000}, "--num_inference_steps: .*1000")]
)
def test_what_no_sampler_can_draw_is_reported_before_it_is_tried(pipelines, given, output):
    with pytest.raises(SettingError, match=output):
        check(tiny.load(pipelines("stable_diffusion")), Sampling(**given))
