"""Whether a pipeline folder is a text-to-image model of its family: its configurations say so, before any weights are loaded."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dreambooth.core.errors import SettingError
from dreambooth.families.source import FLAG, ModelSource, parts_of
from dreambooth.files.pretrained import check_tokenizer

if TYPE_CHECKING:
    from dreambooth.families.base import Family

Config = Mapping[str, Any]
VAE_FLAG = "--pretrained_vae_name_or_path"
PICTURE_PROJECTIONS = ("image_proj", "ip_image_proj", "text_image_proj")
FIX = "Choose a base model that draws from text alone."
PURPOSES = {
    "Inpaint": "for inpainting", "Fill": "for inpainting", "Pix2Pix": "for editing pictures", "Kontext": "for editing pictures",
    "Depth2Img": "for following a depth map", "Upscale": "an upscaler", "Variation": "for variations of a picture",
    "UnCLIP": "for variations of a picture", "Redux": "for variations of a picture", "Control": "for following another picture",
    "Adapter": "for following another picture",
    "XLImg2Img": "a refiner, which goes on from a picture", "Img2Img": "for going on from a picture",
}  # fmt: skip
"""What diffusers' pipelines that want more than text are for, by a part of their class' name."""


def purpose(pipeline: object) -> str | None:
    """What a pipeline class of diffusers' is for, where that is something else than drawing from text."""
    return next((words for part, words in PURPOSES.items() if part in str(pipeline or "")), None)


def refuse_unfit(family: "type[Family]", source: ModelSource, loaded: Mapping[str, Any] | None = None) -> None:
    """Raise SettingError for networks that this family cannot ask, or that do not belong together.

    `loaded` are parts that take the place of the folder's own.
    """
    folder, index = source.folder(), parts_of(source.index())
    own = {name: _settings(part) for name, part in (loaded or {}).items() if hasattr(part, "config")}
    denoiser = own.get(family.denoiser_name) or part_config(folder / family.denoiser_name)
    encoders = {name: own.get(name) or part_config(folder / name) for name in family.encoder_names}
    _refuse_class(family, index, denoiser)
    _refuse_extra_inputs(family, denoiser)
    _refuse_vae(family, denoiser, own.get("vae") or vae_config(folder, source.pretrained_vae_name_or_path), source)
    _refuse_other_text(family, denoiser, encoders)


def refuse_incomplete(family: "type[Family]", source: ModelSource, loaded: Mapping[str, Any]) -> None:
    """Raise SettingError for a pipeline without a part that its family asks; `loaded` are parts that take the place of its own."""
    index, folder = source.index(), source.folder()
    parts = {name for name, (library, _) in parts_of(index).items() if library}
    tokenizers = [name.replace("text_encoder", "tokenizer") for name in family.encoder_names]
    needed = [family.denoiser_name, *(["vae"] if family.vae_classes else []), *family.encoder_names, *tokenizers, *family.schedulers]
    absent = [name for name in needed if name not in loaded and name not in parts]
    if not absent:
        return
    if index.get("requires_aesthetics_score") and absent[0] == family.encoder_names[0]:
        raise SettingError(FLAG, f"{folder} is SDXL's refiner: it has one text encoder and goes on from a picture.", fix=FIX)
    if set(absent) <= set(family.encoder_names) and "image_encoder" in parts:
        raise SettingError(FLAG, f"{folder} is for variations of a picture: it has no {absent[0]}.", fix=FIX)
    raise SettingError(FLAG, f"{folder} has no {' and no '.join(absent)}.", fix=f"Choose a whole {family.name} pipeline.")


def refuse_half_loaded(family: "Family", source: ModelSource) -> None:
    """Raise SettingError for what the libraries load all the same: an empty or another model's vocabulary, weights without values."""
    for tokenizer, encoder in zip(family.tokenizers, family.encoders, strict=True):
        flag = "--tokenizer_name" if source.tokenizer_name and tokenizer is family.tokenizers[0] else FLAG
        where = str(source.tokenizer_name) if flag != FLAG else f"a tokenizer of {source.folder()}"
        check_tokenizer(tokenizer, where, flag)
        family.format_prompt("a dog", family.tokenizers.index(tokenizer) + 1)
        places, last = encoder.get_input_embeddings().num_embeddings, max(tokenizer.get_vocab().values(), default=0)
        if last >= places:
            reason = f"{where} knows {last + 1:,} tokens, and the text encoder {places:,}: it is another model's."
            raise SettingError(flag, reason, fix="Give the tokenizer that belongs to the model.")
    for name, part in family.parts.items():
        lacking = [path for path, value in part.state_dict().items() if value.is_meta]
        if lacking:
            reason = f"{source.folder() / name} lacks {len(lacking)} weights, {lacking[0]} first."
            raise SettingError(FLAG, reason, fix="The file is of another model, or half written; save it again.")


def sizes(family: "type[Family]", source: ModelSource) -> tuple[int, int] | None:
    """The native resolution of a pipeline, and what sides of its pictures are multiples of, in pixels; None where nobody says it yet."""
    factor = family.vae_factor_of(vae_config(source.folder(), source.pretrained_vae_name_or_path))
    latents = part_config(source.folder() / family.denoiser_name).get("sample_size") or family.default_latents
    return (latents * factor, factor * family.packing) if factor and isinstance(latents, int) else None


