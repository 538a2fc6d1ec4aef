"""Settings of kohya's trainers: the TOML that `--config_file` takes there, and folders named by what they hold (`10_sks dog`)."""

import logging
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dreambooth.core.errors import SettingError, first_line
from dreambooth.core.trees import place
from dreambooth.core.wording import shortened, shown
from dreambooth.files.text import read_text
from dreambooth.schema import flags
from dreambooth.setup.config import TrainConfig

FLAG = "--config"
FOLDER = re.compile(r"([0-9]+)_(.+)")
log = logging.getLogger(__name__)

SAME = {
    "pretrained_model_name_or_path": "pretrained_model_name_or_path", "vae": "pretrained_vae_name_or_path", "output_dir": "output_dir",
    "logging_dir": "logging_dir", "max_train_steps": "max_train_steps", "max_train_epochs": "num_train_epochs",
    "train_batch_size": "train_batch_size", "gradient_accumulation_steps": "gradient_accumulation_steps",
    "gradient_checkpointing": "gradient_checkpointing", "mixed_precision": "mixed_precision", "seed": "seed",
    "learning_rate": "learning_rate", "unet_lr": "learning_rate", "text_encoder_lr": "text_encoder_lr", "lr_scheduler": "lr_scheduler",
    "lr_warmup_steps": "lr_warmup_steps", "lr_scheduler_num_cycles": "lr_num_cycles", "lr_scheduler_power": "lr_power",
    "max_grad_norm": "max_grad_norm", "network_dim": "rank", "network_alpha": "lora_alpha", "network_dropout": "lora_dropout",
    "prior_loss_weight": "prior_loss_weight", "min_snr_gamma": "snr_gamma", "noise_offset": "offset_noise", "flip_aug": "random_flip",
    "enable_bucket": "aspect_ratio_buckets", "cache_latents": "cache_latents", "save_every_n_steps": "checkpointing_steps",
    "masked_loss": "masked_loss", "discrete_flow_shift": "flow_shift", "guidance_scale": "train_guidance_scale",
    "min_timestep": "min_timestep", "max_timestep": "max_timestep", "v2": "", "v_parameterization": "", "xformers": "", "sdpa": "",
    "max_data_loader_n_workers": "", "persistent_data_loader_workers": "", "save_model_as": "", "output_name": "", "log_with": "",
    "cache_latents_to_disk": "", "cache_text_encoder_outputs": "", "cache_text_encoder_outputs_to_disk": "", "mem_eff_attn": "",
    "caption_extension": "", "bucket_reso_steps": "", "bucket_no_upscale": "", "min_bucket_reso": "", "max_bucket_reso": "",
    "max_token_length": "", "save_precision": "", "no_half_vae": "", "lowram": "", "highvram": "", "network_train_unet_only": "",
}  # fmt: skip
"""Keys of kohya's with the setting that they are here; empty for what is so anyway, or is found by itself."""
EIGHT_BITS = {"use_8bit_adam": True}
OPTIMIZERS = {"adamw": {}, "adamw8bit": EIGHT_BITS, "pagedadamw8bit": EIGHT_BITS, "prodigy": {"optimizer": "prodigy"}}
ALGORITHMS = {"lora": "lora", "locon": "lora", "loha": "loha", "lokr": "lokr", "diag-oft": "oft"}


@dataclass(frozen=True)
class Named:
    """A folder whose name says how often its pictures count, and what they are called."""

    folder: Path
    words: str


def read_kohya(path: Path) -> dict[str, Any]:
    """The nested settings of a TOML of kohya's; what has no counterpart is named in one warning, and what would be another training
    without it is refused. Raises SettingError for a file that cannot be read."""
    try:
        tree = tomllib.loads(read_text(path, FLAG))
    except tomllib.TOMLDecodeError as error:
        raise SettingError(FLAG, f"{path} is no TOML ({first_line(error)}).", fix="Write it as kohya's tools do: name = value.") from None
    flat = {name: value for key, some in tree.items() for name, value in (some.items() if isinstance(some, dict) else [(key, some)])}
    found, unknown = dict[str, Any](), list[str]()
    for name, value in flat.items():
        if name in READ:
            found |= READ[name](value, flat)
        elif name not in SAME:
            unknown.append(name)
        elif SAME[name] and value not in ("", None):
            found[SAME[name]] = value
    if unknown:
        log.warning("%s: nothing here is %s; left out.", shown(path), shortened(", ".join(unknown), 300))
    known, nested = flags(TrainConfig), dict[str, Any]()
    for name, value in found.items():
        place(nested, known[name].path, value)
    return nested


