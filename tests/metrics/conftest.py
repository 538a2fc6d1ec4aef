"""Tiny encoders, made once a session."""

import pytest
import torch

from dreambooth.metrics.encoders import EncoderSettings
from dreambooth.metrics.perceptual import convert_lpips
from tests.metrics import encoders


@pytest.fixture(scope="session")
def encoder_folders(tmp_path_factory):
    """Folders of a tiny CLIP, a tiny DINO and an LPIPS of random weights."""
    root = tmp_path_factory.mktemp("encoders")
    lpips = convert_lpips(*encoders.lpips_states(), root / "lpips", size=64)
    return {"clip": encoders.clip_folder(root / "clip"), "dino": encoders.dino_folder(root / "dino"), "lpips": lpips}


@pytest.fixture(scope="session")
def extra_folders(tmp_path_factory):
    """Folders of the encoders that are used where they are asked for."""
    root = tmp_path_factory.mktemp("extras")
    return {"dinov2": encoders.dinov2_folder(root / "dinov2"), "siglip": encoders.siglip_folder(root / "siglip")}


@pytest.fixture
def loaded(encoder_folders, extra_folders):
    """A function that loads them with a batch size, and with the further ones."""

    def load(batch_size: int = 16, *, extras: bool = False):
        folders = {**encoder_folders, **(extra_folders if extras else {})}
        setting = EncoderSettings(**{f"{name}_encoder": str(folder) for name, folder in folders.items()})
        return setting.load(device=torch.device("cpu"), batch_size=batch_size)

    return load
