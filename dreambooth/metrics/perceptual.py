"""Perceptual distance between two pictures: LPIPS (Zhang et al. 2018), ours since its packages need torchvision; and the toybox's own.

LPIPS: features of five AlexNet layers, each position's vector made unit length, squared differences weighted per channel by a learned
"linear head" w >= 0, averaged over positions, added over layers. So with phi = sqrt(w / positions) * unit features, the distance is
|phi(x) - phi(y)|^2, and n pictures need n passes and not n (n - 1).

Two kinds of folder are read. `config.json` {"kind": "lpips-alex", "version": "0.1", "size": 224} with `model.safetensors`, which
`convert_lpips` writes from torchvision's AlexNet and the 6 kB of heads; and a transformers ResNet folder, as the toybox has: its stages
are the layers, w = 1 / stages.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from dreambooth.core.errors import SettingError, first_line
from dreambooth.files.atomic import write_json
from dreambooth.files.pretrained import from_pretrained
from dreambooth.files.reading import Damaged, read_json
from dreambooth.files.tensors import load_tensors, save_tensors
from dreambooth.metrics.preprocessing import Preprocessing, read

KIND, SIZE = "lpips-alex", 224
LAYERS = ((3, 64, 11, 4, 2), (64, 192, 5, 1, 2), (192, 384, 3, 1, 1), (384, 256, 3, 1, 1), (256, 256, 3, 1, 1))
"""AlexNet's convolutions: channels in and out, kernel, stride, padding."""
NAMES = ("features.0", "features.3", "features.6", "features.8", "features.10")
"""What torchvision calls them."""
POOLED = (False, True, True, False, False)
"""Whether a 3 x 3 maximum of stride 2 stands before a convolution."""
SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)


