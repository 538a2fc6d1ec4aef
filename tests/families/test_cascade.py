"""The stages of a cascade: each draws what diffusers' pipeline draws, and what it sees beside x is what the pipeline would make."""

import pytest
import torch
from PIL import Image
from torch.nn.functional import interpolate

from dreambooth.core.errors import SettingError
from dreambooth.families.samplers import make_scheduler
from dreambooth.families.sampling import Picture, Sampling, Smaller, check, draw
from tests import tiny

PROMPTS = ["a sks dog", "A photo of a Cat on the beach"]
STEPS, SAMPLERS = 3, ["ddim", "ddpm", "dpm++", "euler", "unipc", "pndm"]


class Given(Smaller):
    """Small pictures that are there."""

    def __init__(self, pixels: torch.Tensor):
        self.pixels = pixels

    def __call__(self, prompts, seeds):
        image = Image.new("RGB", (4, 4))
        return [Picture(image, prompt, seed, True, pixels=one) for prompt, seed, one in zip(prompts, seeds, self.pixels, strict=True)]


@pytest.fixture(params=tiny.CASCADE)
def stage(request, pipelines):
    return tiny.load(pipelines(request.param))


@pytest.fixture(params=["deepfloyd_superresolution", "upscaler"])
def later(request, pipelines):
    return tiny.load(pipelines(request.param))


def smaller(family) -> Given | None:
    return Given(tiny.small_pictures(2)) if family.conditioning_channels else None


@torch.no_grad()
def looped(family, guidance: float, negative: str | None) -> torch.Tensor:
    """Pictures by `predict`, in the pipeline's order of draws: DeepFloyd's noises x first, the upscaler the small picture."""
    scheduler, rngs = family.pipe.scheduler, [torch.Generator().manual_seed(seed) for seed in (1, 2)]
    shape, beside = family.latent_shape(16, 16), {}

    def noise(shape):
        return torch.stack([torch.randn(shape, generator=rng) for rng in rngs])

    x = noise(shape) if not family.vae_classes else None
    if family.conditioning_channels:
        image = family.enlarged(tiny.small_pictures(2))
        beside = family.noised(image, noise(image.shape[1:]), torch.full((2,), family.noise_level))
    x = noise(shape) if x is None else x
    wanted, unwanted = (family.embed(family.tokenize(prompts)) for prompts in (PROMPTS, [negative or ""] * 2))
    scheduler.set_timesteps(STEPS)
    for time in scheduler.timesteps:
        answer = family.predict(x, time.float().expand(2), wanted | beside)
        if guidance > 1:
            plain = family.predict(x, time.float().expand(2), unwanted | beside)
            answer = plain + guidance * (answer - plain)
        x = scheduler.step(answer, time, x, generator=rngs, return_dict=False)[0]
    return family.decode(x)


@pytest.mark.parametrize(("guidance", "negative"), [(1.0, None), (3.0, None), (3.0, "Red snow")], ids=["plain", "guided", "negative"])
def test_a_loop_of_predict_draws_the_pictures_of_the_pipeline(stage, guidance, negative):
    beside = {"image": tiny.small_pictures(2), "noise_level": stage.noise_level} if stage.conditioning_channels else {}
    size = {"height": 16, "width": 16} if not stage.vae_classes else {}
    theirs = stage.pipe(
        prompt=list(PROMPTS), negative_prompt=[negative] * 2 if negative else None, num_inference_steps=STEPS, guidance_scale=guidance,
        output_type="pt", generator=[torch.Generator().manual_seed(seed) for seed in (1, 2)], **beside, **size,
    ).images  # fmt: skip
    ours = looped(stage, guidance, negative)
    ours = ours if stage.picture_range == (-1.0, 1.0) else (ours / 2 + 0.5).clamp(0, 1)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


def test_our_pictures_are_the_pipelines_whoever_reads_the_prompts(stage):
    sampling = Sampling(num_inference_steps=STEPS, guidance_scale=3.0, scheduler="ddim", height=16, width=16)
    drawn = list(draw(stage, PROMPTS, [1, 2], sampling=sampling, smaller=smaller(stage), keeps_pixels=True, negative_prompt="Red snow"))
    stage.pipe.scheduler = make_scheduler(stage, "ddim")
    beside = stage.small_kwargs(tiny.small_pictures(2)) if stage.conditioning_channels else {"height": 16, "width": 16}
    theirs = stage.pipe(
        prompt=list(PROMPTS), negative_prompt=["Red snow"] * 2, num_inference_steps=STEPS, guidance_scale=3.0, output_type="pt",
        generator=[torch.Generator().manual_seed(seed) for seed in (1, 2)], **beside,
    ).images  # fmt: skip
    theirs = theirs if stage.picture_range == (-1.0, 1.0) else theirs * 2 - 1
    torch.testing.assert_close(torch.stack([picture.pixels for picture in drawn]), theirs, rtol=0, atol=1e-5)


