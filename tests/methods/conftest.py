"""Every pair of a family and a method, attached to all parts that can learn."""

import copy
import shutil
from dataclasses import dataclass

import pytest
import torch

from dreambooth.families import Family
from dreambooth.methods import OFT, CustomDiffusion, Full, Learner, LoHa, LoKr, LoRA, Method, TextualInversion
from tests import tiny

METHODS = {
    "full": Full(),
    "lora": LoRA(rank=4, lora_alpha=2.0),
    "dora": LoRA(rank=2, lora_alpha=3.0, use_dora=True),
    "textual_inversion": TextualInversion(num_vectors=2).named("<my-dog>", "dog"),
    "custom_diffusion": CustomDiffusion(initializer_token="sks").named(None, "dog"),
    "loha": LoHa(rank=2),
    "lokr": LoKr(rank=2),
    "oft": OFT(oft_blocks=4),
}
FAMILIES_OF = {
    "textual_inversion": ["stable_diffusion", "sdxl", "flux"], "custom_diffusion": ["stable_diffusion", "sdxl"],
    "dora": ["stable_diffusion", "sdxl", "flux", "sd3", "krea2", "pixart_sigma"], "loha": ["sdxl", "z_image", "sana"],
    "lokr": ["flux", "qwen_image"], "oft": ["stable_diffusion", "krea2", "pixart_sigma"],
}  # fmt: skip
"""New words need a pipeline that loads them, Custom Diffusion cross-attention; PEFT's kin share their code, and share out the families to
save time. The rest: everywhere."""
PAIRS = [(base, name) for name in METHODS for base in FAMILIES_OF.get(name, tiny.PIPELINES)]


READ: dict[str, Family] = {}
"""Each base model as it was read from its folder; tests have copies of it, which are made in a third of the time."""


@dataclass
class Pair:
    """A base model's folder, and how to have it learn in one way."""

    base: str
    method: Method

    def load(self) -> Family:
        """The family as it is read from its folder. Tokenizers are not copied unless the method puts a word into them."""
        if self.base not in READ:
            READ[self.base] = tiny.load(self.base)
        same = {} if self.method.new_word else {id(tokenizer): tokenizer for tokenizer in READ[self.base].tokenizers}
        return copy.deepcopy(READ[self.base], same)

    def parts(self, family: Family) -> list[str]:
        """All parts that can learn in this way."""
        return self.method.parts(family, train_text_encoder=not self.method.new_word)

    def attach(self, family: Family, *, seed: int = 0) -> Learner:
        return self.method.attach(family, self.parts(family), seed=seed)

    @property
    def prompts(self) -> list[str]:
        """The subject's prompt and the class', both known to the attached model."""
        word = self.method.new_word or "sks"
        return [f"a {word}" if self.method.replaces_noun else f"a {word} dog", "a dog"]

    @property
    def plain_prompts(self) -> list[str]:
        """The same for the model as it came, to which a new word is what it starts from, once for every vector."""
        start = " ".join([getattr(self.method, "initializer_token", "")] * getattr(self.method, "num_vectors", 0))
        return [prompt.replace(self.method.new_word, start) if self.method.new_word else prompt for prompt in self.prompts]

    def learned(self) -> Learner:
        """Attached to a fresh model, and changed as if it had been trained, enough to be seen in a picture."""
        learner = self.attach(self.load())
        rng = torch.Generator().manual_seed(5)
        strength = 0.2 if self.method.kind in ("full", "lora") else 2.0  # type: ignore[attr-defined]
        with torch.no_grad():
            for parameters in learner.parameters().values():
                for parameter in parameters:
                    parameter += strength * torch.randn(parameter.shape, generator=rng) * parameter.std().nan_to_num(0.5).clamp(min=0.1)
        return learner


@pytest.fixture(params=PAIRS, ids="-".join)
def pair(request, pipelines) -> Pair:
    base, name = request.param
    return Pair(str(pipelines(base)), METHODS[name])


@pytest.fixture(scope="session")
def kept_learners(tmp_path_factory):
    """Folders of what was learned, by base and method, saved once."""
    return tmp_path_factory.mktemp("learned"), {}


@pytest.fixture
def saved(pair, kept_learners, tmp_path):
    """A folder of what the pair has learned, as a checkpoint keeps it, which a test may change."""
    root, known = kept_learners
    key = (pair.base, repr(pair.method))
    if key not in known:
        known[key] = root / str(len(known))
        pair.learned().save(known[key], whole=False)
    return shutil.copytree(known[key], tmp_path / "saved")
