"""Pipelines of every family in the real layout, small enough for a test, and photos to train them on."""

import inspect
import os
from pathlib import Path

import numpy as np
import torch
from PIL import Image

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

WORDS = ("a", "dog", "cat", "sks", "photo", "of", "on", "the", "beach", "in", "snow", "toy", "painting", "style", "red")


def clip_tokenizer(length: int = 77):
    """A CLIP tokenizer whose vocabulary holds every byte and a few whole words."""
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import CLIPTokenizer

    alphabet = sorted(ByteLevel.alphabet())
    vocabulary = [*alphabet, *(letter + "</w>" for letter in alphabet)]
    merges: list[tuple[str, str]] = []
    for word in WORDS:
        if len(word) == 1:
            continue
        left = word[0]
        for place, letter in enumerate(word[1:], start=1):
            right = letter + ("</w>" if place == len(word) - 1 else "")
            if (left, right) not in merges:
                merges.append((left, right))
            left += right
            if left not in vocabulary:
                vocabulary.append(left)
    vocabulary += ["<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(vocab={token: place for place, token in enumerate(vocabulary)}, merges=merges, model_max_length=length)


def t5_tokenizer(length: int = 32):
    """A T5 tokenizer of letters and two words."""
    from transformers import T5Tokenizer

    letters = [(letter, -3.0) for letter in ["▁dog", "▁a", *"abcdefghijklmnopqrstuvwxyz"]]
    return T5Tokenizer(vocab=[("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0), *letters], extra_ids=0, model_max_length=length)


def clip_text(tokenizer, *, projection: bool = False):
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    config = CLIPTextConfig(
        hidden_size=32, intermediate_size=37, num_attention_heads=4, num_hidden_layers=3, projection_dim=32, vocab_size=len(tokenizer),
        max_position_embeddings=77, bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    return (CLIPTextModelWithProjection if projection else CLIPTextModel)(config).eval()


def vae(channels: int = 4, **other):
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        sample_size=16, block_out_channels=(8, 16), norm_num_groups=4, latent_channels=channels,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2, **other,
    ).eval()  # fmt: skip


def stable_diffusion(prediction_type: str = "epsilon"):
    """Stable Diffusion at 16 px (8 x 8 latents)."""
    from diffusers import DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel

    torch.manual_seed(0)
    tokenizer = clip_tokenizer()
    unet = UNet2DConditionModel(
        sample_size=8, block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4, cross_attention_dim=32, attention_head_dim=4,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    )  # fmt: skip
    scheduler = DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, set_alpha_to_one=False, steps_offset=1,
        prediction_type=prediction_type,
    )  # fmt: skip
    return StableDiffusionPipeline(
        vae=vae(), text_encoder=clip_text(tokenizer), tokenizer=tokenizer, unet=unet.eval(), scheduler=scheduler, safety_checker=None,
        feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip


def sdxl():
    """Stable Diffusion XL at 16 px."""
    from diffusers import EulerDiscreteScheduler, StableDiffusionXLPipeline, UNet2DConditionModel

    torch.manual_seed(0)
    tokenizer = clip_tokenizer()
    unet = UNet2DConditionModel(
        sample_size=8, block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4, cross_attention_dim=64, attention_head_dim=(2, 4),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        use_linear_projection=True, transformer_layers_per_block=(1, 2), addition_embed_type="text_time", addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=80,
    )  # fmt: skip
    scheduler = EulerDiscreteScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1)
    return StableDiffusionXLPipeline(
        vae=vae(), text_encoder=clip_text(tokenizer), text_encoder_2=clip_text(tokenizer, projection=True), tokenizer=tokenizer,
        tokenizer_2=tokenizer, unet=unet.eval(), scheduler=scheduler, add_watermarker=False,
    )  # fmt: skip


def flux(guidance: bool = True):
    """FLUX.1 at 16 px (8 x 8 latents, packed 4 x 4)."""
    from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel
    from transformers import T5Config, T5EncoderModel

    torch.manual_seed(0)
    clip, t5 = clip_tokenizer(), t5_tokenizer()
    transformer = FluxTransformer2DModel(
        patch_size=1, in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=32, pooled_projection_dim=32, axes_dims_rope=[4, 4, 8], guidance_embeds=guidance,
    )  # fmt: skip
    encoder = T5EncoderModel(T5Config(vocab_size=len(t5), d_model=32, d_kv=8, d_ff=37, num_layers=2, num_heads=4)).eval()
    own = vae(4, use_quant_conv=False, use_post_quant_conv=False, shift_factor=0.1159, scaling_factor=0.3611)
    return FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True), vae=own, text_encoder=clip_text(clip), tokenizer=clip,
        text_encoder_2=encoder, tokenizer_2=t5, transformer=transformer.eval(),
    )  # fmt: skip


CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}"
    "{% if enable_thinking is defined and enable_thinking is false %}{{ '<think>\n\n</think>\n\n' }}{% endif %}{% endif %}"
)
"""Qwen3's chat template, for one message of a user's."""