def named_folders(folder: Path) -> list[Named]:
    """The folders `10_sks dog` below a folder, in order."""
    if not folder.is_dir():
        return []
    matches = ((path, FOLDER.fullmatch(path.name)) for path in sorted(folder.iterdir()) if path.is_dir())
    return [Named(path, match[2].strip()) for path, match in matches if match and match[2].strip()]


def _photos(value: str, flat: Mapping[str, Any]) -> dict[str, Any]:
    named = named_folders(Path(value).expanduser())
    if len(named) > 1:
        listed = ", ".join(one.folder.name for one in named[:4])
        fix = "Write a list of subjects, --concepts_list (docs/from-kohya.md), or a training for each."
        raise SettingError("train_data_dir", f"{value} holds several subjects ({listed}).", fix=fix)
    if not named:
        return {"instance_data_dir": value}
    return {"instance_data_dir": str(named[0].folder), "instance_prompt": named[0].words}


def _class_images(value: str, flat: Mapping[str, Any]) -> dict[str, Any]:
    if not value:
        return {}
    named = named_folders(Path(value).expanduser())
    if len(named) != 1:
        what = "several classes" if named else "no folder such as 1_dog"
        raise SettingError("reg_data_dir", f"{value} holds {what}.", fix="Name one class: --class_data_dir FOLDER --class_prompt dog.")
    return {"class_data_dir": str(named[0].folder), "class_prompt": named[0].words, "with_prior_preservation": True}


def _resolution(value: Any, flat: Mapping[str, Any]) -> dict[str, Any]:
    sides = re.findall(r"\d+", str(value))
    if len(set(sides)) > 1:
        raise SettingError("resolution", f"{value} is no square.", fix="Give one number; --aspect_ratio_buckets trains other shapes.")
    return {"resolution": int(sides[0])} if sides else {}


def _optimizer(value: str, flat: Mapping[str, Any]) -> dict[str, Any]:
    if value.lower() not in OPTIMIZERS:
        raise SettingError("optimizer_type", f"{value} is not here.", fix=f"There are {', '.join(OPTIMIZERS)}; or leave it out.")
    return dict(OPTIMIZERS[value.lower()])


def _network(value: str, flat: Mapping[str, Any]) -> dict[str, Any]:
    """The method: LoRA of `networks.lora...`, or what LyCORIS' `algo=` says."""
    pairs = (str(one).partition("=") for one in flat.get("network_args") or ())
    given = {name: said for name, _, said in pairs}
    algorithm = given.get("algo", "lora").lower()
    if "lycoris" in value and algorithm in ALGORITHMS:
        return {"method": ALGORITHMS[algorithm]}
    if value.startswith("networks.lora"):
        return {"method": "lora"}
    raise SettingError("network_module", f"{value} ({algorithm}) is not here.", fix=f"There are {', '.join(sorted(set(ALGORITHMS)))}.")


def _clip_skip(value: Any, flat: Mapping[str, Any]) -> dict[str, Any]:
    if value not in (None, "", 0, 1):
        raise SettingError("clip_skip", f"{value}: earlier layers of CLIP are not read here.", fix="Delete the line to train without it.")
    return {}


READ: dict[str, Callable[[Any, Mapping[str, Any]], dict[str, Any]]] = {
    "train_data_dir": _photos, "reg_data_dir": _class_images, "resolution": _resolution, "optimizer_type": _optimizer,
    "network_module": _network, "clip_skip": _clip_skip, "network_args": lambda value, flat: {},
    "use_8bit_adam": lambda value, flat: {"use_8bit_adam": True} if value else {},
}  # fmt: skip
"""Keys whose value has to be read."""
