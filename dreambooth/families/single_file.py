"""Checkpoints in one file: opened by diffusers with the configurations of a folder, and converted once into the cache of this program."""

import hashlib
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError

from dreambooth.core.device import is_out_of_memory
from dreambooth.core.errors import RunError, SettingError, first_line
from dreambooth.core.wording import nearest, shell_words, shortened
from dreambooth.files.atomic import whole_folder
from dreambooth.files.cache import cache_root
from dreambooth.files.digests import file_digest, remembered_digest
from dreambooth.files.disk import failing
from dreambooth.files.locks import held
from dreambooth.files.places import readable_name
from dreambooth.files.reading import Damaged, read_json
from dreambooth.files.tensors import open_tensors, save_tensors
from dreambooth.formats.checkpoints import SECOND, UNET, V_PREDICTION, VAE, ZERO_SNR, checkpoint
from dreambooth.formats.lora_files import PICKLES, NoLoRA, is_lora, read_weights, what_it_is

if TYPE_CHECKING:
    from dreambooth.families.source import ModelSource

FLAG, CONFIG_FLAG = "--pretrained_model_name_or_path", "--single_file_config"
HUB = {
    "StableDiffusionXLPipeline": "stabilityai/stable-diffusion-xl-base-1.0",
    "StableDiffusionPipeline": "stable-diffusion-v1-5/stable-diffusion-v1-5", "SD 2": "stabilityai/stable-diffusion-2-1",
}  # fmt: skip
"""Whose configurations in the Hub's cache stand in where no folder was named; of SD 2 the one at 768 pixels, which predicts v."""
TRANSFORMERS = {
    "single_stream_modulation.lin.": ("FLUX.2", "Flux2Transformer2DModel", "black-forest-labs/FLUX.2-dev"),
    "double_blocks.0.img_attn.": ("FLUX.1", "FluxTransformer2DModel", "black-forest-labs/FLUX.1-dev"),
    "joint_blocks.0.context_block.": ("Stable Diffusion 3", "SD3Transformer2DModel", "stabilityai/stable-diffusion-3.5-medium"),
    "txtfusion.projector.": ("Krea 2", "Krea2Transformer2DModel", "krea/Krea-2-Raw"),
    "layers.0.adaLN_modulation.0.": ("Z-Image", "ZImageTransformer2DModel", "Tongyi-MAI/Z-Image"),
    "transformer_blocks.0.img_mlp.net.": ("Qwen-Image", "QwenImageTransformer2DModel", "Qwen/Qwen-Image"),
    "blocks.0.mlp.inverted_conv.": ("Sana", "SanaTransformer2DModel", "Efficient-Large-Model/Sana_1600M_1024px_BF16_diffusers"),
    "blocks.0.cross_attn.q_linear.": ("PixArt", None, "PixArt-alpha/PixArt-Sigma-XL-2-1024-MS"),
}
"""By what a name begins with, behind `model.diffusion_model.` in some files: the network of a flow, the class of diffusers' that reads its
first release's names (none reads PixArt's), and a pipeline of it. The first that is found counts."""
OPEN_CLIP_MARK = "cond_stage_model.model.token_embedding.weight"
SCALED = ("scaled_fp8", "scale_weight", "weight_scale")
VERSION = "1"
"""Of the conversion: part of the cache's keys."""


