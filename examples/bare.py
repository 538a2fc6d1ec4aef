"""DreamBooth (Ruiz et al. 2023) on `dreambooth.core` and diffusers alone: the paper's objective, and nothing beside it.

    python examples/bare.py MODEL PHOTOS dog OUT        # MODEL: a Stable Diffusion pipeline, or dreambooth/toybox/pipeline

1. The class's own pictures are drawn from the frozen model: x_pr for "a dog" (section 3.3).
2. Every update noises n photos and m class pictures, x_t = alpha_t x + sigma_t eps (Eq. 1), and asks the network for the target,
   the photos as "a sks dog" and the class pictures as "a dog".
3. Eq. 2: the photos' mean error plus lambda times the class pictures'. U-Net and text encoder learn.

What `dreambooth train` has and this has not: LoRA, half precision, resuming, crops, other families, reports.
"""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from diffusers import DPMSolverMultistepScheduler, StableDiffusionPipeline
from PIL import Image, ImageOps
from torch import Tensor

from dreambooth.core.batch import Batch, picture_weights
from dreambooth.core.draws import endless_order, generator
from dreambooth.core.loss import dreambooth_loss, squared_error
from dreambooth.core.noise import NoiseSchedule, draw_timestep

SEED, N, M, LAMBDA = 0, 1, 1, 1.0
"""Of all draws; photos and class pictures of an update; the weight of the prior's term."""


def eq2(pipe: StableDiffusionPipeline, process: NoiseSchedule, b: Batch) -> Tensor:
    """The objective, from pictures, noise and times."""
    x_t = process.noise(b.x, b.eps, b.t)
    text = pipe.text_encoder(b.condition["input_ids"])[0]
    answer = pipe.unet(x_t, process.times[b.t], text, return_dict=False)[0]
    return dreambooth_loss(squared_error(answer, process.target(b.x, b.eps, b.t)), b.weight)


def batches(photos: Tensor, prior: Tensor, subject_ids: Tensor, class_ids: Tensor, process: NoiseSchedule, steps: int) -> Iterator[Batch]:
    """An update's latents with all that is drawn for them, each row from a key of its own: (seed, update, row)."""
    ids, weight = torch.stack([subject_ids] * N + [class_ids] * M), torch.tensor(picture_weights(N, M, LAMBDA), device=photos.device)
    for update in range(steps):
        of_photos = endless_order(len(photos), update * N, N, SEED, "photos")
        of_prior = endless_order(len(prior), update * M, M, SEED, "prior")
        x = torch.cat([photos[of_photos], prior[of_prior]])
        draws = [generator(SEED, update, row) for row in range(len(x))]
        t = draw_timestep(process, torch.stack([torch.rand((), generator=g) for g in draws]).to(x.device))
        eps = torch.stack([torch.randn(x.shape[1:], generator=g) for g in draws]).to(x.device)
        yield Batch(x, eps, t, weight, {"input_ids": ids}, torch.tensor(of_photos + of_prior))


@torch.no_grad()
def latents(pipe: StableDiffusionPipeline, images: Sequence[Image.Image], size: int) -> Tensor:
    """The VAE's latents of pictures, scaled and cropped to squares, [n, c, h, w]."""
    pixels = pipe.image_processor.preprocess([ImageOps.fit(image.convert("RGB"), (size, size)) for image in images]).to(pipe.device)
    return pipe.vae.encode(pixels).latent_dist.sample(generator(SEED, "latents")) * pipe.vae.config.scaling_factor


def train(pipe: StableDiffusionPipeline, photos: Sequence[Image.Image], noun: str, *, steps: int, class_images: int, rate: float) -> None:
    """Teach the pipeline "a sks NOUN"."""
    size = pipe.unet.config.sample_size * pipe.vae_scale_factor
    sampler = {"num_inference_steps": 15, "generator": generator(SEED, "prior"), "height": size, "width": size}
    drawn = [pipe(f"a {noun}", **sampler).images[0] for _ in range(class_images)]
    whole = {"padding": "max_length", "truncation": True, "max_length": pipe.tokenizer.model_max_length, "return_tensors": "pt"}
    subject_ids, class_ids = pipe.tokenizer([f"a sks {noun}", f"a {noun}"], **whole).input_ids.to(pipe.device)
    process = NoiseSchedule.from_betas(pipe.scheduler.config).to(pipe.device)
    learned = [*pipe.unet.requires_grad_(True).parameters(), *pipe.text_encoder.requires_grad_(True).parameters()]
    optimizer = torch.optim.AdamW(learned, lr=rate)
    pictures = latents(pipe, photos, size), latents(pipe, drawn, size)
    for update, batch in enumerate(batches(*pictures, subject_ids, class_ids, process, steps), start=1):
        loss = eq2(pipe, process, batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learned, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        print(f"{update}/{steps}: {loss.item():.4f}")


def main(model: str, photos: str, noun: str, out: str, *, steps: int = 400, class_images: int = 100, rate: float = 5e-6) -> None:
    """Train on a folder's photos and save the pipeline."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    pipe = StableDiffusionPipeline.from_pretrained(model, torch_dtype=torch.float32).to(device)
    pipe.scheduler = DPMSolverMultistepScheduler.from_config(pipe.scheduler.config)
    pipe.set_progress_bar_config(disable=True)
    files = sorted(path for path in Path(photos).iterdir() if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
    train(pipe, [ImageOps.exif_transpose(Image.open(path)) for path in files], noun, steps=steps, class_images=class_images, rate=rate)
    pipe.save_pretrained(out)
    pipe(f"a sks {noun} on the beach").images[0].save(Path(out) / "beach.png")


if __name__ == "__main__":
    main(*sys.argv[1:5])
