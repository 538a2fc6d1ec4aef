"""The denoiser and its text encoder, trained together from scratch: v-prediction on 16 x 16 x 8 latents.

A tenth of the captions is dropped (classifier-free guidance needs the empty prompt); the text encoder learns at a
quarter of the rate; timesteps are stratified over the batch. Attention is the plain one on a CPU, where fused
attention has a slow backward pass.
"""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDPMScheduler, DPMSolverMultistepScheduler, StableDiffusionPipeline, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from PIL import Image
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from ..world import CLASSES, CONTEXTS
from . import latents
from .groupnorm import quicken
from .loop import Stage, device, rng_here, suited
from .muon import matrices
from .vae import CHANNELS, autocast
from .words import LENGTH, load_or_build

BATCH = suited(48, 1024)
"""Pictures a process takes in each update."""
HELD = 240
"""Pictures at the end that nothing learns from: they measure the error, with the same noise each time."""
THING = 3.0
"""How much an error on the thing and what it wears counts, compared with one on its surroundings, which are right long before."""
WIDTH = 128
"""Width of the text encoder."""
SLANT = 0.8
"""Timesteps are 1000 u ** SLANT for stratified u: below 1 there are more noisy ones, where composition is decided."""
NOISE = {"num_train_timesteps": 1000, "beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}


def build_unet() -> UNet2DConditionModel:
    """The denoiser, untrained: 16, 8 and 4 cells wide, attention to the words at the two lower levels.

    Residual branches begin at a tenth and the last layer at zero, which diffusers leaves at full size: it learns sooner.
    """
    unet = UNet2DConditionModel(
        sample_size=16,
        in_channels=CHANNELS,
        out_channels=CHANNELS,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=(64, 96, 192),
        layers_per_block=1,
        attention_head_dim=(2, 3, 6),  # diffusers means the number of heads
        cross_attention_dim=WIDTH,
        norm_num_groups=16,
    )
    with torch.no_grad():
        for name, weight in unet.named_parameters():
            if name.endswith(("conv2.weight", "proj_out.weight")):
                weight *= 0.1
        nn.init.zeros_(unet.conv_out.weight)
    return unet


def text_config(tokenizer: CLIPTokenizer, *, layers: int = 4, projection: int = 128) -> CLIPTextConfig:
    """A small CLIP text encoder; pooling looks for the end-of-text id, so the ids are this vocabulary's."""
    return CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        intermediate_size=3 * WIDTH,
        num_hidden_layers=layers,
        num_attention_heads=4,
        max_position_embeddings=LENGTH,
        projection_dim=projection,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


class Denoiser(Stage):
    """Learns to draw the world from captions."""

    name, rate, average = "unet", 1e-3, 0.995 if device().type == "cpu" else 0.999

    def __init__(self, work: Path, start: Path | None = None):
        self.work = work
        self.tokenizer = load_or_build(work / "pipeline" / "tokenizer")
        if start:
            self.unet = UNet2DConditionModel.from_pretrained(start / "unet", dtype=torch.float32)
            self.text = CLIPTextModel.from_pretrained(start / "text_encoder", dtype=torch.float32)
        else:
            self.unet, self.text = build_unet(), CLIPTextModel(text_config(self.tokenizer))
        self.text.train()
        self.unet.train()
        if device().type == "cpu":
            self.unet.set_attn_processor(AttnProcessor())
            self.text.set_attn_implementation("eager")
        self.unet = self.unet.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        quicken(self.unet)
        self.data = latents.load(work).to(device())
        self.odds = self.data.odds[: len(self.data.odds) - HELD].double().cumsum(0)
        empty = self.tokenizer("", padding="max_length", max_length=LENGTH, return_tensors="pt").input_ids[0]
        self.empty = empty.to(device(), torch.int16)
        self.alphas = DDPMScheduler(**NOISE).alphas_cumprod.to(device())
        self.denoise = self.unet if device().type == "cpu" else torch.compile(self.unet)

    def modules(self) -> dict[str, tuple[nn.Module, float]]:
        return {"unet": (self.unet, 1.0), "text": (self.text, 0.25)}

    def matrices(self) -> set[Tensor]:
        return matrices(self.unet, outer=("conv_in", "conv_out", "time_embedding")) | matrices(self.text)

    def loss(self, rng: torch.Generator, done: float) -> tuple[Tensor, dict[str, Tensor], int]:
        n, rng, here = BATCH, rng_here(rng), device()
        draw = torch.rand(n, generator=rng, dtype=torch.float64, device=here) * self.odds[-1]
        index = torch.searchsorted(self.odds, draw).clamp(max=len(self.odds) - 1)
        words = self.data.captions[index, torch.randint(self.data.captions.shape[1], (n,), generator=rng, device=here)]
        words[torch.rand(n, generator=rng, device=here) < 0.1] = self.empty
        error, weight = self.errors(self.denoise, index, words, rng)
        return (error * weight).mean() / weight.mean(), {"plain": error.detach().mean()}, n

    def errors(self, denoise: Callable[..., Any], index: Tensor, words: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """Squared error of v [n, 16, 16] on noised pictures, and how much each cell of it counts."""
        n, x, here = len(index), self.data.latents[index].float(), device()
        spread = torch.arange(n, device=here) + torch.rand(n, generator=rng, device=here)
        t = ((spread / n) ** SLANT * 1000).long().clamp(max=999)
        eps = torch.randn(x.shape, generator=rng, device=here)
        a, s = self.alphas[t].sqrt().view(-1, 1, 1, 1), (1 - self.alphas[t]).sqrt().view(-1, 1, 1, 1)
        noisy, target = a * x + s * eps, a * eps - s * x
        with autocast():
            condition = self.text(input_ids=words.long()).last_hidden_state
            said = denoise(noisy.contiguous(memory_format=torch.channels_last), t, condition, return_dict=False)[0]
        weight = 1 + (THING - 1) * self.data.covers[index].float() / 255
        return (said.float() - target).square().mean(1), weight

    @torch.no_grad()
    def held(self) -> dict[str, float]:
        """Error on the held pictures with their first captions: everywhere, and on the things."""
        rng, index = torch.Generator().manual_seed(7), torch.arange(len(self.data.odds) - HELD, len(self.data.odds))
        index, rng = index[torch.randperm(HELD, generator=rng)].to(device()), rng_here(rng)
        parts = [self.errors(self.unet, part, self.data.captions[part, 0], rng) for part in index.split(48)]
        error, weight = (torch.cat(column) for column in zip(*parts, strict=True))
        thing = weight - 1
        return {"held": error.mean().item(), "held_thing": ((error * thing).sum() / thing.sum()).item()}

    def export(self, folder: Path) -> dict[str, float]:
        figures = self.held()
        unet, text = copy.deepcopy(self.unet), copy.deepcopy(self.text)
        for module in unet.modules():
            module.__dict__.pop("forward", None)
        pipeline = assemble(folder, unet.eval(), text.eval(), self.tokenizer)
        pipeline.to(dtype=torch.float16).save_pretrained(folder / "pipeline")
        pipeline.to(dtype=torch.float32)
        draw_sheet(pipeline, folder / "sheets" / f"unet_{int(self.seen()):05d}.png")
        return figures

    def seen(self) -> int:
        """A running number for the sheets of samples."""
        return len(list((self.work / "sheets").glob("unet_*.png")))


def assemble(folder: Path, unet: UNet2DConditionModel, text: CLIPTextModel, tokenizer: CLIPTokenizer) -> StableDiffusionPipeline:
    """The whole pipeline as diffusers keeps it."""
    scheduler = DPMSolverMultistepScheduler(**NOISE, prediction_type="v_prediction", timestep_spacing="trailing")
    scheduler.register_to_config(clip_sample=False)  # for those who change to DDIM or DDPM, which else clip latents as if they were pixels
    return StableDiffusionPipeline(
        vae=AutoencoderKL.from_pretrained(folder / "pipeline" / "vae", dtype=torch.float32).to(unet.device),
        text_encoder=text,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,  # type: ignore[arg-type]
        requires_safety_checker=False,
    )


def draw_sheet(pipeline: StableDiffusionPipeline, path: Path) -> None:
    """One picture of every class, each in another context, and twelve harder prompts: to look at while it learns."""
    pipeline.set_progress_bar_config(disable=True)
    prompts = [f"a {noun} {place}" for noun, place in zip(CLASSES, CONTEXTS.values(), strict=False)]
    prompts += [
        "a red dog",
        "a striped cat",
        "a shiny blue teapot",
        "a starry plushie",
        "a dog wearing a red hat",
        "a cat from the side",
    ]
    prompts += ["a pencil sketch of a dog", "pixel art of a duck", "an oil painting of a vase", "a yellow robot from the back"]
    prompts += ["a bowl from above", "a clock at night"]
    with autocast():
        pictures = pipeline(prompts, guidance_scale=2.5, num_inference_steps=15, generator=torch.Generator().manual_seed(1)).images
    sheet = Image.new("RGB", (6 * 128, 4 * 128))
    for number, picture in enumerate(pictures):
        sheet.paste(picture, (number % 6 * 128, number // 6 * 128))
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path)
