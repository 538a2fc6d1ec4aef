"""Every flag of train_dreambooth.py and train_dreambooth_lora.py with its default there (diffusers at 0.40), and a value to try.

Facts, collected from the scripts' own argument parsers. Flags that take no value are switches.
"""

from dataclasses import dataclass
from typing import Any

ABSENT = object()
"""The script has no such flag."""
NEEDED = object()
"""The script asks for it."""


@dataclass(frozen=True)
class Row:
    """A flag of the scripts: a value to try with what our setting then holds, and the default in each script."""

    flag: str
    words: str
    held: Any
    full: Any
    lora: Any

    def __str__(self) -> str:
        return self.flag


def _both(flag: str, words: str, held: Any, default: Any) -> Row:
    return Row(flag, words, held, default, default)


ROWS = (
    _both("pretrained_model_name_or_path", "model", "model", NEEDED),
    _both("revision", "main", "main", None),
    _both("variant", "fp16", "fp16", None),
    _both("tokenizer_name", "words", "words", None),
    _both("instance_data_dir", "photos", "photos", NEEDED),
    _both("class_data_dir", "dogs", "dogs", None),
    _both("instance_prompt", "photo", "photo", NEEDED),
    _both("class_prompt", "dog", "dog", None),
    _both("with_prior_preservation", "", True, False),
    _both("prior_loss_weight", "0.5", 0.5, 1.0),
    _both("num_class_images", "7", 7, 100),
    Row("output_dir", "run", "run", "dreambooth-model", "lora-dreambooth-model"),
    _both("seed", "3", 3, None),
    _both("resolution", "256", 256, 512),
    _both("center_crop", "", True, False),
    _both("train_text_encoder", "", True, False),
    _both("train_batch_size", "2", 2, 4),
    _both("sample_batch_size", "2", 2, 4),
    _both("num_train_epochs", "3", 3, 1),
    _both("max_train_steps", "9", 9, None),
    _both("checkpointing_steps", "5", 5, 500),
    _both("checkpoints_total_limit", "2", 2, None),
    _both("resume_from_checkpoint", "latest", "latest", None),
    _both("gradient_accumulation_steps", "2", 2, 1),
    _both("gradient_checkpointing", "", True, False),
    Row("learning_rate", "1e-6", 1e-6, 5e-6, 5e-4),
    _both("scale_lr", "", True, False),
    _both("lr_scheduler", "cosine", "cosine", "constant"),
    _both("lr_warmup_steps", "4", 4, 500),
    _both("lr_num_cycles", "2", 2, 1),
    _both("lr_power", "2.0", 2.0, 1.0),
    _both("use_8bit_adam", "", True, False),
    _both("adam_beta1", "0.8", 0.8, 0.9),
    _both("adam_beta2", "0.99", 0.99, 0.999),
    _both("adam_weight_decay", "1e-3", 1e-3, 1e-2),
    _both("adam_epsilon", "1e-7", 1e-7, 1e-8),
    _both("max_grad_norm", "0.5", 0.5, 1.0),
    _both("push_to_hub", "", True, False),
    _both("hub_token", "secret", "secret", None),
    _both("hub_model_id", "me/dog", "me/dog", None),
    _both("logging_dir", "tracks", "tracks", "logs"),
    _both("allow_tf32", "", True, False),
    _both("report_to", "wandb", ("wandb",), "tensorboard"),
    _both("validation_prompt", "a dog", "a dog", None),
    _both("num_validation_images", "2", 2, 4),
    _both("validation_images", "one.png", ("one.png",), None),
    _both("class_labels_conditioning", "timesteps", "timesteps", None),
    _both("mixed_precision", "bf16", "bf16", None),
    _both("prior_generation_precision", "fp32", "fp32", None),
    _both("pre_compute_text_embeddings", "", True, False),
    _both("tokenizer_max_length", "32", 32, None),
    _both("text_encoder_use_attention_mask", "", True, False),
    Row("validation_steps", "50", 50, 100, ABSENT),
    Row("offset_noise", "", 0.1, False, ABSENT),
    Row("snr_gamma", "5.0", 5.0, None, ABSENT),
    Row("skip_save_text_encoder", "", True, False, ABSENT),
    Row("validation_scheduler", "DDPMScheduler", "DDPMScheduler", "DPMSolverMultistepScheduler", ABSENT),
    Row("validation_epochs", "2", 2, ABSENT, 50),
    Row("rank", "8", 8, ABSENT, 4),
    Row("lora_dropout", "0.1", 0.1, ABSENT, 0.0),
    Row("image_interpolation_mode", "bicubic", "bicubic", ABSENT, "lanczos"),
)

NOTHING_TO_DO = {
    "dataloader_num_workers": "2",
    "local_rank": "-1",
    "enable_xformers_memory_efficient_attention": "",
    "set_grads_to_none": "",
}
"""Flags that are taken, and told to have nothing to do."""

DIFFERENT = {
    "pretrained_model_name_or_path": ("toybox", "the embedded model, for a first look"),
    "with_prior_preservation": (None, "left out, it is on with --class_noun, which the scripts do not have"),
    "report_to": ((), "metrics.jsonl is always written; the scripts drop tensorboard silently where it is not installed"),
    "mixed_precision": ("no", "the scripts' None is what accelerate's configuration says, which is no when it says nothing"),
    "validation_images": ((), "none, too"),
    "validation_steps": (None, "left out, 100 updates, or --validation_epochs"),
}
"""Defaults that are not the scripts' own under `--preset diffusers`: ours, and why."""
