"""Pipelines of every family in the real layout, small enough for a test, and photos to train them on."""

import inspect
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

WORDS = ("a", "dog", "cat", "sks", "photo", "of", "on", "the", "beach", "in", "snow", "toy", "painting", "style", "red")


def merges_of(words: Iterable[Sequence[str]], vocabulary: list[str]) -> list[tuple[str, str]]:
    """Merges by which each word, given letter by letter, becomes one token; what comes of them is added to the vocabulary."""
    merges: list[tuple[str, str]] = []
    for left, *others in words:
        for right in others:
            if (left, right) not in merges:
                merges.append((left, right))
            left += right
            if left not in vocabulary:
                vocabulary.append(left)
    return merges


def clip_tokenizer(length: int = 77):
    """A CLIP tokenizer whose vocabulary holds every byte and a few whole words."""
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import CLIPTokenizer

    alphabet = sorted(ByteLevel.alphabet())
    vocabulary = [*alphabet, *(letter + "</w>" for letter in alphabet)]
    merges = merges_of([[*word[:-1], word[-1] + "</w>"] for word in WORDS], vocabulary)
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


TEMPLATE = (
    "system user assistant Describe Ġthe Ġimage Ġby Ġdetailing Ġcolor Ġshape Ġsize Ġtexture Ġquantity Ġtext Ġspatial Ġrelationships Ġof "
    "Ġobjects Ġand Ġbackground"
)
"""The words that Qwen-Image and Krea 2 have around a prompt: with them as tokens it stands behind 34, as it should."""


def qwen_tokenizer(length: int = 128, words: str = ""):
    """A Qwen tokenizer of single bytes and some words, with the chat template."""
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import Qwen2Tokenizer

    vocabulary = sorted(ByteLevel.alphabet())
    merges = merges_of(words.split(), vocabulary)
    vocabulary += ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    tokenizer = Qwen2Tokenizer(vocab={token: place for place, token in enumerate(vocabulary)}, merges=merges, model_max_length=length)
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


def flux2_networks(*, guidance: bool):
    """The VAE and the transformer of a FLUX.2 of 16 px (4 x 4 patches of latents)."""
    from diffusers import AutoencoderKLFlux2, Flux2Transformer2DModel

    own = AutoencoderKLFlux2(
        sample_size=16, block_out_channels=(8, 16), layers_per_block=1, latent_channels=4, norm_num_groups=4,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
    ).eval()  # fmt: skip
    own.bn.running_mean.copy_(torch.linspace(-0.5, 0.5, 16))
    own.bn.running_var.copy_(torch.linspace(0.5, 2, 16))
    transformer = Flux2Transformer2DModel(
        patch_size=1, in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=48, timestep_guidance_channels=32, axes_dims_rope=(4, 4, 4, 4), guidance_embeds=guidance,
    )  # fmt: skip
    for name, parameter in transformer.named_parameters():
        if "modulation" in name:
            parameter.data *= 20  # gates that stand open, so that a picture shows what the layers say
    return own, transformer.eval()


def flux2(distilled: bool = False):
    """FLUX.2 klein."""
    from diffusers import FlowMatchEulerDiscreteScheduler, Flux2KleinPipeline

    torch.manual_seed(0)
    tokenizer = qwen_tokenizer()
    own, transformer = flux2_networks(guidance=False)
    return Flux2KleinPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, shift=3.0), vae=own, tokenizer=tokenizer,
        text_encoder=qwen3(tokenizer, "Qwen3ForCausalLM", 28), transformer=transformer, is_distilled=distilled,
    )  # fmt: skip


MISTRAL = (
    "{{ '<s>' }}{% for m in messages %}{% set text = m['content'][0]['text'] %}"
    "{% if m['role'] == 'system' %}{{ '[SYSTEM_PROMPT]' + text + '[/SYSTEM_PROMPT]' }}"
    "{% else %}{{ '[INST]' + text + '[/INST]' }}{% endif %}{% endfor %}"
)
"""Mistral's chat template, for a system message and one of a user's."""


