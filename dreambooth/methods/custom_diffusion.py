"""Custom Diffusion: keys and values of cross-attention learn, and a new word before the class noun (Kumari et al. 2023)."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dreambooth.core.errors import SettingError
from dreambooth.families.base import Family
from dreambooth.files.tensors import load_tensors, save_tensors
from dreambooth.methods.base import Learner, refuse_text_encoder
from dreambooth.methods.words import WordLearner, WordMethod, Words

FILE = "pytorch_custom_diffusion_weights.safetensors"
LEARNS = (".attn2.to_k.weight", ".attn2.to_v.weight")
"""What reads the text: nothing else of a UNet does."""


class CustomDiffusion(WordMethod):
    """Keys and values of cross-attention learn, and a new word: 5 % of a UNet; diffusers loads the result."""

    kind: Literal["custom_diffusion"] = "custom_diffusion"

    def parts(self, family: Family, *, train_text_encoder: bool) -> list[str]:
        refuse_text_encoder("Custom Diffusion", asked=train_text_encoder)
        if not any(name.endswith(LEARNS) for name, _ in family.denoiser.named_parameters()):
            reason = f"Custom Diffusion trains the cross-attention of a UNet, and {family.name} has none."
            raise SettingError("--method", reason, fix="Use --method lora.")
        return [family.denoiser_name, *family.encoder_names]

    @property
    def learned_in_place(self) -> tuple[str, ...]:
        return LEARNS

    def default_word(self, noun: str | None) -> tuple[str, str | None]:
        """The paper's own: <new1>, which begins as a rare token, since the noun stays in the prompt behind it."""
        return "<new1>", "ktn"

    def attach(self, family: Family, parts: Sequence[str], *, seed: int) -> Learner:
        words = self.add_word(family)
        for name, layer in family.denoiser.named_modules():
            if f".{name}.weight".endswith(LEARNS):
                layer.weight.data = layer.weight.data.float()  # a base in half precision that was loaded without `learned_in_place`
                layer.requires_grad_(True)
                layer.register_forward_hook(_without_start)
        return KeysValuesAndWord(family, parts, words)


class KeysValuesAndWord(WordLearner):
    """The layers in the file that diffusers' `load_attn_procs` reads, the word in `learned_embeds.safetensors`."""

    def __init__(self, family: Family, parts: Sequence[str], words: Words):
        super().__init__(family, parts, words)
        self.layers = {name: p for name, p in family.denoiser.named_parameters() if name.endswith(LEARNS)}
        self.start = {name: p.detach().clone() for name, p in self.layers.items()}

    def parameters(self) -> dict[str, list[nn.Parameter]]:
        return {self.family.denoiser_name: list(self.layers.values()), **self.words.parameters()}

    def save(self, folder: Path, *, whole: bool) -> None:
        """An empty tensor stands for each layer of self-attention: `load_attn_procs` wants all of them named."""
        self.words.save(folder)
        others = [name for name in self.family.denoiser.attn_processors if f".{name.split('.')[-2]}.to_k.weight" not in LEARNS]
        learned: dict[str, Tensor] = {_saved(name): value for name, value in self.layers.items()}
        save_tensors(folder / FILE, learned | {name: torch.zeros(0) for name in others})

    @torch.no_grad()
    def load(self, folder: Path) -> None:
        self.words.load(folder)
        tensors, _ = load_tensors(folder / FILE)
        found = {name: value for name, value in tensors.items() if len(value)}
        if {name: value.shape for name, value in found.items()} != {_saved(name): value.shape for name, value in self.layers.items()}:
            reason = f"does not fit the {self.family.denoiser_name} of this base model."
            raise SettingError(str(folder / FILE), reason, fix="Use the base model and the settings it was made with.")
        for name, parameter in self.layers.items():
            parameter.copy_(found[_saved(name)])

    def disabled(self) -> AbstractContextManager[None] | None:
        return self._disabled()

    def usage_snippet(self) -> str:
        part = f"pipe.{self.family.denoiser_name}"
        return "\n".join([f'{part}.load_attn_procs(".", weight_name="{FILE}", _pipeline=pipe)', *self.words.usage_snippet()])

    @contextmanager
    def _disabled(self) -> Iterator[None]:
        own = {name: p.detach().clone() for name, p in self.layers.items()}
        self._put(self.start)
        try:
            with self.words.at_start():
                yield
        finally:
            self._put(own)

    @torch.no_grad()
    def _put(self, values: dict[str, Tensor]) -> None:
        for name, parameter in self.layers.items():
            parameter.copy_(values[name])


def _without_start(layer: nn.Module, args: tuple[Tensor, ...], out: Float[Tensor, "b tokens c"]) -> Float[Tensor, "b tokens c"]:
    """The same values; but nothing is learned from the start token, which stands in every prompt and takes most of the attention."""
    return torch.cat([out[:, :1].detach(), out[:, 1:]], dim=1)


def _saved(name: str) -> str:
    """...attn2.to_k.weight -> ...attn2.processor.to_k_custom_diffusion.weight"""
    layer, matrix, _ = name.rsplit(".", 2)
    return f"{layer}.processor.{matrix}_custom_diffusion.weight"