def qwen_tokenizer(length: int = 128):
    """A Qwen tokenizer of single bytes, with the chat template."""
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import Qwen2Tokenizer

    vocabulary = [*sorted(ByteLevel.alphabet()), "<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    tokenizer = Qwen2Tokenizer(vocab={token: place for place, token in enumerate(vocabulary)}, merges=[], model_max_length=length)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    tokenizer.chat_template = CHATML
    return tokenizer


def qwen3(tokenizer, kind: str, layers: int):
    import transformers

    config = transformers.Qwen3Config(
        hidden_size=16, intermediate_size=16, num_hidden_layers=layers, num_attention_heads=2, num_key_value_heads=2, head_dim=8,
        vocab_size=len(tokenizer), max_position_embeddings=512, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    return getattr(transformers, kind)(config).eval()


def flux2(distilled: bool = False):
    """FLUX.2 klein at 16 px (4 x 4 patches of latents)."""
    from diffusers import AutoencoderKLFlux2, FlowMatchEulerDiscreteScheduler, Flux2KleinPipeline, Flux2Transformer2DModel

    torch.manual_seed(0)
    tokenizer = qwen_tokenizer()
    own = AutoencoderKLFlux2(
        sample_size=16, block_out_channels=(8, 16), layers_per_block=1, latent_channels=4, norm_num_groups=4,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
    ).eval()  # fmt: skip
    own.bn.running_mean.copy_(torch.linspace(-0.5, 0.5, 16))
    own.bn.running_var.copy_(torch.linspace(0.5, 2, 16))
    transformer = Flux2Transformer2DModel(
        patch_size=1, in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=48, timestep_guidance_channels=32, axes_dims_rope=(4, 4, 4, 4), guidance_embeds=False,
    )  # fmt: skip
    for name, parameter in transformer.named_parameters():
        if "modulation" in name:
            parameter.data *= 20  # gates that stand open, so that a picture shows what the layers say
    return Flux2KleinPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, shift=3.0), vae=own, tokenizer=tokenizer,
        text_encoder=qwen3(tokenizer, "Qwen3ForCausalLM", 28), transformer=transformer.eval(), is_distilled=distilled,
    )  # fmt: skip


def sd3():
    """Stable Diffusion 3.5 at 16 px (8 x 8 latents in patches of 2 x 2), its first block with two attentions."""
    from diffusers import FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel, StableDiffusion3Pipeline
    from transformers import T5Config, T5EncoderModel

    torch.manual_seed(0)
    clip, t5 = clip_tokenizer(), t5_tokenizer()
    transformer = SD3Transformer2DModel(
        sample_size=8, patch_size=2, in_channels=4, out_channels=4, num_layers=2, attention_head_dim=8, num_attention_heads=4,
        joint_attention_dim=64, caption_projection_dim=32, pooled_projection_dim=64, pos_embed_max_size=16, qk_norm="rms_norm",
        dual_attention_layers=(0,),
    )  # fmt: skip
    encoder = T5EncoderModel(T5Config(vocab_size=len(t5), d_model=64, d_kv=8, d_ff=37, num_layers=2, num_heads=4)).eval()
    own = vae(4, use_quant_conv=False, use_post_quant_conv=False, shift_factor=0.0609, scaling_factor=1.5305)
    return StableDiffusion3Pipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0), vae=own, text_encoder=clip_text(clip, projection=True), tokenizer=clip,
        text_encoder_2=clip_text(clip, projection=True), tokenizer_2=clip, text_encoder_3=encoder, tokenizer_3=t5,
        transformer=transformer.eval(),
    )  # fmt: skip


