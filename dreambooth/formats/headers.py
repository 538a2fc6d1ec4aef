"""What the headers of files say to the tools that list them: kohya's `ss_` notes and ModelSpec's; no path, host or photo's name."""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from dreambooth.formats.base import Facts

if TYPE_CHECKING:
    from dreambooth.families.base import Family

LENGTHS = "dreambooth.dora_lengths"
"""A note for our own reader: "untuned" where DoRA's lengths are made for a program that divides by the untuned row's."""
MODULES = {"loha": "lycoris.kohya", "lokr": "lycoris.kohya", "oft": "lycoris.kohya"}
"""What kohya's tools call the code that reads a method's files; all others are `networks.lora`."""
VERSIONS = {
    "StableDiffusionXLPipeline": "sdxl_base_v1-0", "StableDiffusion3Pipeline": "sd3", "FluxPipeline": "flux1",
    "Flux2KleinPipeline": "flux2", "ZImagePipeline": "zimage", "QwenImagePipeline": "qwen_image",
}  # fmt: skip
ARCHITECTURES = {
    "StableDiffusionXLPipeline": "stable-diffusion-xl-v1-base", "StableDiffusion3Pipeline": "stable-diffusion-3",
    "FluxPipeline": "flux-1-dev",
    "Flux2KleinPipeline": "flux-2-klein", "ZImagePipeline": "z-image", "QwenImagePipeline": "qwen-image",
}  # fmt: skip
"""By the class of the pipeline; Stable Diffusion's own have versions."""


def kohya_notes(family: "Family", facts: Facts, *, rank: int | None, alpha: float | None, count: int) -> dict[str, str]:
    """The notes of a LoRA file, all of them strings: `ss_*`, and ModelSpec's with the trigger phrase."""
    kind, mixed = type(family.pipe).__name__, "Dynamic"
    own = {
        "ss_v2": kind == "StableDiffusionPipeline" and _width(family) > 768, "ss_base_model_version": _version(family),
        "ss_network_module": MODULES.get(facts.method, "networks.lora"), "ss_network_dim": mixed if rank is None else rank,
        "ss_network_alpha": mixed if alpha is None else f"{alpha:g}", "ss_network_args": json.dumps(_network_args(facts)),
        "ss_sd_model_name": facts.base, "ss_new_sd_model_hash": facts.base_digest, "ss_output_name": facts.title,
        "ss_tag_frequency": json.dumps({"photos": {facts.trigger: int(facts.notes.get("ss_num_train_images", 1))}}, ensure_ascii=False),
        "dreambooth.layers": count, **facts.notes,
    }  # fmt: skip
    return _strings(own | model_spec(family, facts, kind="lora"))


def checkpoint_notes(family: "Family", facts: Facts) -> dict[str, str]:
    """ModelSpec's notes of a whole model."""
    return _strings(model_spec(family, facts))


def embedding_notes(family: "Family", facts: Facts, *, word: str) -> dict[str, str]:
    """ModelSpec's notes of a new word, and, for diffusers' side, how it is written in prompts."""
    return _strings(model_spec(family, facts, kind="textual-inversion") | {"placeholder_token": json.dumps(word)})


def model_spec(family: "Family", facts: Facts, *, kind: str = "") -> dict[str, Any]:
    """ModelSpec's notes of a file; `kind` is what it is where it is no whole model."""
    pipeline = type(family.pipe).__name__
    side, parent = family.native_resolution, "https://github.com/Stability-AI/generative-models"
    is_v = family.process.prediction == "v_prediction"
    return {
        "modelspec.sai_model_spec": "1.0.0",
        "modelspec.architecture": "/".join(filter(None, (ARCHITECTURES.get(pipeline) or _spec(family), kind))),
        "modelspec.implementation": "diffusers" if kind else parent, "modelspec.title": facts.title,
        "modelspec.resolution": f"{side}x{side}", "modelspec.date": facts.date,
        "modelspec.trigger_phrase": facts.trigger, "modelspec.usage_hint": f'Write "{facts.trigger}" in the prompt.',
        **({"modelspec.prediction_type": "v" if is_v else "epsilon"} if family.denoiser_name == "unet" else {}),
    }  # fmt: skip


def _strings(notes: Mapping[str, Any]) -> dict[str, str]:
    return {name: str(value) for name, value in notes.items() if value is not None}


def _network_args(facts: Facts) -> dict[str, str]:
    if facts.method in MODULES:
        return {"algo": facts.method}
    return {"dora_wd": "True"} if facts.method == "dora" else {}


def _width(family: "Family") -> int:
    return int(family.denoiser.config.cross_attention_dim or 0)


def _version(family: "Family") -> str:
    known = VERSIONS.get(type(family.pipe).__name__)
    if known or family.denoiser_name != "unet":
        return known or family.name
    return "sd_v2" if _width(family) > 768 else "sd_v1"


def _spec(family: "Family") -> str:
    if family.denoiser_name != "unet":
        return family.name.lower().replace(" ", "-")
    if _width(family) <= 768:
        return "stable-diffusion-v1"
    return "stable-diffusion-v2-768-v" if family.process.prediction == "v_prediction" else "stable-diffusion-v2-512"
