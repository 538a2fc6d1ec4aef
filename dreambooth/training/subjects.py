"""Whose photos, and what they are called: one subject from the flags, or several from a list."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from annotated_types import Ge, Le
from PIL import Image

from dreambooth.core.errors import SettingError
from dreambooth.core.wording import shown
from dreambooth.files.folders import expanded
from dreambooth.photos.load import PhotoFile, PhotoFolder, caption_of, captions_in, scan
from dreambooth.photos.photo import Photo
from dreambooth.prompts.placeholder import PLACEHOLDER, STYLE_CLASS, STYLE_PROMPT, class_prompt, fill, holds_placeholder, instance_prompt
from dreambooth.schema import BASIC, Setting
from dreambooth.training.concepts import Concept, entry_name, read_concepts


class Photos(Setting):
    """The photos and what they show"""

    instance_data_dir: Annotated[str | None, BASIC] = None
    """Folder of the subject's photos; 3-5 are enough."""
    class_noun: Annotated[str | None, BASIC] = None
    """What the subject is: dog, backpack, teapot ... It makes the prompts and turns prior preservation on."""
    identifier: str | None = None
    """The rare word [V] that will mean the subject; automatic: it is picked from the model's tokenizers."""
    identifier_tokens: Annotated[int, Ge(1), Le(3)] = 1
    """Rare tokens of an identifier that is picked, a word each. More of them hold more of the subject, and more of its photos' places."""
    concept: Annotated[Literal["object", "style"], BASIC] = "object"
    """Whether the photos share an object ("a [V] dog") or a style ("a painting in the style of [V]")."""
    instance_prompt: str | None = None
    """What every photo is called; automatic: made from the class noun. [V] stands for the identifier."""
    class_prompt: str | None = None
    """What the prior's pictures are called; automatic: made from the class noun."""
    concepts_list: str | None = None
    """JSON file of several subjects: a list of {instance_prompt, class_prompt, instance_data_dir, class_data_dir, num_class_images}."""
    use_captions: bool = True
    """A .txt or .caption beside a photo says what it shows, instead of the instance prompt."""
    mask_dir: str | None = None
    """For --masked_loss: masks named as their photos, white where the subject is; automatic: `masks` beside them, or their transparency."""
    ignore_photo_errors: bool = False
    """Train although the check of the photos found errors; unreadable photos are then left out."""

    def refuse_contradictions(self) -> None:
        if self.concepts_list and self.instance_data_dir:
            raise SettingError("--concepts_list", "it names the photos itself.", fix="Leave out --instance_data_dir.")
        if self.identifier is not None and not self.identifier.strip():
            raise SettingError("--identifier", "it is blank.", fix="Give a word, or leave it out: one is picked.")
        if PLACEHOLDER in (self.identifier or ""):
            raise SettingError("--identifier", f"{PLACEHOLDER} is what stands for it in prompts.", fix="Give the word itself.")

    def unused(self) -> dict[str, str]:
        return {"instance_prompt": "--concepts_list has the prompts"} if self.concepts_list else {}


@dataclass(frozen=True)
class Subject:
    """One thing to learn: its photos and its prompts, with the identifier filled in."""

    instance_prompt: str
    class_prompt: str | None
    folder: PhotoFolder
    class_data_dir: Path | None = None
    num_class_images: int | None = None


@dataclass(frozen=True)
class LearnedPhoto(PhotoFile):
    """A photo to learn from, what it is called, and, once it was checked, what was read of it."""

    prompt: str
    caption: Path | None = None
    """The file of its caption; None for one that is called by the instance prompt."""
    photo: Photo | None = None
    mask: Image.Image | None = None
    """In the size of `photo.image`, for a masked loss."""

    def digest(self) -> str:
        return self.photo.digest() if self.photo else super().digest()


def subjects(photos: Photos, identifier: str | None, *, replaced: str | None = None) -> list[Subject]:
    """The subjects that the settings name; raises SettingError when photos or words are missing. `replaced` as in `fill`."""
    if photos.concepts_list:
        concepts = enumerate(read_concepts(Path(photos.concepts_list)), start=1)
        return [_subject(concept, number, photos, identifier) for number, concept in concepts]
    if not photos.instance_data_dir:
        raise SettingError("--instance_data_dir", "no photos were given.", fix="Name the folder that holds 3-5 photos of the subject.")
    instance, prior = prompts_of(photos)
    folder = scan(photos.instance_data_dir)
    named = fill(instance, identifier, setting="--instance_prompt", replaced=replaced)
    return [Subject(named, fill(prior, identifier) if prior else None, folder)]


def prompts_of(photos: Photos) -> tuple[str, str | None]:
    """Instance and class prompt, with [V] still in them: the user's own words, or the paper's around the class noun."""
    noun = photos.class_noun
    instance, prior = photos.instance_prompt, photos.class_prompt
    if photos.concept == "style":
        return instance or STYLE_PROMPT, prior or STYLE_CLASS
    if not instance and not noun:
        if not photos.instance_data_dir:
            raise SettingError("", "Which photos?", fix="dreambooth train --instance_data_dir PHOTOS --class_noun dog")
        fix = "Give --class_noun dog (or what it is), or --instance_prompt in full."
        raise SettingError("--class_noun", "the photos have no name yet.", fix=fix)
    return instance or instance_prompt(str(noun)), prior or (class_prompt(noun) if noun else None)


def needs_identifier(photos: Photos) -> bool:
    """Whether any prompt of the settings holds [V]."""
    if photos.concepts_list:
        return any(holds_placeholder(concept.instance_prompt) for concept in read_concepts(Path(photos.concepts_list)))
    return holds_placeholder(prompts_of(photos)[0])


def read_photos(subject: Subject, *, use_captions: bool, identifier: str | None, replaced: str | None = None) -> list[LearnedPhoto]:
    """The subject's photos, which are not opened, with what each is called; raises SettingError for a caption that cannot be read."""
    photos, captions = [], captions_in(subject.folder.root) if use_captions else {}
    for path in subject.folder.photos:
        file, caption = (caption_of(path, among=captions) if use_captions else None) or (None, subject.instance_prompt)
        prompt = fill(caption, identifier, setting=shown(file or "--instance_prompt"), replaced=replaced)
        photos.append(LearnedPhoto(path, prompt, file))
    return photos


def _subject(concept: Concept, number: int, photos: Photos, identifier: str | None) -> Subject:
    where, prior = entry_name(number), concept.class_prompt or photos.class_prompt
    return Subject(
        instance_prompt=fill(concept.instance_prompt, identifier, setting=where),
        class_prompt=fill(prior, identifier, setting=where) if prior else None,
        folder=scan(concept.instance_data_dir),
        class_data_dir=expanded(concept.class_data_dir, where) if concept.class_data_dir else None,
        num_class_images=concept.num_class_images,
    )