def z_image():
    """Z-Image at 16 px (8 x 8 latents in patches of 2 x 2), its padding tokens something else than zeros."""
    from diffusers import FlowMatchEulerDiscreteScheduler, ZImagePipeline, ZImageTransformer2DModel

    torch.manual_seed(0)
    tokenizer = qwen_tokenizer()
    transformer = ZImageTransformer2DModel(
        in_channels=4, dim=32, n_layers=2, n_refiner_layers=1, n_heads=2, n_kv_heads=2, cap_feat_dim=16, axes_dims=[8, 4, 4],
        axes_lens=[576, 32, 32],
    )  # fmt: skip
    torch.nn.init.normal_(transformer.x_pad_token)
    torch.nn.init.normal_(transformer.cap_pad_token)
    own = vae(4, use_quant_conv=False, use_post_quant_conv=False, shift_factor=0.1159, scaling_factor=0.3611)
    return ZImagePipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0), vae=own, text_encoder=qwen3(tokenizer, "Qwen3Model", 3), tokenizer=tokenizer,
        transformer=transformer.eval(),
    )  # fmt: skip


def deepfloyd_unet(size: int, inputs: int, **other):
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(
        sample_size=size, layers_per_block=1, block_out_channels=(8, 16), norm_num_groups=4, in_channels=inputs, out_channels=6,
        down_block_types=("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"), mid_block_type="UNetMidBlock2DSimpleCrossAttn",
        up_block_types=("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"), cross_attention_dim=32, encoder_hid_dim=32,
        encoder_hid_dim_type="text_proj", attention_head_dim=4, addition_embed_type="text", addition_embed_type_num_heads=2,
        cross_attention_norm="group_norm", resnet_time_scale_shift="scale_shift", act_fn="gelu", **other,
    ).eval()  # fmt: skip


def deepfloyd_parts() -> dict:
    """What both stages have: T5, and a sampler that clips pictures by their own range and reads a variance from the network."""
    from diffusers import DDPMScheduler
    from transformers import T5Config, T5EncoderModel

    t5 = t5_tokenizer(77)
    scheduler = DDPMScheduler(
        beta_schedule="squaredcos_cap_v2", thresholding=True, dynamic_thresholding_ratio=0.95, sample_max_value=1.5,
        variance_type="learned_range",
    )  # fmt: skip
    encoder = T5EncoderModel(T5Config(vocab_size=len(t5), d_model=32, d_kv=8, d_ff=37, num_layers=2, num_heads=4)).eval()
    absent = dict.fromkeys(("safety_checker", "feature_extractor", "watermarker"))
    return {"tokenizer": t5, "text_encoder": encoder, "scheduler": scheduler, **absent, "requires_safety_checker": False}


def deepfloyd():
    """DeepFloyd IF's first stage at 8 px."""
    from diffusers import IFPipeline

    torch.manual_seed(0)
    return IFPipeline(**deepfloyd_parts(), unet=deepfloyd_unet(8, 3))


def deepfloyd_superresolution():
    """DeepFloyd IF's second stage, 8 to 32 px."""
    from diffusers import DDPMScheduler, IFSuperResolutionPipeline

    torch.manual_seed(0)
    own = {"class_embed_type": "timestep", "mid_block_scale_factor": 1.414, "time_embedding_act_fn": "gelu", "time_embedding_dim": 16}
    noising = DDPMScheduler(beta_schedule="squaredcos_cap_v2")
    return IFSuperResolutionPipeline(**deepfloyd_parts(), unet=deepfloyd_unet(32, 6, **own), image_noising_scheduler=noising)


