"""Where a base model comes from: a local pipeline folder, a Hub id, or the embedded toybox; and what can be wrong with it."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import yaml

from dreambooth.core.errors import SettingError
from dreambooth.files.packaged import TOYBOX, toybox
from dreambooth.schema import Setting

FLAG = "--pretrained_model_name_or_path"
WEIGHTS = (".safetensors", ".bin", ".ckpt", ".pt", ".pth")


class ModelSource(Setting):
    """The base model"""

    pretrained_model_name_or_path: str = TOYBOX
    """A diffusers pipeline folder or a model id on the Hub; left out, the embedded toybox, for a first look."""
    revision: str | None = None
    """Branch, tag or commit of a Hub model."""
    variant: str | None = None
    """Variant of the weight files, such as fp16."""
    pretrained_vae_name_or_path: str | None = None
    """Another VAE than the base model's own: a folder, or a Hub id (SDXL in half precision needs one)."""
    tokenizer_name: str | None = None
    """Another tokenizer than the base model's own: a folder or a Hub id."""
    cache_dir: str | None = None
    """Where downloaded models are kept."""
    allow_pickle: bool = False
    """Also load weights saved as pickles (.bin, .ckpt). A pickle can run any code on this machine: only for files you trust."""

    def folder(self) -> Path:
        """The pipeline on this disk, downloaded first when it is a Hub id; raises SettingError with the fix when it is not to be had."""
        name = self.pretrained_model_name_or_path
        path = toybox() if name == TOYBOX else Path(name).expanduser()
        if path.is_file() or path.suffix in WEIGHTS:
            convert = 'python -c "from diffusers import StableDiffusionPipeline as P; P.from_single_file(\'%s\').save_pretrained(\'model\')"'
            raise SettingError(FLAG, f"{name} is a single file; a pipeline folder is needed.", fix=f"Convert it: {convert % name}")
        folder = path if path.is_dir() else self._download(name)
        if not (folder / "model_index.json").is_file():
            missing = f"{folder} holds no model_index.json, so it is not a diffusers pipeline folder"
            hint = "It looks like a run with LoRA weights; name its base model here and the run as `generate RUN`."
            has_lora = (folder / "pytorch_lora_weights.safetensors").exists()
            raise SettingError(FLAG, f"{missing}.", fix=hint if has_lora else "Give the folder that diffusers' save_pretrained wrote.")
        return folder

    def index(self) -> dict[str, Any]:
        """`model_index.json`: the pipeline's class and its parts."""
        path = self.folder() / "model_index.json"
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise SettingError(FLAG, f"{path} is damaged ({error}).", fix="Save or download the pipeline again.") from None

    def recipe(self) -> dict[str, Any]:
        """Training settings that the model itself recommends, from `dreambooth.yaml` in its folder: {"full": {...}, "lora": {...}}."""
        path = self.folder() / "dreambooth.yaml"
        return yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else {}

    def check(self) -> None:
        """See, before anything is loaded, that every part's weights are there, and are no pickles unless that was asked for."""
        folder = self.folder()
        for part, (library, _) in _parts(self.index()).items():
            if library is None or not (folder / part / "config.json").is_file():
                continue
            files = {path.suffix for path in (folder / part).iterdir() if path.suffix in WEIGHTS}
            if not files:
                raise SettingError(FLAG, f"{folder / part} holds no weights.", fix="The folder is half written; save or download it again.")
            if ".safetensors" not in files and not self.allow_pickle:
                reason = f"the weights of {part} are a pickle ({', '.join(sorted(files))}), which can run any code when it is opened."
                raise SettingError(FLAG, reason, fix="Convert them to safetensors, or pass --allow_pickle if you trust the file.")

    def _download(self, name: str) -> Path:
        from diffusers import DiffusionPipeline
        from huggingface_hub import errors

        if name.count("/") != 1 or name.startswith((".", "/", "~")):
            raise SettingError(FLAG, f"there is no folder {name}.", fix="Give a pipeline folder, or a Hub id such as owner/name.")
        try:
            path = DiffusionPipeline.download(
                name, revision=self.revision, variant=self.variant, cache_dir=self.cache_dir,
                use_safetensors=None if self.allow_pickle else True,
            )  # fmt: skip
        except errors.GatedRepoError:
            fix = f"Accept its licence at https://huggingface.co/{name}, then `hf auth login`."
            raise SettingError(FLAG, f"{name} is gated.", fix=fix) from None
        except errors.RepositoryNotFoundError:
            fix = "Check the name; for a private model `hf auth login` first."
            raise SettingError(FLAG, f"the Hub knows no model {name}.", fix=fix) from None
        except errors.RevisionNotFoundError:
            raise SettingError("--revision", f"{name} has no revision {self.revision!r}.") from None
        except (OSError, ValueError, errors.HfHubHTTPError) as error:
            if "safetensors" in str(error):
                raise SettingError(FLAG, f"{name} has no safetensors weights.", fix="Pass --allow_pickle if you trust it.") from None
            offline = " (HF_HUB_OFFLINE is set)" if os.environ.get("HF_HUB_OFFLINE", "0") not in ("", "0") else ""
            reason = f"{name} is neither a folder here nor in the cache, and the Hub cannot be reached{offline}."
            raise SettingError(FLAG, reason, fix="Connect, or give the path of a pipeline folder.") from None
        return Path(path)


def _parts(index: dict[str, Any]) -> dict[str, tuple[str | None, str | None]]:
    return {name: tuple(value) for name, value in index.items() if isinstance(value, list) and len(value) == 2}


def fingerprint(folder: Path) -> str:
    """A digest of everything in a pipeline folder that decides what it draws: the bytes of its weights and configurations."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.relative_to(folder).parent != Path() and path.suffix in (*WEIGHTS, ".json", ".txt", ".model"):
            inside = path.relative_to(folder)
            if not any(part.startswith(("checkpoint-", ".", "samples")) for part in inside.parts):
                with path.open("rb") as file:
                    digest.update(f"{inside.as_posix()}\0{hashlib.file_digest(file, 'sha256').hexdigest()}\0".encode())
    return digest.hexdigest()
