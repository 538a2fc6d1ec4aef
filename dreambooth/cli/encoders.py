"""`dreambooth encoders`."""

from collections.abc import Sequence

from dreambooth.cli.parse import settings_from, subcommand
from dreambooth.core.errors import SettingError
from dreambooth.metrics.fetching import fetch
from dreambooth.metrics.networks import NETWORKS
from dreambooth.metrics.networks.base import NONE, Network, folder_of
from dreambooth.schema import Setting
from dreambooth.setup.model import silence_libraries

HELP = """Usage: dreambooth encoders list                what pictures are scored with, and whether it is here
       dreambooth encoders get dino clip       bring encoders from the Hub
       dreambooth encoders get dinov2 siglip   further ones, for scores beside the paper's
       dreambooth encoders get lpips --alexnet alexnet-owt-7be5be79.pth --heads alex.pth

Each has its own --help."""
GET = "dreambooth encoders get NAME ... [--alexnet FILE --heads FILE]"


class EncodersGet(Setting):
    """Bring the encoders here that pictures are scored with, and load each once as a proof. DINO and CLIP come from the Hub; LPIPS is made
    from two published files, torchvision's AlexNet and the heads of the lpips package."""

    positional = ("names",)

    names: tuple[str, ...]
    """dino, clip, lpips; dinov2 and siglip for scores beside the paper's."""
    alexnet: str | None = None
    """torchvision's alexnet-owt-7be5be79.pth, for lpips."""
    heads: str | None = None
    """weights/v0.1/alex.pth of the lpips package, for lpips."""
    allow_pickle: bool = False
    """Also open a file whose SHA-256 is not the published one. It is read as tensors alone, but only for files you trust."""


def main(argv: Sequence[str]) -> int:
    """List or get encoders."""
    return subcommand("encoders", argv, {"list": _list, "get": _get}, usage=HELP)


def _list(argv: Sequence[str]) -> int:
    for word in argv:
        raise SettingError(word, "there is nothing to set.", fix="dreambooth encoders list")
    for name, network in NETWORKS.items():
        where = network.published if network.on_request else network.default()
        is_here = where != NONE and folder_of(where).is_dir()
        state = f"here: {folder_of(where)}" if is_here else f"not here: dreambooth encoders get {name}"
        print(f"{name:<6} {network.title}: {state}{_on_request(network)}")
    return 0


def _on_request(network: type[Network]) -> str:
    """How an encoder is asked for that is not used by itself."""
    return f"; used with --{network.setting()} {network.published}" if network.on_request else ""


def _get(argv: Sequence[str]) -> int:
    lpips = "dreambooth encoders get lpips --alexnet alexnet-owt-7be5be79.pth --heads alex.pth"
    examples = ("dreambooth encoders get dino clip", "dreambooth encoders get dinov2 siglip", lpips)
    settings = settings_from(argv, EncodersGet, usage=GET, examples=examples)
    if settings:
        silence_libraries()
        for name in dict.fromkeys(settings.names):
            label = fetch(name, alexnet=settings.alexnet, heads=settings.heads, allow_pickle=settings.allow_pickle)
            print(f"{name}: {label}{_on_request(NETWORKS[name])}", flush=True)
    return 0