def load_single_file(pipeline: str, path: Path, config: Path) -> Any:
    """A pipeline of diffusers' in float32 from a file's weights and a folder's configurations and tokenizers; raises what they raise."""
    import diffusers

    diffusers.utils.logging.disable_progress_bar()
    kind = getattr(diffusers, pipeline)
    with readable_name(path) as file, readable_name(config) as folder:
        pipe = kind.from_single_file(file, config=folder, local_files_only=True, dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def kind_of(path: Path, setting: str = FLAG) -> tuple[str, dict[str, tuple[str, list[int]]]]:
    """Which pipeline a single file is of, and its weights' types and shapes, by its header alone.

    Raises SettingError for a file that is damaged, a LoRA, in 8 bits, or of a kind that is not opened here.
    """
    if not path.is_file():
        raise SettingError(setting, f"there is no file {path}.", fix=nearest_file(path) or "Give a pipeline folder, a file, or a Hub id.")
    try:
        with open_tensors(path) as file:
            slices = {name: file.get_slice(name) for name in list(file.keys())}
            header = {name: (one.get_dtype(), one.get_shape()) for name, one in slices.items()}
    except (SafetensorError, OSError) as error:
        wrong = SettingError(setting, f"{path} cannot be read as safetensors ({first_line(error)}).", fix="It is damaged or half written.")
        raise failing(error, path) or wrong from None
    if any(dtype.startswith("F8") for dtype, _ in header.values()) or any(name.endswith(SCALED) for name in header):
        raise SettingError(setting, f"{path} holds weights in 8 bits (fp8).", fix="Take the file in 16 bits.")
    if is_lora(path):
        fix = f"Name its base model here, and draw with `{shell_words('dreambooth', 'generate', 'BASE', '--lora', path)}`."
        raise SettingError(setting, f"{path} is a LoRA, which changes a base model and is none.", fix=fix)
    if "conditioner.embedders.0.model.transformer.resblocks.0.ln_1.bias" in header:
        raise SettingError(setting, f"{path} is SDXL's refiner, which goes on from a picture.", fix="Take the base model.")
    unet = header.get(f"{UNET}input_blocks.0.0.weight")
    if unet and not any(name.startswith(VAE) for name in header):
        raise SettingError(setting, f"{path} holds no VAE.", fix="Take the whole checkpoint.")
    if unet is None:
        _refuse_transformer(path, header, setting)
        what = what_it_is({name: torch.empty(shape, device="meta") for name, (_, shape) in header.items()})
        reason = f"{path} {what}." if not what.startswith("holds") else f"{path} is no checkpoint of Stable Diffusion or SDXL."
        raise SettingError(setting, reason, fix="Give a pipeline folder of it.")
    if unet[1][1] != 4:
        raise SettingError(setting, f"{path} is for inpainting or editing pictures ({unet[1][1]} channels).", fix="Take the base model.")
    is_xl = any(name.startswith(SECOND) for name in header)
    return ("StableDiffusionXLPipeline" if is_xl else "StableDiffusionPipeline"), header


def _refuse_transformer(path: Path, names: Iterable[str], setting: str) -> None:
    """Raise SettingError for a flow's file, which holds its transformer alone as a rule, with how it becomes a pipeline folder."""
    bare = {name.removeprefix(UNET) for name in names}
    for mark, (family, kind, hub) in TRANSFORMERS.items():
        if any(name.startswith(mark) for name in bare):
            own = f"; {kind}.from_single_file puts this file's weights into it (docs/export.md)" if kind else ""
            fix = f"Give the folder of a whole pipeline: hf download {hub} --local-dir FOLDER{own}."
            raise SettingError(setting, f"{path.name} is a transformer of {family}, without the rest of its pipeline.", fix=fix)


def refuse_single_file(source: "ModelSource", path: Path) -> None:
    """Raise SettingError for a single file that cannot be a base model here, by its header and the configurations at hand."""
    if path.suffix in PICKLES and path.is_file():
        if not source.allow_pickle:
            raise SettingError(FLAG, f"{path} is a pickle, which can run any code.", fix="Pass --allow_pickle if you trust it.")
        return
    config_folder(source, path, *kind_of(path))


def converted(source: "ModelSource", path: Path) -> Path:
    """The pipeline folder of a single file, in the cache; made at the first time. Raises SettingError as `refuse_single_file` does."""
    refuse_single_file(source, path)
    if path.suffix not in PICKLES:
        return _kept(source, path)
    with tempfile.TemporaryDirectory(prefix="dreambooth-") as place:
        again = Path(place) / f"{path.stem}.safetensors"
        try:
            save_tensors(again, read_weights(path)[0])
        except NoLoRA as what:
            raise SettingError(FLAG, f"{path} {what}.", fix="Take the model as .safetensors.") from None
        return _kept(source, again)


def _kept(source: "ModelSource", path: Path) -> Path:
    kind, header = kind_of(path)
    config = config_folder(source, path, kind, header)
    digest = hashlib.sha256(f"{VERSION}\0{remembered_digest(path)}\0{_digest(config)}".encode()).hexdigest()
    place = cache_root() / "models" / f"{path.stem[:40]}-{digest[:16]}"
    with held(place.with_name(f"{place.name}.lock")):
        if not (place / "model_index.json").is_file():
            with whole_folder(place) as partial:
                _convert(kind, path, config, header, partial)
    return place


def config_folder(source: "ModelSource", path: Path, kind: str, header: Mapping[str, Any]) -> Path:
    """The folder with the configurations for a file; raises SettingError where there is none, or it is of another kind."""
    if source.single_file_config:
        folder = Path(source.single_file_config).expanduser()
        try:
            found = read_json(folder / "model_index.json")["_class_name"]
        except (FileNotFoundError, Damaged, KeyError, NotADirectoryError):
            fix = "Give a pipeline folder of the model's kind; its weights are not needed."
            raise SettingError(CONFIG_FLAG, f"{folder} holds no model_index.json.", fix=fix) from None
        if found != kind:
            reason = f"{folder} is of a {found}, and {path.name} of a {kind}."
            raise SettingError(CONFIG_FLAG, reason, fix="Give the configurations of the file's own kind.")
        return folder
    from huggingface_hub import try_to_load_from_cache

    name = HUB["SD 2" if OPEN_CLIP_MARK in header else kind]
    index = try_to_load_from_cache(name, "model_index.json", cache_dir=source.cache_dir)
    if not isinstance(index, str):
        reason = f"{path} is a single file, without the configurations and tokenizers of its kind."
        fix = f'Get them once: hf download {name} --include "*.json" "*.txt" --local-dir FOLDER; then add {CONFIG_FLAG} FOLDER.'
        raise SettingError(FLAG, reason, fix=fix)
    return Path(index).parent


def _convert(kind: str, path: Path, config: Path, header: Mapping[str, tuple[str, list[int]]], folder: Path) -> None:
    """Write a file's pipeline, each part in the precision that the file keeps it in; see that no weight is another."""
    try:
        pipe = load_single_file(kind, path, config)
    except Exception as error:  # of somebody's files the library raises anything
        if is_out_of_memory(error):
            raise RunError(f"Out of memory while converting {path}.") from error
        reason = f"{path} cannot be opened with these configurations ({shortened(first_line(error), 80)})."
        raise failing(error, path) or SettingError(
            FLAG, reason, fix=f"Is it half written, or of another kind than {CONFIG_FLAG} names?"
        ) from None
    if V_PREDICTION in header:
        marked = {"prediction_type": "v_prediction", **({"rescale_betas_zero_snr": True} if ZERO_SNR in header else {})}
        pipe.scheduler = type(pipe.scheduler).from_config({**pipe.scheduler.config, **marked})
    _refuse_other_weights(pipe, path)
    for name, part in pipe.components.items():
        if isinstance(part, torch.nn.Module):
            part.to(_stored(header, UNET if name == "unet" else VAE if name == "vae" else "con"))
    pipe.save_pretrained(folder, safe_serialization=True)


def _refuse_other_weights(pipe: Any, path: Path) -> None:
    """Raise SettingError where a weight is not the file's: with other configurations the library takes what fits by its name."""
    expected = checkpoint(pipe)
    with open_tensors(path) as file:
        names = set(file.keys())
        lacking = [name for name in expected if name not in names]
        other = [name for name in expected if name in names and not _same(file.get_tensor(name), expected[name])]
    if lacking or other:
        what = f"lacks {len(lacking)} weights, {lacking[0]} first" if lacking else f"has another {other[0]} than was read"
        raise SettingError(FLAG, f"{path} {what}.", fix=f"Is it half written, or are the configurations another model's ({CONFIG_FLAG})?")


def nearest_file(path: Path) -> str:
    """Which file beside it may have been meant, as a question; nothing where none is near."""
    found = nearest(path.name, [one.name for one in path.parent.glob(f"*{path.suffix}")] if path.parent.is_dir() else [])
    return found and f"Did you mean {path.parent / found.removeprefix('Did you mean ').rstrip('?')}?"


def _same(found: torch.Tensor, read: torch.Tensor) -> bool:
    return found.numel() == read.numel() and torch.equal(found.float().flatten(), read.float().flatten())


def _stored(header: Mapping[str, tuple[str, list[int]]], start: str) -> torch.dtype:
    """The widest precision in which a file keeps the weights whose names begin so."""
    known = {"F64": torch.float32, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
    found = {known[dtype] for name, (dtype, _) in header.items() if name.startswith(start) and dtype in known}
    return found.pop() if len(found) == 1 else torch.float32


def _digest(config: Path) -> str:
    """The configurations and vocabularies of a folder, by their bytes."""
    digest = hashlib.sha256()
    for path in sorted(config.rglob("*")):
        if path.suffix in (".json", ".txt", ".model") and path.is_file():
            digest.update(f"{path.relative_to(config).as_posix()}\0{file_digest(path)}\0".encode(errors="surrogateescape"))
    return digest.hexdigest()
