"""What both sides train: a small but realistic pipeline with random weights, photos and class images, made on the spot."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from tests import tiny


def pipeline(folder: Path) -> Path:
    """Stable Diffusion's layout with 8.7 million weights in the UNet, for 128 px (16 x 16 latents); kept where it is already there."""
    from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    if (folder / "model_index.json").is_file():
        return folder
    torch.manual_seed(0)
    tokenizer = tiny.clip_tokenizer()
    unet = UNet2DConditionModel(
        sample_size=16, block_out_channels=(64, 128, 192), layers_per_block=1, cross_attention_dim=64, attention_head_dim=8,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
    )  # fmt: skip
    vae = AutoencoderKL(
        block_out_channels=(32, 64, 64, 64), down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
        sample_size=128,
    )  # fmt: skip
    text = CLIPTextConfig(
        hidden_size=64, intermediate_size=256, num_attention_heads=4, num_hidden_layers=2, projection_dim=64, vocab_size=len(tokenizer),
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    scheduler = DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, set_alpha_to_one=False, steps_offset=1
    )
    StableDiffusionPipeline(
        vae=vae, text_encoder=CLIPTextModel(text), tokenizer=tokenizer, unet=unet, scheduler=scheduler, safety_checker=None,
        feature_extractor=None, requires_safety_checker=False,
    ).save_pretrained(folder)  # fmt: skip
    return folder


def pictures(folder: Path, *, count: int, size_px: int, kind: str) -> Path:
    """A folder of smooth coloured pictures: JPEGs as cameras write them, or PNGs."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(len(folder.name))
    for number in range(count):
        coarse = Image.fromarray(rng.integers(0, 255, (8, 8, 3), dtype=np.uint8))
        coarse.resize((size_px, size_px), Image.Resampling.BICUBIC).save(folder / f"{number:03d}.{kind}", quality=92)
    return folder
