"""Flags of diffusers' scripts (DreamBooth, Textual Inversion, Custom Diffusion) and of the ShivamShrirao fork
that are spelt otherwise here, or have nothing left to do."""

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
    "set_grads_to_none": Alias((), True, notice=_ALWAYS),
    "dataloader_num_workers": Alias((), notice="has nothing to do: pictures are encoded once, before the training."),
    "local_rank": Alias((), notice="has nothing to do: the launcher's environment says it."),
    "enable_xformers_memory_efficient_attention": Alias((), True, notice="PyTorch's own memory-efficient attention does this job."),
    "pretrained_vae_model_name_or_path": Alias("pretrained_vae_name_or_path"),
    "upcast_before_saving": Alias((), True, notice=_ALWAYS),
    "enable_npu_flash_attention": Alias((), True, notice="PyTorch's own attention does this job."),
    "max_sequence_length": Alias("tokenizer_max_length"),
    "modifier_token": Alias("placeholder_token"),
    "learnable_property": Alias("concept"),
    "train_data_dir": Alias("instance_data_dir"),
    "dataset_name": Alias(None, refused="photos are read from a folder (--instance_data_dir)."),
    "dataset_config_name": Alias(None, refused="photos are read from a folder (--instance_data_dir)."),
    "image_column": Alias(None, refused="photos are read from a folder (--instance_data_dir)."),
    "caption_column": Alias(None, refused="captions are .txt files beside the photos."),
    "repeats": Alias(None, refused="photos repeat until --max_train_steps; there is no need to count."),
    "do_edm_style_training": Alias(None, refused="models with EDM's preconditioning (Playground v2.5) are not here yet."),
    "adam_weight_decay_text_encoder": Alias(None, refused="all parts share --adam_weight_decay."),
    "deepspeed": Alias(
        None, refused="DeepSpeed is not supported; for small cards use --method lora --gradient_checkpointing --use_8bit_adam."
    ),
}