def mistral_tokenizer(length: int = 256):
    """A Mistral tokenizer of single bytes, with the chat template."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast

    special = ["<unk>", "<s>", "</s>", "<pad>", "[INST]", "[/INST]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]", "[IMG]"]
    vocabulary = {token: place for place, token in enumerate([*special, *sorted(pre_tokenizers.ByteLevel.alphabet())])}
    raw = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token="<unk>"))
    raw.pre_tokenizer, raw.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    raw.post_processor = TemplateProcessing(single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=raw, unk_token="<unk>", bos_token="<s>", eos_token="</s>", pad_token="<pad>", padding_side="right",
        extra_special_tokens=special[4:], model_max_length=length, chat_template=MISTRAL,
    )  # fmt: skip


def flux2_dev():
    """FLUX.2 dev."""
    from diffusers import FlowMatchEulerDiscreteScheduler, Flux2Pipeline
    from transformers import Mistral3Config, Mistral3ForConditionalGeneration

    torch.manual_seed(0)
    tokenizer = mistral_tokenizer()
    own, transformer = flux2_networks(guidance=True)
    encoder = Mistral3Config(
        text_config={
            "model_type": "mistral", "vocab_size": len(tokenizer), "hidden_size": 16, "intermediate_size": 16,
            "max_position_embeddings": 512, "num_attention_heads": 2, "num_hidden_layers": 31, "num_key_value_heads": 2, "head_dim": 8,
            "sliding_window": None, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 3,
        },
        vision_config={
            "model_type": "pixtral", "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "head_dim": 8,
            "intermediate_size": 16, "image_size": 30, "patch_size": 6, "num_channels": 3,
        },
        image_token_index=8,
    )  # fmt: skip
    return Flux2Pipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, shift=3.0), vae=own, tokenizer=tokenizer,
        text_encoder=Mistral3ForConditionalGeneration(encoder).eval(), transformer=transformer,
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


def video_vae():
    """Qwen-Image's VAE with a factor of 2, its normalization different in every channel."""
    from diffusers import AutoencoderKLQwenImage

    return AutoencoderKLQwenImage(
        base_dim=8, z_dim=4, dim_mult=[1, 2], num_res_blocks=1, temperal_downsample=[False], latents_mean=[-0.5, 0.0, 0.1, 0.3],
        latents_std=[1.5, 1.0, 2.0, 0.7],
    ).eval()  # fmt: skip


def krea2(distilled: bool = False):
    """Krea 2 at 16 px (8 x 8 latents in patches of 2 x 2), reading three of four layers; what starts as zeros is something else."""
    from diffusers import FlowMatchEulerDiscreteScheduler, Krea2Pipeline, Krea2Transformer2DModel
    from transformers import Qwen3VLConfig, Qwen3VLModel

    torch.manual_seed(0)
    tokenizer = qwen_tokenizer(64, TEMPLATE)
    last = len(tokenizer) - 1
    transformer = Krea2Transformer2DModel(
        in_channels=16, num_layers=2, attention_head_dim=8, num_attention_heads=4, num_key_value_heads=2, intermediate_size=32,
        timestep_embed_dim=8, text_hidden_dim=16, num_text_layers=3, text_num_attention_heads=2, text_num_key_value_heads=1,
        text_intermediate_size=16, num_layerwise_text_blocks=1, num_refiner_text_blocks=1, axes_dims_rope=(4, 2, 2),
    )  # fmt: skip
    for name, parameter in transformer.named_parameters():
        if "scale_shift_table" in name or "norm" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    rotary = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [2, 1, 1], "mrope_interleaved": True}
    encoder = Qwen3VLConfig(
        text_config={
            "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2, "num_key_value_heads": 2,
            "head_dim": 8, "vocab_size": len(tokenizer), "max_position_embeddings": 2048, "rope_parameters": rotary,
        },
        vision_config={
            "depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": 16, "num_position_embeddings": 16,
            "deepstack_visual_indexes": [0],
        },
        image_token_id=last, video_token_id=last, vision_start_token_id=last, vision_end_token_id=last,
    )  # fmt: skip
    scheduler = FlowMatchEulerDiscreteScheduler(
        use_dynamic_shifting=True, base_shift=0.5, max_shift=1.15, base_image_seq_len=256, max_image_seq_len=6400
    )
    return Krea2Pipeline(
        scheduler=scheduler, vae=video_vae(), text_encoder=Qwen3VLModel(encoder).eval(), tokenizer=tokenizer,
        transformer=transformer.eval(), text_encoder_select_layers=(1, 2, 3), is_distilled=distilled,
    )  # fmt: skip