def upscaler():
    """The x4 upscaler, 8 to 32 px."""
    from diffusers import AutoencoderKL, DDIMScheduler, DDPMScheduler, StableDiffusionUpscalePipeline, UNet2DConditionModel

    torch.manual_seed(0)
    tokenizer = clip_tokenizer()
    unet = UNet2DConditionModel(
        sample_size=8, in_channels=7, out_channels=4, block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4,
        cross_attention_dim=32, attention_head_dim=4, down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"), num_class_embeds=1000, use_linear_projection=True,
    )  # fmt: skip
    own = AutoencoderKL(
        sample_size=32, block_out_channels=(8, 16, 16), norm_num_groups=4, down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3, scaling_factor=0.08333,
    )  # fmt: skip
    betas = {"beta_start": 0.0001, "beta_end": 0.02, "beta_schedule": "scaled_linear"}
    return StableDiffusionUpscalePipeline(
        vae=own.eval(), text_encoder=clip_text(tokenizer), tokenizer=tokenizer, unet=unet.eval(), low_res_scheduler=DDPMScheduler(**betas),
        scheduler=DDIMScheduler(**betas, prediction_type="v_prediction", clip_sample=False, set_alpha_to_one=False), safety_checker=None,
        feature_extractor=None, watermarker=None,
    )  # fmt: skip


CASCADE = {"deepfloyd": deepfloyd, "deepfloyd_superresolution": deepfloyd_superresolution, "upscaler": upscaler}
PIPELINES = {
    "stable_diffusion": stable_diffusion, "sdxl": sdxl, "flux": flux, "flux2": flux2, "sd3": sd3, "z_image": z_image, **CASCADE,
}  # fmt: skip


def photos(folder: Path, count: int = 4, size: tuple[int, int] = (24, 24)) -> Path:
    """A folder of small coloured pictures, each different."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for number in range(count):
        coarse = rng.integers(0, 255, (4, 4, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).save(folder / f"{number}.png")
    return folder


def load(folder: Path, **source):
    """The family of a pipeline folder, loaded."""
    from dreambooth.families import ModelSource, family_of

    where = ModelSource(pretrained_model_name_or_path=str(folder), **source)
    return family_of(where).load(where)


def small_pictures(count: int = 1, side: int = 4, seed: int = 3) -> torch.Tensor:
    """What a stage before might have drawn, [count, 3, side, side] in [-1, 1]."""
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def draw(family, prompts, seeds, **options):
    """Our pictures, of small ones that are a function of the seed where the model makes small ones large."""
    from dreambooth.families import sampling

    class Small(sampling.Smaller):
        def __call__(self, prompts, seeds):
            blank = Image.new("RGB", (4, 4))
            return [sampling.Picture(blank, "", 0, True, pixels=small_pictures(seed=seed)[0]) for seed in seeds]

    return sampling.draw(family, prompts, seeds, smaller=Small() if family.conditioning_channels else None, **options)


def picture(pipe, prompt: str = "a sks dog", **options) -> torch.Tensor:
    """What a pipeline of diffusers draws in two steps, [3, 16, 16]; one that makes small pictures large does so with one."""
    pipe.set_progress_bar_config(disable=True)
    known = inspect.signature(type(pipe).__call__).parameters
    options |= {"height": 16, "width": 16} if "height" in known else {}
    options |= {"image": small_pictures()} if "noise_level" in known else {}
    if "max_sequence_length" in inspect.signature(type(pipe).__call__).parameters:
        tokenizers = [part for name, part in pipe.components.items() if name.startswith("tokenizer")]
        options["max_sequence_length"] = tokenizers[-1].model_max_length
    rng = torch.Generator().manual_seed(3)
    with torch.no_grad():
        return pipe(prompt=prompt, num_inference_steps=2, generator=rng, output_type="pt", **options).images[0]