class Perceptual(nn.Module, ABC):
    """A distance by learned features. `features(x)` yields what two pictures are compared in, layer by layer."""

    def __init__(self, preprocess: Preprocessing, name: str):
        super().__init__()
        self.preprocess, self.name = preprocess, name

    @abstractmethod
    def features(self, x: Tensor) -> Iterator[tuple[Tensor, Tensor | float]]:
        """For pictures [n, 3, h, w]: each layer's features [n, c, h', w'] and its weight per channel, [c] or one number."""

    def embed(self, x: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n d"]:
        """phi(x): squared distances between rows are perceptual distances."""
        parts = []
        for feature, weight in self.features(x):
            length = feature.square().sum(dim=1, keepdim=True).sqrt()
            positions = feature.shape[2] * feature.shape[3]
            scale = torch.as_tensor(weight, dtype=feature.dtype, device=feature.device).reshape(-1, 1, 1) / positions
            parts.append((feature / (length + 1e-10) * scale.sqrt()).flatten(1))
        return torch.cat(parts, dim=1)


class AlexNetLPIPS(Perceptual):
    """LPIPS v0.1 on AlexNet."""

    def __init__(self, state: Mapping[str, Tensor], size: int = SIZE):
        super().__init__(Preprocessing(size, size, (0.5,) * 3, (0.5,) * 3), f"LPIPS v0.1, AlexNet, {size} px")
        self.convolutions = nn.ModuleList(nn.Conv2d(a, b, k, stride=s, padding=p) for a, b, k, s, p in LAYERS)
        for name, layer in zip(NAMES, self.convolutions, strict=True):
            layer.load_state_dict({"weight": state[f"{name}.weight"].float(), "bias": state[f"{name}.bias"].float()})
        for number in range(len(LAYERS)):
            self.register_buffer(f"head{number}", state[f"heads.{number}"].float().flatten())

    def features(self, x: Tensor) -> Iterator[tuple[Tensor, Tensor | float]]:
        """The five rectified layers of pictures in [-1, 1]."""
        shift, scale = (torch.tensor(v, dtype=x.dtype, device=x.device).reshape(-1, 1, 1) for v in (SHIFT, SCALE))
        x = (x - shift) / scale
        for number, layer in enumerate(self.convolutions):
            x = F.relu(layer(F.max_pool2d(x, 3, stride=2) if POOLED[number] else x))
            yield x, self.get_buffer(f"head{number}")


class ResNetDistance(Perceptual):
    """Distance by the stages of a small transformers ResNet: the toybox's stand-in for LPIPS."""

    def __init__(self, model: Any, preprocess: Preprocessing, name: str):
        super().__init__(preprocess, name)
        self.model = model

    def features(self, x: Tensor) -> Iterator[tuple[Tensor, Tensor | float]]:
        """The stem and every stage, all counting the same."""
        stages = self.model(pixel_values=x, output_hidden_states=True).hidden_states
        for stage in stages:
            yield stage, 1.0 / len(stages)


def load_perceptual(folder: Path, flag: str) -> Perceptual:
    """The distance of a folder; raises SettingError when it holds none."""
    try:
        config = read_json(folder / "config.json")
    except (FileNotFoundError, Damaged) as error:
        why = "no config.json" if isinstance(error, FileNotFoundError) else f"config.json: {error}"
        fix = "docs/metrics.md tells how to make one from AlexNet and the LPIPS heads."
        raise SettingError(flag, f"{folder} holds no perceptual distance ({why}).", fix=fix) from None
    if config.get("kind") == KIND:
        try:
            return AlexNetLPIPS(load_tensors(folder / "model.safetensors")[0], int(config.get("size", SIZE))).eval()
        except KeyError as error:
            raise SettingError(
                flag, f"{folder / 'model.safetensors'} lacks {error}.", fix="Make it anew, as docs/metrics.md tells."
            ) from None
        except (RuntimeError, ValueError, TypeError) as error:
            reason = f"{folder} holds no {KIND} of this kind ({first_line(error)})."
            raise SettingError(flag, reason, fix="Make it anew, as docs/metrics.md tells.") from None
    if config.get("model_type") == "resnet":
        from transformers import ResNetModel

        size = 128
        preprocess = read(folder) or Preprocessing(size, size, (0.5,) * 3, (0.5,) * 3)
        model = from_pretrained(ResNetModel, str(folder), flag)
        return ResNetDistance(model, preprocess, f"{folder.name} (ResNet features, {preprocess.crop} px)").eval()
    raise SettingError(flag, f"{folder} is neither {KIND} nor a ResNet.", fix="docs/metrics.md tells which folders are read.")


def convert_lpips(alexnet_state: Mapping[str, Tensor], heads_state: Mapping[str, Tensor], folder: Path, *, size: int = SIZE) -> Path:
    """Write an LPIPS folder from torchvision's AlexNet weights and the heads `alex.pth` of the lpips or torchmetrics package.

    `heads_state` has `lin0.model.1.weight` [1, c, 1, 1] ... `lin4...`; raises SettingError when a layer is missing or a head negative.
    """
    tensors: dict[str, Tensor] = {}
    for name in NAMES:
        for kind in ("weight", "bias"):
            if f"{name}.{kind}" not in alexnet_state:
                raise SettingError("alexnet_state", f"has no {name}.{kind}.", fix="Give torchvision's alexnet state dict.")
            tensors[f"{name}.{kind}"] = alexnet_state[f"{name}.{kind}"].float().clone()
    for number, (_, channels, *_) in enumerate(LAYERS):
        found = [value for key, value in heads_state.items() if key.startswith(f"lin{number}.") and key.endswith("weight")]
        if len(found) != 1 or found[0].numel() != channels:
            raise SettingError("heads_state", f"has no head lin{number} of {channels} channels.", fix="Give lpips' v0.1 alex.pth.")
        if bool((found[0] < 0).any()):
            raise SettingError("heads_state", f"lin{number} holds negative weights, so it is no distance.")
        tensors[f"heads.{number}"] = found[0].float().flatten().clone()
    folder.mkdir(parents=True, exist_ok=True)
    save_tensors(folder / "model.safetensors", tensors)
    write_json(folder / "config.json", {"kind": KIND, "version": "0.1", "size": size})
    return folder


def all_distances(embedded: Float[Tensor, "n d"]) -> Float[Tensor, "n n"]:
    """Squared distances between the rows by plain differences, exact where they are small."""
    n = len(embedded)
    found = torch.zeros(n, n, dtype=torch.float64)
    for i in range(n - 1):
        found[i, i + 1 :] = (embedded[i + 1 :] - embedded[i]).square().sum(dim=1).double().cpu()
    return found + found.T
