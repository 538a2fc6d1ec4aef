"""The shipped weights: plain diffusers and transformers load them, and the pipeline draws."""

from pathlib import Path

import numpy as np
import pytest
import torch

import dreambooth.toybox
from dreambooth.toybox.world import held_out_subjects, render_photos

FOLDER = Path(dreambooth.toybox.__file__).parent
pytestmark = pytest.mark.skipif(
    not (FOLDER / "pipeline" / "unet").exists(), reason="the toybox's weights are not in this checkout: run the recipe"
)


def test_all_weights_together_are_small() -> None:
    assert sum(path.stat().st_size for path in FOLDER.rglob("*.safetensors")) <= 40e6


def test_plain_diffusers_loads_the_pipeline_and_draws() -> None:
    from diffusers import StableDiffusionPipeline

    pipeline = StableDiffusionPipeline.from_pretrained(FOLDER / "pipeline", dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    assert pipeline.scheduler.config.prediction_type == "v_prediction"
    rng = torch.Generator().manual_seed(0)
    picture = np.asarray(pipeline("a red teapot on the beach", num_inference_steps=6, guidance_scale=3.0, generator=rng).images[0])
    assert picture.shape == (128, 128, 3)
    assert picture.std() > 20


def test_any_scheduler_that_diffusers_offers_in_its_place_draws_the_same_picture() -> None:
    from diffusers import DDIMScheduler, EulerDiscreteScheduler, StableDiffusionPipeline

    pipeline = StableDiffusionPipeline.from_pretrained(FOLDER / "pipeline", dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    pictures = []
    for kind in (type(pipeline.scheduler), DDIMScheduler, EulerDiscreteScheduler):
        pipeline.scheduler = kind.from_config(pipeline.scheduler.config)
        rng = torch.Generator().manual_seed(0)
        drawn = pipeline("a red teapot on the beach", num_inference_steps=12, guidance_scale=3.0, generator=rng).images[0]
        pictures.append(np.asarray(drawn, dtype=np.float32))
    assert all(np.abs(picture - pictures[0]).mean() < 16 for picture in pictures[1:])


def test_the_autoencoder_keeps_a_held_out_photo() -> None:
    from diffusers import AutoencoderKL

    vae = AutoencoderKL.from_pretrained(FOLDER / "pipeline" / "vae", dtype=torch.float32)
    photos = np.stack([render_photos(subject, 128)[0] for subject in held_out_subjects()[:6]])
    x = torch.from_numpy(photos).permute(0, 3, 1, 2).float() / 127.5 - 1
    with torch.no_grad():
        z = vae.encode(x).latent_dist.mean
        y = vae.decode(z).sample.clamp(-1, 1)
    assert vae.config.scaling_factor == 1.0 and z.shape[1:] == (8, 16, 16)
    assert 0.5 < z.std() < 1.6
    assert -10 * torch.log10(((y - x) / 2).square().mean()) > 24


@pytest.mark.parametrize("name", ["clip", "instance", "judge", "perceptual"])
def test_encoders_are_transformers_folders(name: str) -> None:
    from transformers import AutoConfig, AutoImageProcessor, AutoModel

    folder = FOLDER / "encoders" / name
    if not folder.exists():
        pytest.skip(f"the {name} encoder is not in this checkout: run the recipe")
    config = AutoConfig.from_pretrained(folder)
    side = config.vision_config.image_size if name == "clip" else 128
    model = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    pixels = AutoImageProcessor.from_pretrained(folder)(render_photos(held_out_subjects()[0], 256)[0], return_tensors="pt").pixel_values
    assert pixels.shape == (1, 3, side, side)
    assert pixels.min() >= -1.01 and pixels.max() <= 1.01
    with torch.no_grad():
        if name == "clip":
            assert model.get_image_features(pixel_values=pixels).pooler_output.shape[0] == 1
        else:
            assert torch.isfinite(model(pixels).last_hidden_state).all()


def test_clip_knows_the_class_and_the_place_of_held_out_photos() -> None:
    from dreambooth.toybox.weights import Weights
    from dreambooth.toybox.world import CLASSES, CONTEXTS

    weights, subjects = Weights(), held_out_subjects()[::2]
    seen = weights.seen(np.stack([render_photos(subject, 128)[0] for subject in subjects]))
    nouns, places = list(CLASSES), list(CONTEXTS)
    named = (seen @ weights.read([f"a {noun}" for noun in nouns]).T).argmax(1).tolist()
    assert np.mean([nouns[i] == subject.noun for i, subject in zip(named, subjects, strict=True)]) > 0.75
    where = [
        places[int((weights.read([f"a {subject.noun} {CONTEXTS[place]}" for place in places]) @ row).argmax())]
        for row, subject in zip(seen, subjects, strict=True)
    ]
    assert np.mean([place == subject.photo_scenes()[0].context for place, subject in zip(where, subjects, strict=True)]) > 0.75