def qwen_image():
    """Qwen-Image at 16 px (8 x 8 latents in patches of 2 x 2)."""
    from diffusers import FlowMatchEulerDiscreteScheduler, QwenImagePipeline, QwenImageTransformer2DModel
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    torch.manual_seed(0)
    tokenizer = qwen_tokenizer(64, TEMPLATE)
    last = len(tokenizer) - 1
    transformer = QwenImageTransformer2DModel(
        patch_size=2, in_channels=16, out_channels=4, num_layers=2, attention_head_dim=16, num_attention_heads=2, joint_attention_dim=16,
        axes_dims_rope=(8, 4, 4),
    )  # fmt: skip
    for name, parameter in transformer.named_parameters():
        if "_mod." in name:
            parameter.data *= 20  # as in FLUX.2
    encoder = Qwen2_5_VLConfig(
        text_config={
            "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 2,
            "vocab_size": len(tokenizer), "max_position_embeddings": 2048,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [1, 1, 2]},
        },
        vision_config={"depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": 16},
        image_token_id=last, video_token_id=last, vision_start_token_id=last, vision_end_token_id=last,
    )  # fmt: skip
    scheduler = FlowMatchEulerDiscreteScheduler(
        use_dynamic_shifting=True, base_shift=0.5, max_shift=0.9, base_image_seq_len=256, max_image_seq_len=8192, shift_terminal=0.02
    )
    return QwenImagePipeline(
        scheduler=scheduler, vae=video_vae(), text_encoder=Qwen2_5_VLForConditionalGeneration(encoder).eval(), tokenizer=tokenizer,
        transformer=transformer.eval(),
    )  # fmt: skip


def pixart_sigma():
    """PixArt-Sigma at 16 px (8 x 8 latents in patches of 2 x 2)."""
    from diffusers import DPMSolverMultistepScheduler, PixArtSigmaPipeline, PixArtTransformer2DModel
    from transformers import T5Config, T5EncoderModel

    torch.manual_seed(0)
    tokenizer = t5_tokenizer()
    transformer = PixArtTransformer2DModel(
        sample_size=8, num_layers=2, patch_size=2, attention_head_dim=8, num_attention_heads=3, caption_channels=32, in_channels=4,
        cross_attention_dim=24, out_channels=8, use_additional_conditions=False,
    )  # fmt: skip
    scheduler = DPMSolverMultistepScheduler(beta_start=0.0001, beta_end=0.02, beta_schedule="linear")
    encoder = T5EncoderModel(T5Config(vocab_size=len(tokenizer), d_model=32, d_kv=8, d_ff=37, num_layers=2, num_heads=4)).eval()
    return PixArtSigmaPipeline(
        tokenizer=tokenizer, text_encoder=encoder, vae=vae(scaling_factor=0.13025), transformer=transformer.eval(), scheduler=scheduler
    )


