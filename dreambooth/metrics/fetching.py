"""Encoders brought to this machine: from the Hub, or made from the files in which their authors have published them.

A published `.pth` is a pickle. It is opened only where its SHA-256 is the published one, or the user trusts it by name, and then by
`torch.load(weights_only=True)`, which builds tensors and runs nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from dreambooth.core.errors import SettingError, first_line
from dreambooth.files.digests import file_digest
from dreambooth.files.places import remove
from dreambooth.metrics.networks import NETWORKS
from dreambooth.metrics.networks.base import NONE, made_here
from dreambooth.metrics.perceptual import convert_lpips, load_perceptual


@dataclass(frozen=True)
class Published:
    """A file as its authors have published it."""

    flag: str
    url: str
    sha256: str
    """All of its digest, or the beginning that its authors have published (torchvision: in its name)."""


ALEXNET = Published("--alexnet", "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth", "7be5be79")
HEADS = Published(
    "--heads", "https://github.com/richzhang/PerceptualSimilarity/raw/master/lpips/weights/v0.1/alex.pth",
    "df73285e35b22355a2df87cdb6b70b343713b667eddbda73e1977e0c860835c0",
)  # fmt: skip


def fetch(name: str, *, alexnet: str | None = None, heads: str | None = None, allow_pickle: bool = False) -> str:
    """Bring an encoder to this machine and load it once, as a proof; what it is, in words.

    Raises SettingError for one that there is none of, that cannot be had, or whose files are not the published ones.
    """
    if name not in NETWORKS:
        raise SettingError("encoders", f"there is no encoder {name!r}.", fix=f"There are {', '.join(NETWORKS)}.")
    network = NETWORKS[name]
    if network.published != NONE:
        return network.load(network.published).label
    missing = [published for published, given in ((ALEXNET, alexnet), (HEADS, heads)) if not given]
    if missing or not (alexnet and heads):
        urls = " and ".join(f"{published.flag} FILE ({published.url})" for published in missing)
        raise SettingError(missing[0].flag, f"{name} is made from two published files.", fix=f"Download and give {urls}.")
    folder = made_here(name)
    states = (opened(ALEXNET, Path(alexnet), allow_pickle=allow_pickle), opened(HEADS, Path(heads), allow_pickle=allow_pickle))
    try:
        convert_lpips(*states, folder)
        return load_perceptual(folder, f"--{network.setting()}").name
    except SettingError as error:
        remove(folder, root=folder.parent)
        flag = {"alexnet_state": ALEXNET.flag, "heads_state": HEADS.flag}.get(error.setting, error.setting)
        raise SettingError(flag, error.reason, fix=error.fix) from None


def opened(published: Published, file: Path, *, allow_pickle: bool) -> Mapping[str, Tensor]:
    """The tensors of a published file; raises SettingError for a file that is another one, or holds anything but tensors by name."""
    file = file.expanduser()
    if not file.is_file():
        raise SettingError(published.flag, f"there is no file {file}.", fix=f"Download it: {published.url}")
    found = file_digest(file)
    if not found.startswith(published.sha256) and not allow_pickle:
        reason = f"{file} is not the published file: its SHA-256 is {found[:16]}..., and {published.sha256[:16]} was expected."
        raise SettingError(published.flag, reason, fix=f"Download it anew ({published.url}); --allow_pickle opens a file that you trust.")
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # of a damaged file or another format torch raises anything
        raise SettingError(published.flag, f"{file} cannot be read ({first_line(error)}).", fix=f"Download it: {published.url}") from None
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise SettingError(published.flag, f"{file} holds no weights by name.", fix=f"Download it: {published.url}")
    return state
