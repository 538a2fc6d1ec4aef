"""What photos are called, checked before they are learned: whether the words that are to mean the subject are shown, and read whole."""

import re
from collections.abc import Iterator, Sequence

from dreambooth.core.errors import SettingError
from dreambooth.core.wording import shortened, shown
from dreambooth.families import Family
from dreambooth.families.sampling import unread
from dreambooth.prompts.placeholder import PLACEHOLDER, fill
from dreambooth.run.material import Material, prompts_shown
from dreambooth.setup.config import TrainConfig
from dreambooth.training.subjects import LearnedPhoto, prompts_of

NAMED = 3
"""Captions that are named of those with the same fault."""
LITTLE_WORDS = frozenset({"a", "an", "the", "of", "in", "on", "with", "and", "photo", "picture", "image", "my"})


def unnamed(config: TrainConfig, material: Material) -> list[str]:
    """A sentence where some photos are never called by the words that are to mean the subject.

    Raises SettingError where no photo is and the method learns nothing but such a word.
    """
    words = _words(config, material)
    without = [photo for photo in material.photos if not any(_says(text, words) for text in prompts_shown(config, material, photo))]
    if not words or not without:
        return []
    new_word, everyone = config.method.new_word, len(without) == len(material.photos)
    fix = "Write [V] in --instance_prompt and captions, or pass --no-use_captions."
    if new_word and everyone:
        reason = f"no photo's prompt or caption has the word that is to be learned, {new_word}."
        raise SettingError(f"--method {config.method.kind}", reason, fix=fix)
    photo, called = without[0], PLACEHOLDER if material.identifier else words[0]
    where = shown(photo.caption.name) if photo.caption else "--instance_prompt"
    whose = "whose captions never say it" if photo.caption else "which are never called so"
    if not material.identifier:
        fix = f"Write {called} in the captions, as in --instance_prompt, or pass --no-use_captions."
    what = f'{len(without)} of {len(material.photos)} photos, {whose} ({where}: "{shortened(shown(photo.prompt))}")'
    return [f"Nothing would be learned of {called} from {what}. {fix}"]


def summary(config: TrainConfig, material: Material) -> tuple[str, str]:
    """What the plan says of the photos and of their captions; the second is empty where there are none."""
    called = f", identifier {material.identifier}" if material.identifier else ""
    photos = f"{len(material.photos)} photos"
    names = " and ".join(f'"{one.instance_prompt}"' for one in material.subjects)
    captioned = [photo for photo in material.photos if photo.caption]
    if not captioned:
        templates = prompts_shown(config, material, material.photos[0])
        more = f', by {len(templates)} templates ("{templates[0]}" ...)' if len(templates) > 1 else ""
        return f"{photos} of {names}{more}{called}", ""
    words = _words(config, material)
    say = f", {sum(_says(photo.prompt, words) for photo in captioned)} with {' or '.join(words)}" if words else ""
    others = f"; the others are {names}" if len(captioned) < len(material.photos) else ""
    first = f'the first: "{shortened(shown(captioned[0].prompt))}"'
    return f"{photos}{called}", f"{len(captioned)} of {photos} have one{say}; {first}{others}"


def cut_off(config: TrainConfig, material: Material, family: Family) -> list[str]:
    """Sentences for prompts that are longer than the model reads.

    Raises SettingError where the identifier of a photo is behind what is read, for nothing would be learned of it.
    """
    found, seen = [], set()
    for photo in material.photos:
        for prompt in prompts_shown(config, material, photo):
            where = shown(photo.caption.name) if photo.caption else "--instance_prompt"
            if (where, prompt) not in seen:
                seen.add((where, prompt))
                _refuse_lost(family, photo, prompt, material.identifier)
                found += unread(family, prompt, where)
    more = [f"{len(found) - NAMED} more captions are cut off, too."] if len(found) > NAMED else []
    return [*found[:NAMED], *more, *(sentence for where, prompt in _others(config, material) for sentence in unread(family, prompt, where))]


def _others(config: TrainConfig, material: Material) -> Iterator[tuple[str, str]]:
    """Prompts of a run beside those of the photos, with where they come from."""
    yield from dict.fromkeys(("--class_prompt", images.prompt) for images in material.prior)
    for name in ("validation_prompt", "validation_negative_prompt"):
        prompt = getattr(config.validation, name)
        if prompt:
            yield f"--{name}", fill(prompt, material.identifier, setting=f"--{name}", replaced=config.replaced_noun)


def _refuse_lost(family: Family, photo: LearnedPhoto, prompt: str, identifier: str | None) -> None:
    if not identifier or not _says(prompt, [identifier]):
        return
    read, rest = family.as_read(prompt)
    if rest and not _says(read, [family.as_read(identifier)[0]]):
        setting = shown(photo.caption) if photo.caption else "--instance_prompt"
        reason = f"{PLACEHOLDER} stands behind the {family.longest_text} tokens that the model reads, so nothing would be learned of it."
        raise SettingError(setting, reason, fix=f"Write {PLACEHOLDER} nearer to the beginning, or less before it.")


def _words(config: TrainConfig, material: Material) -> list[str]:
    """What is to mean the subject: the identifier; without one, the words of --instance_prompt that the class is not called by."""
    if material.identifier:
        return [material.identifier]
    photos = config.photos
    if photos.concepts_list or not photos.instance_prompt:
        return []
    known = f"{prompts_of(photos)[1] or ''} {photos.class_noun or ''}"
    if not known.strip():
        return []
    others = {*known.lower().split(), *LITTLE_WORDS}
    return [word for word in re.findall(r"[^\s,.;:!?]+", photos.instance_prompt) if word.lower() not in others]


def _says(prompt: str, words: Sequence[str]) -> bool:
    """Whether a prompt holds one of the words, by itself and not inside another."""
    return any(re.search(rf"(?<!\w){re.escape(word)}(?!\w)", prompt) for word in words)