def gemma_tokenizer(length: int = 64):
    """A Gemma tokenizer of small letters and single bytes."""
    from tokenizers.processors import TemplateProcessing
    from transformers import GemmaTokenizer

    letters = ["▁", *"abcdefghijklmnopqrstuvwxyz", *(f"<0x{byte:02X}>" for byte in range(256))]
    vocabulary = {token: place for place, token in enumerate(["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", *letters])}
    tokenizer = GemmaTokenizer(vocab=vocabulary, merges=[], model_max_length=length)
    start = TemplateProcessing(single="<bos> $A", pair="<bos> $A $B", special_tokens=[("<bos>", 2)])
    tokenizer._tokenizer.post_processor = start
    return tokenizer


def sana():
    """Sana at 16 px (8 x 8 latents), whose pipeline's own rule, multiples of 32 px, holds for its VAE's factor of 32; here it is 2."""
    from diffusers import AutoencoderDC, DPMSolverMultistepScheduler, SanaPipeline, SanaTransformer2DModel
    from transformers import Gemma2Config, Gemma2Model

    torch.manual_seed(0)
    SanaPipeline.check_inputs = lambda *args, **options: None
    tokenizer = gemma_tokenizer()
    transformer = SanaTransformer2DModel(
        in_channels=4, out_channels=4, num_layers=1, num_attention_heads=2, attention_head_dim=8, num_cross_attention_heads=2,
        cross_attention_head_dim=8, cross_attention_dim=16, caption_channels=16, sample_size=8, patch_size=1, timestep_scale=0.5,
    )  # fmt: skip
    blocks = ("ResBlock", "EfficientViTBlock")
    own = AutoencoderDC(
        latent_channels=4, attention_head_dim=4, encoder_block_types=blocks, decoder_block_types=blocks, encoder_block_out_channels=(8, 16),
        decoder_block_out_channels=(8, 16), encoder_layers_per_block=(1, 1), decoder_layers_per_block=(1, 1),
        encoder_qkv_multiscales=((), (5,)), decoder_qkv_multiscales=((), (5,)), downsample_block_type="conv",
        upsample_block_type="interpolate", scaling_factor=0.41407,
    )  # fmt: skip
    encoder = Gemma2Config(
        head_dim=8, hidden_size=16, intermediate_size=16, max_position_embeddings=2048, num_attention_heads=2, num_hidden_layers=2,
        num_key_value_heads=1, vocab_size=len(tokenizer), pad_token_id=0, eos_token_id=1, bos_token_id=2, query_pre_attn_scalar=8,
    )  # fmt: skip
    scheduler = DPMSolverMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0)
    return SanaPipeline(
        tokenizer=tokenizer, text_encoder=Gemma2Model(encoder).eval(), vae=own.eval(), transformer=transformer.eval(), scheduler=scheduler
    )


PIPELINES = {
    "stable_diffusion": stable_diffusion, "sdxl": sdxl, "flux": flux, "flux2": flux2, "sd3": sd3, "z_image": z_image,
    "krea2": krea2, "qwen_image": qwen_image, "pixart_sigma": pixart_sigma, "sana": sana,
    "flux2_dev": flux2_dev, **CASCADE,
}  # fmt: skip