def _refuse_class(family: "type[Family]", index: Mapping[str, tuple[str | None, str | None]], denoiser: Config) -> None:
    kinds = [index.get(family.denoiser_name, (None, None))[1], denoiser.get("_class_name")]
    other = next((kind for kind in kinds if kind and kind not in (family.denoiser_class, family.published_class)), None)
    if other:
        reason = f"its {family.denoiser_name} is of class {other}; {family.name}'s is {family.denoiser_class}."
        raise SettingError(FLAG, reason, fix=FIX)


def _refuse_extra_inputs(family: "type[Family]", denoiser: Config) -> None:
    """A UNet can ask for more than text and a time; transformers have these fields not at all."""
    has_labels = bool(denoiser.get("class_embed_type") or denoiser.get("num_class_embeds"))
    if denoiser and family.conditioning_channels and not has_labels:
        raise SettingError(FLAG, "this UNet takes no class label, by which it would be told the small picture's noise.", fix=FIX)
    if has_labels and not family.conditioning_channels:
        reason = "this UNet asks for class labels or for a picture's embedding, as an upscaler and unCLIP do."
        raise SettingError(FLAG, reason, fix=FIX)
    if denoiser.get("encoder_hid_dim_type") in PICTURE_PROJECTIONS:
        raise SettingError(FLAG, "this UNet asks for a picture beside the text (an IP-Adapter).", fix=FIX)
    added = denoiser.get("addition_embed_type")
    if denoiser and added not in family.added_embeddings:
        reason = f"this UNet's addition_embed_type is {added}, which is not {family.name}'s."
        raise SettingError(FLAG, reason, fix="Is it of another family? model_index.json names the pipeline's class.")


def _refuse_vae(family: "type[Family]", denoiser: Config, vae: Config, source: ModelSource) -> None:
    if not family.vae_classes:
        vae = {"latent_channels": 3}  # x is the picture itself
        if source.pretrained_vae_name_or_path:
            family.refuse_vae()
    flag = VAE_FLAG if source.pretrained_vae_name_or_path else FLAG
    wanted = (family.vae_classes or (None,))[0]
    kind = vae.get("_class_name", wanted)
    if kind and kind not in family.vae_classes:
        raise SettingError(flag, f"the VAE's class is {kind}; {wanted} is needed.", fix="Choose one that the base model's kind uses.")
    takes, made = denoiser.get("in_channels"), vae.get("latent_channels")
    gives = denoiser.get("out_channels") or takes
    if family.learned_variance and isinstance(gives, int):
        gives //= 2
    if not (isinstance(takes, int) and isinstance(gives, int) and isinstance(made, int)):
        return
    latents = made * family.channel_multiple
    if takes - family.conditioning_channels == gives == latents:
        return
    name = "UNet" if family.denoiser_name == "unet" else family.denoiser_name
    own = latents if gives == latents else gives  # another VAE is not a reason to take an inpainting model for something else
    if not family.vae_classes or family.conditioning_channels:
        reason = f"this {name} takes {takes} channels and gives {gives}; {family.name}'s takes {latents + family.conditioning_channels}."
        raise SettingError(flag, reason, fix="Is it another stage's? model_index.json names the pipeline's class.")
    known = {1: "for following a depth map", 3: "an upscaler", own: "for editing or following a picture", own + 1: "for inpainting",
             5 * own: "for inpainting"}  # fmt: skip
    if gives == latents or takes - own in known:
        words = known.get(takes - own, "for something else than drawing from text")
        raise SettingError(FLAG, f"this {name} is {words} ({takes} channels).", fix=FIX)
    reason = f"the VAE makes {made} channels, and this {name} works on {gives // family.channel_multiple}."
    raise SettingError(flag, reason, fix="They are of different models; give the VAE of the base model's kind.")


def _refuse_other_text(family: "type[Family]", denoiser: Config, encoders: Mapping[str, Config]) -> None:
    for field, names in family.text_widths.items():
        widths = [_text_width(encoders[name]) for name in names]
        wanted = denoiser.get(field)
        known = [width for width in widths if isinstance(width, int)]
        if not isinstance(wanted, int) or len(known) < len(names):
            continue
        if field == "cross_attention_dim" and denoiser.get("encoder_hid_dim"):
            continue
        if wanted != sum(known):
            reason = (
                f"its {family.denoiser_name} reads text of width {wanted}; {sum(known)} come from {' and '.join(dict.fromkeys(names))}."
            )
            raise SettingError(FLAG, reason, fix="They are of different models; save the pipeline with the encoders that belong to it.")


def _text_width(encoder: Config) -> Any:
    """Of what an encoder makes of each token; a model of pictures and text has a configuration of its text half."""
    own = encoder.get("text_config") or encoder
    return own.get("hidden_size") or own.get("d_model")


def _settings(part: Any) -> Config:
    """Of a loaded part: diffusers' are mappings, those of transformers become one."""
    return part.config if isinstance(part.config, Mapping) else part.config.to_dict()


def vae_config(folder: Path, other: str | None) -> Config:
    """Of the VAE that will be used; nothing where it is on the Hub, and known when it is loaded."""
    if not other:
        return part_config(folder / "vae")
    place = Path(other).expanduser()
    return part_config(place / "vae" if (place / "vae").is_dir() else place)


def scheduler_config(folder: Path) -> Config:
    """A pipeline's scheduler's configuration, as `part_config`."""
    return part_config(folder / "scheduler", "scheduler_config.json")


def part_config(folder: Path, name: str = "config.json") -> Config:
    """A part's configuration; nothing where there is none or it is damaged, which is reported when it is loaded."""
    try:
        found = json.loads((folder / name).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
