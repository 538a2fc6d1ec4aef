"""Flags of diffusers' scripts and of the ShivamShrirao fork that are spelt otherwise here, or have nothing left to do."""

from dreambooth.cli.parse import Alias

_ALWAYS = "always so here."

ALIASES: dict[str, Alias] = {
    "offset_noise": Alias("offset_noise", 0.1),
    "guidance_scale": Alias("train_guidance_scale"),
    "not_cache_latents": Alias("cache_latents", False),
    "save_sample_prompt": Alias("validation_prompt"),
    "save_sample_negative_prompt": Alias("validation_negative_prompt"),
    "n_save_sample": Alias("num_validation_images"),
    "save_guidance_scale": Alias("validation_guidance_scale"),
    "save_infer_steps": Alias("validation_inference_steps"),
    "save_interval": Alias(("checkpointing_steps", "validation_steps")),
    "save_min_steps": Alias("validation_min_steps"),
    "set_grads_to_none": Alias((), True, told=_ALWAYS),
    "dataloader_num_workers": Alias((), told="has nothing to do: pictures are encoded once, before the training."),
    "local_rank": Alias((), told="has nothing to do: the launcher's environment says it."),
    "enable_xformers_memory_efficient_attention": Alias((), True, told="PyTorch's own memory-efficient attention does this job."),
    "class_labels_conditioning": Alias(None, refused="is for DeepFloyd IF, whose family is not here yet."),
    "validation_images": Alias(None, refused="is for DeepFloyd IF's super-resolution stage, whose family is not here yet."),
    "deepspeed": Alias(
        None, refused="DeepSpeed is not supported; for small cards use --method lora --gradient_checkpointing --use_8bit_adam."
    ),
}
