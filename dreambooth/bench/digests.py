"""What a job's key stands on: the bytes of photos, of the base model and of the encoders. Read once in a process, unless asked afresh."""

import hashlib
from functools import cache
from pathlib import Path

from dreambooth.core.errors import SettingError
from dreambooth.families import ModelSource, fingerprint
from dreambooth.metrics.encoders import Encoders
from dreambooth.photos.files import caption_beside, scan


def weights_digest(model: ModelSource, encoders: Encoders, *, fresh: bool = False) -> str:
    """A digest of the base model, of a VAE or tokenizer in the place of its own, and of the encoders that look at its pictures.

    What lies in no folder of this machine counts by its name. `fresh` reads the files once more.
    """
    if fresh:
        _pipeline.cache_clear()
        _files.cache_clear()
    chosen = encoders.beside(model.pretrained_model_name_or_path)
    names = (model.pretrained_vae_name_or_path, model.tokenizer_name, *(getattr(chosen, name) for name in type(chosen).model_fields))
    parts = [_pipeline(str(model.folder())), *(_files(name) if name and Path(name).expanduser().is_dir() else str(name) for name in names)]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


@cache
def photos_digest(folder: str, count: int | None) -> str:
    """The bytes and captions of the first `count` photos of a folder; of an empty one a word, for its job fails by itself.

    Raises SettingError where there are fewer photos than were asked for.
    """
    digest = hashlib.sha256()
    try:
        photos = scan(folder).photos
    except SettingError:
        return "none"
    if count is not None and count > len(photos):
        raise SettingError(
            "num_photos", f"{count} were asked for, and {folder} holds {len(photos)}.", fix="Leave the subject or the arm out."
        )
    for path in photos[:count]:
        digest.update(hashlib.sha256(path.read_bytes()).digest())
        digest.update((caption_beside(path) or "").encode())
    return digest.hexdigest()


@cache
def _pipeline(folder: str) -> str:
    return fingerprint(Path(folder))


@cache
def _files(folder: str) -> str:
    digest, root = hashlib.sha256(), Path(folder).expanduser()
    for path in sorted(root.rglob("*")):
        if path.is_file():
            digest.update(f"{path.relative_to(root).as_posix()}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()
