"""What a denoiser's pretraining rests on stays as it is: pictures, captions and the autoencoder's encoder (RECIPE.md, "Frozen").

Weights learned from one world know nothing of another. Whoever means to change it runs `python -m tests.toybox.test_frozen`, trains all
weights anew and measures all rows again.
"""

import hashlib
from pathlib import Path

import numpy as np
from PIL import Image

import dreambooth.toybox
from dreambooth.toybox.pretrain.pictures import draw_family
from dreambooth.toybox.pretrain.words import rare_tokens
from dreambooth.toybox.world import ACCESSORIES, ANIMALS, CLASSES, CONTEXTS, LIGHTS, STYLES, VIEWS, Scene, held_out_subjects, render
from dreambooth.toybox.world.captions import training_caption

SHEET = Path(__file__).parent / "frozen_world.png"
SIDE, ACROSS = 64, 8
CAPTIONS = "cc07b1074d5b5369a515a0e8b56996a96bbcaf6cc04fb190c4d413d9188f9b69"
ENCODER = "d6cacf236a93c6386a72924124c6d51695ea854f1b16aca164b6d552924c52ab"


def frozen_pictures() -> np.ndarray:
    """One render of every class, context, view, light, style and accessory, uint8 [n, SIDE, SIDE, 3]."""
    subjects = {noun: next(s for s in held_out_subjects() if s.noun == noun) for noun in CLASSES}
    nouns, animals = list(CLASSES), list(ANIMALS)
    pairs = [(subjects[nouns[i % len(nouns)]], Scene(context=context, seed=i)) for i, context in enumerate([*CONTEXTS, "studio"])]
    scenes = [Scene(view=view, context="beach") for view in VIEWS] + [Scene(light=light, context="snow") for light in LIGHTS]
    scenes += [Scene(style=style, context="mountain") for style in STYLES]
    pairs += [(subjects[nouns[i % len(nouns)]], scene) for i, scene in enumerate(scenes)]
    pairs += [(subjects[animals[i % len(animals)]], Scene(accessory=worn, context="city")) for i, worn in enumerate(ACCESSORIES)]
    pairs += [(held_out_subjects()[i], Scene(seed=i)) for i in (1, 8, 13)]
    return np.stack([render(subject, scene, SIDE) for subject, scene in pairs])


def sheet(pictures: np.ndarray) -> np.ndarray:
    return np.concatenate([np.concatenate(list(pictures[i : i + ACROSS]), 1) for i in range(0, len(pictures), ACROSS)])


def digest_of_captions() -> str:
    rng = np.random.default_rng(2026)
    lines = [training_caption(*pair, rng, rare_tokens()) for _ in range(40) for pair in draw_family(rng)]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def digest_of_encoder() -> str:
    from safetensors import safe_open

    total = hashlib.sha256()
    path = Path(dreambooth.toybox.__file__).parent / "pipeline" / "vae" / "diffusion_pytorch_model.safetensors"
    with safe_open(path, "np") as tensors:
        for name in sorted(tensors.keys()):
            if name.startswith(("encoder.", "quant_conv.")):
                total.update(name.encode() + tensors.get_tensor(name).tobytes())
    return total.hexdigest()


def test_the_pictures_are_those_that_the_weights_were_trained_on() -> None:
    """Compared by their differences, since sines differ in the last bit from one CPU to another."""
    with Image.open(SHEET) as image:
        frozen = np.asarray(image, dtype=np.float32)
    off = np.abs(frozen - sheet(frozen_pictures()))
    worst = off.reshape(-1, SIDE, ACROSS, SIDE, 3).mean((1, 3, 4)).max()
    assert worst < 0.3, f"the world draws otherwise than {SHEET.name}: see the module's words"


def test_the_captions_are_those_that_the_weights_were_trained_on() -> None:
    assert digest_of_captions() == CAPTIONS


def test_the_encoder_is_that_whose_latents_the_denoiser_learned() -> None:
    assert digest_of_encoder() == ENCODER


if __name__ == "__main__":
    Image.fromarray(sheet(frozen_pictures())).save(SHEET)
    print(f'CAPTIONS = "{digest_of_captions()}"\nENCODER = "{digest_of_encoder()}"')