def test_the_text_encoder_is_there_again_when_the_pictures_are_drawn(stage, tmp_path):
    list(draw(stage, PROMPTS[:1], [1], sampling=Sampling(num_inference_steps=2, height=16, width=16), smaller=one_smaller(stage)))
    stage.save(tmp_path)
    assert {"text_encoder", "unet"} <= tiny.load(tmp_path).parts.keys()


def one_smaller(family) -> Given | None:
    return Given(tiny.small_pictures(1)) if family.conditioning_channels else None


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_sampler_draws_with_every_stage(stage, name):
    sampling = Sampling(num_inference_steps=4, scheduler=name, height=16, width=16)
    (picture,) = draw(stage, PROMPTS[:1], [1], sampling=sampling, smaller=one_smaller(stage))
    assert picture.finite and picture.image.size == (16, 16)


def test_a_sampler_over_sigmas_leaves_the_small_picture_as_it_is(pipelines):
    """diffusers' pipeline scales it with x: at Euler's first step by a hundredth, so that the network does not see it."""
    family = tiny.load(pipelines("deepfloyd_superresolution"))
    seen, forward = [], family.denoiser.forward

    def watched(sample, *args, **options):
        seen.append(sample[0, 3:])
        return forward(sample, *args, **options)

    family.denoiser.forward = watched
    list(
        draw(
            family,
            PROMPTS[:1],
            [1],
            sampling=Sampling(num_inference_steps=4, scheduler="euler", guidance_scale=1),
            smaller=one_smaller(family),
        )
    )
    assert len(seen) == 4 and all(torch.equal(one, seen[0]) for one in seen)


def test_a_folder_says_that_no_variance_is_read_from_the_network(pipelines, tmp_path):
    for name in ("deepfloyd", "deepfloyd_superresolution"):
        family = tiny.load(pipelines(name))
        family.save(tmp_path / name)
        theirs = type(family.pipe).from_pretrained(tmp_path / name)
        assert theirs.scheduler.config.variance_type == "fixed_small"
        tiny.picture(theirs)


def test_small_pictures_are_area_averages(later):
    pixels = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    small = later.small_of(later.encode(pixels))
    torch.testing.assert_close(small, interpolate(pixels, scale_factor=0.25, mode="area"), rtol=0, atol=1e-6)


@pytest.mark.parametrize("level", [0, 13, 250])
def test_noise_at_a_level_is_that_of_the_pipelines_noising_scheduler(later, level):
    image, noise = torch.randn(2, 2, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    at = torch.tensor([level, 3])
    theirs = getattr(later.pipe, later.noising_scheduler).add_noise(image, noise, at)
    found = later.noised(image, noise, at)
    torch.testing.assert_close(found["conditioning_image"], theirs, rtol=0, atol=1e-6)
    assert torch.equal(found["noise_level"], at)


def test_a_variance_is_the_level_nearest_to_it(pipelines):
    """The paper's 1e-3 and 1e-5: the second lies below what DeepFloyd's schedule can say."""
    family = tiny.load(pipelines("deepfloyd_superresolution"))
    assert [family.nearest_level(variance) for variance in (0.0, 1e-5, 4.1e-5, 1e-3, 0.154)] == [0, 0, 0, 13, 250]
    assert family.variance(0) == pytest.approx(4.1e-5, rel=0.02)
    assert family.levels(()) == (0, 0)
    assert family.levels((1e-3,)) == (13, 13)
    assert family.levels((1e-3, 4e-5)) == (0, 13)


def test_more_noise_than_the_network_was_told_of_is_refused(pipelines):
    family = tiny.load(pipelines("upscaler"))
    with pytest.raises(SettingError, match=r"--noise_augmentation: this model knows variances up to 0\.36"):
        family.nearest_level(0.5)


def test_a_stage_after_the_first_does_not_draw_from_nothing(later):
    check(later, Sampling())
    with pytest.raises(SettingError, match="--then"):
        next(draw(later, PROMPTS[:1], [1], sampling=Sampling()))


def test_a_first_stage_takes_no_small_picture(pipelines):
    for name in ("deepfloyd", "stable_diffusion"):
        with pytest.raises(SettingError, match="first stage"):
            next(draw(tiny.load(pipelines(name)), PROMPTS[:1], [1], sampling=Sampling(), smaller=Given(tiny.small_pictures())))


def test_prompts_are_read_in_small_letters(pipelines):
    family = tiny.load(pipelines("deepfloyd"))
    theirs, _ = family.pipe.encode_prompt(PROMPTS, do_classifier_free_guidance=False, device="cpu", clean_caption=False)
    assert torch.equal(family.embed(family.tokenize(PROMPTS))["text"], theirs)
    with pytest.raises(SettingError, match="--identifier"):
        family.refuse_capitals("SKS")
    family.refuse_capitals("sks")
