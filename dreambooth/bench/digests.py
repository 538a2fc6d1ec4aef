"""What a job's key stands on: the bytes of photos, of the base model and of the encoders."""

import hashlib
import os

from dreambooth.core.errors import SettingError
from dreambooth.families import ModelSource, fingerprint
from dreambooth.families.source import part_digest
from dreambooth.files.digests import file_digest
from dreambooth.metrics.encoders import EncoderSettings
from dreambooth.metrics.networks import NETWORKS
from dreambooth.photos.files import caption_beside, scan


def weights_digest(model: ModelSource, encoders: EncoderSettings) -> str:
    """A digest of the base model, of a VAE or tokenizer in the place of its own, and of the encoders that score its pictures."""
    chosen = encoders.beside(model.pretrained_model_name_or_path)
    scoring = (chosen.where(name) for name, network in NETWORKS.items() if not network.on_request or network.setting() in chosen.given())
    names = (model.pretrained_vae_name_or_path, model.tokenizer_name, *scoring)
    return hashlib.sha256(os.fsencode("\0".join([fingerprint(model.folder()), *map(part_digest, names)]))).hexdigest()


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
        digest.update(bytes.fromhex(file_digest(path)))
        digest.update((caption_beside(path) or "").encode())
    return digest.hexdigest()