def safety_checker(folder: Path, *, threshold: float = -2.0) -> Path:
    """A pipeline folder with a safety checker in it, laid out as Stable Diffusion's: it objects to pictures whose likeness to one of its
    concepts, a cosine, is above `threshold`: to all of them, to none at 2."""
    from diffusers.pipelines.stable_diffusion import StableDiffusionSafetyChecker
    from transformers import CLIPConfig

    size = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
    torch.manual_seed(5)
    checker = StableDiffusionSafetyChecker(CLIPConfig(vision_config={**size, "image_size": 32, "patch_size": 8}, projection_dim=12))
    torch.nn.init.normal_(checker.concept_embeds)
    torch.nn.init.constant_(checker.concept_embeds_weights, threshold)
    checker.save_pretrained(folder / "safety_checker")
    preprocessor = {
        "crop_size": {"height": 32, "width": 32}, "do_center_crop": True, "do_convert_rgb": True, "do_normalize": True,
        "do_rescale": True, "do_resize": True, "feature_extractor_type": "CLIPFeatureExtractor",
        "image_mean": [0.48145466, 0.4578275, 0.40821073], "image_processor_type": "CLIPFeatureExtractor",
        "image_std": [0.26862954, 0.26130258, 0.27577711], "resample": 3, "rescale_factor": 1 / 255, "size": {"shortest_edge": 32},
        "use_square_size": False,
    }  # fmt: skip
    (folder / "feature_extractor").mkdir()
    (folder / "feature_extractor" / "preprocessor_config.json").write_text(json.dumps(preprocessor))
    path = folder / "model_index.json"
    index = json.loads(path.read_text()) | {
        "safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"], "requires_safety_checker": True,
        "feature_extractor": ["transformers", "CLIPFeatureExtractor"],
    }  # fmt: skip
    path.write_text(json.dumps(index))
    return folder


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
    if "use_resolution_binning" in inspect.signature(type(pipe).__call__).parameters:
        options |= {"use_resolution_binning": False, "clean_caption": False}
    rng = torch.Generator().manual_seed(3)
    with torch.no_grad():
        return pipe(prompt=prompt, num_inference_steps=2, generator=rng, output_type="pt", **options).images[0]


def wide_clip(tokenizer, width: int, *, projection: bool = False):
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    config = CLIPTextConfig(
        hidden_size=width, intermediate_size=2 * width, num_attention_heads=4, num_hidden_layers=2, projection_dim=width,
        vocab_size=len(tokenizer), max_position_embeddings=77, bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id, hidden_act="gelu" if projection else "quick_gelu",
    )  # fmt: skip
    return (CLIPTextModelWithProjection if projection else CLIPTextModel)(config).eval()


def deep_vae(**other):
    """A VAE with the real count of levels: 16 pixels are 2 latents."""
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        sample_size=64, block_out_channels=(4, 8, 8, 8), norm_num_groups=4, latent_channels=4, layers_per_block=2,
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4, **other,
    ).eval()  # fmt: skip


def sd_shaped(prediction_type: str = "epsilon"):
    """Stable Diffusion with as many levels and blocks as the real one, 64 px (8 x 8 latents)."""
    from diffusers import DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel

    torch.manual_seed(0)
    tokenizer = clip_tokenizer()
    unet = UNet2DConditionModel(
        sample_size=8, block_out_channels=(8, 16, 16, 16), layers_per_block=2, norm_num_groups=4, cross_attention_dim=32,
        attention_head_dim=4, down_block_types=("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
        up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
    )  # fmt: skip
    scheduler = DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, set_alpha_to_one=False, steps_offset=1,
        prediction_type=prediction_type,
    )  # fmt: skip
    return StableDiffusionPipeline(
        vae=deep_vae(), text_encoder=wide_clip(tokenizer, 32), tokenizer=tokenizer, unet=unet.eval(), scheduler=scheduler,
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip


def sdxl_shaped():
    """SDXL with as many levels and blocks as the real one, and text encoders of two widths."""
    from diffusers import EulerDiscreteScheduler, StableDiffusionXLPipeline, UNet2DConditionModel

    torch.manual_seed(0)
    tokenizer = clip_tokenizer()
    unet = UNet2DConditionModel(
        sample_size=8, block_out_channels=(8, 16, 16), layers_per_block=2, norm_num_groups=4, cross_attention_dim=80,
        attention_head_dim=(2, 4, 4), down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"), use_linear_projection=True,
        transformer_layers_per_block=(1, 2, 2), addition_embed_type="text_time", addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=96,
    )  # fmt: skip
    scheduler = EulerDiscreteScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1)
    return StableDiffusionXLPipeline(
        vae=deep_vae(), text_encoder=wide_clip(tokenizer, 32), text_encoder_2=wide_clip(tokenizer, 48, projection=True),
        tokenizer=tokenizer, tokenizer_2=tokenizer, unet=unet.eval(), scheduler=scheduler, add_watermarker=False,
    )  # fmt: skip
