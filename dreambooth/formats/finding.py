"""Where a LoRA file lies that a user names: a file, a folder that holds one, or a Hub id."""

from pathlib import Path

from dreambooth.core.errors import SettingError
from dreambooth.core.wording import shell_words
from dreambooth.files.names import DIFFUSERS_FILE
from dreambooth.formats.lora_files import PICKLES

FLAG = "--lora"
PEFT_FILE, PEFT_CONFIG = "adapter_model.safetensors", "adapter_config.json"


def find_file(name: str, *, allow_pickle: bool) -> Path:
    """The file that a path, a folder or a Hub id means; raises SettingError where there is none, more than one, or a pickle."""
    path = Path(name).expanduser()
    if path.is_dir():
        path = _in_folder(path, allow_pickle=allow_pickle)
    elif not path.is_file():
        path = _from_hub(name)
    if path.suffix in PICKLES and not allow_pickle:
        raise SettingError(FLAG, f"{path.name} is a pickle, which can run any code.", fix="Pass --allow_pickle if you trust it.")
    return path


def _in_folder(folder: Path, *, allow_pickle: bool) -> Path:
    for usual in (DIFFUSERS_FILE, PEFT_FILE):
        if (folder / usual).is_file():
            return folder / usual
    if (folder / "model_index.json").is_file():
        drawn = shell_words("dreambooth", "generate", folder, "a dog on the beach")
        raise SettingError(FLAG, f"{folder} is a whole pipeline, not a LoRA.", fix=f"Draw with it: {drawn}")
    kinds = (".safetensors", *PICKLES) if allow_pickle else (".safetensors",)
    found = sorted(path for path in folder.iterdir() if path.suffix in kinds and path.is_file())
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(path.name for path in found[:3])
        raise SettingError(FLAG, f"{folder} holds {len(found)} files of weights ({names}).", fix="Name one of them.")
    if any(folder.glob(f"*/{PEFT_CONFIG}")):
        fix = f"Export it first: {shell_words('dreambooth', 'export', folder, '--as', 'comfy')} (or pipeline)."
        raise SettingError(FLAG, f"{folder} is a run whose layers are no LoRA.", fix=fix)
    pickles = any(path.suffix in PICKLES for path in folder.iterdir())
    raise SettingError(FLAG, f"{folder} holds no LoRA file.", fix="Pass --allow_pickle if you trust its pickle." if pickles else "")


def _from_hub(name: str) -> Path:
    """The file of a Hub id, `owner/name` or `owner/name/file.safetensors`, downloaded once."""
    from huggingface_hub import HfApi, errors, hf_hub_download

    parts = name.split("/")
    if len(parts) < 2 or name.startswith((".", "/", "~")) or not all(parts):
        raise SettingError(FLAG, f"there is no file {name}.", fix="Give a LoRA file, its folder, or a Hub id such as owner/name.")
    repository, file = "/".join(parts[:2]), "/".join(parts[2:]) or DIFFUSERS_FILE
    try:
        try:
            return Path(hf_hub_download(repository, file))
        except errors.EntryNotFoundError:  # or it is not in the cache, and nobody can be asked: then the next line says so
            found = [one for one in HfApi().list_repo_files(repository) if one.endswith(".safetensors") and "/" not in one]
        if len(parts) == 2 and len(found) == 1:
            return Path(hf_hub_download(repository, found[0]))
    except (errors.GatedRepoError, errors.RepositoryNotFoundError, errors.HFValidationError) as error:
        gated = isinstance(error, errors.GatedRepoError)
        reason = f"{repository} is gated." if gated else f"there is no file {name}, and the Hub knows no {repository}."
        raise SettingError(FLAG, reason, fix="Accept its licence, then `hf auth login`." if gated else "Check the name.") from None
    except Exception:  # the transport's own errors differ from version to version
        reason = f"{name} is neither a file here nor in the cache, and the Hub cannot be reached."
        raise SettingError(FLAG, reason, fix="Connect, or give the path of a LoRA file.") from None
    fix = f"Name one: {', '.join(f'{repository}/{one}' for one in found[:3])}." if found else ""
    raise SettingError(FLAG, f"{repository} holds no {file}.", fix=fix)
