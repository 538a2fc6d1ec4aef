"""Captions for photos by an image-to-text model, with [V] before the subject's noun: what a run then learns stands beside each photo."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import torch
from annotated_types import Ge, Le
from PIL import Image

from dreambooth.core.device import pick_device
from dreambooth.core.errors import SettingError
from dreambooth.files.atomic import write_text
from dreambooth.files.folders import refuse_unwritable
from dreambooth.files.pretrained import from_pretrained, refuse_missing_folder
from dreambooth.photos.files import captions_in, scan
from dreambooth.photos.load import load
from dreambooth.prompts.placeholder import PLACEHOLDER
from dreambooth.schema import Setting

FLAG = "--model"
QUESTION = "Describe this photo in one sentence."
"""What a model that holds a conversation is asked."""


class PhotosCaption(Setting):
    """Write a caption beside each photo that has none"""

    positional: ClassVar[tuple[str, ...]] = ("folder",)

    folder: str
    """Folder with the photos; captions are written into it as NAME.txt, and none that is there is touched."""
    model: str
    """A folder or Hub id of an image-to-text model that transformers loads: BLIP, GIT, ViT-GPT2, or one that holds a conversation."""
    class_noun: str | None = None
    """What the subject is: [V] is placed before it, or "a [V] NOUN" before a caption that does not name it."""
    concept: Literal["object", "style"] = "object"
    """Whether the photos share an object or a style; of a style, " in the style of [V]" is put behind the caption."""
    max_new_tokens: Annotated[int, Ge(1), Le(1000)] = 40
    """Longest caption, in the model's tokens."""
    device: str | None = None
    """cpu, cuda, mps ...; automatic: the accelerator of this machine."""
    dry_run: bool = False
    """Print the captions and write nothing."""


@dataclass(frozen=True)
class Captioned:
    """A photo and what is said of it; of one that has a caption already, nothing."""

    photo: Path
    text: str | None


def caption(settings: PhotosCaption) -> Iterator[Captioned]:
    """A caption for each photo that has none, written as soon as it is there; raises SettingError before the model is loaded."""
    if settings.concept == "object" and not (settings.class_noun or "").strip():
        raise SettingError(
            "--class_noun", f"there is no word to place {PLACEHOLDER} before.", fix="Say what the subject is: --class_noun dog."
        )
    folder = scan(settings.folder)
    refuse_missing_folder(settings.model, FLAG)
    device = pick_device(settings.device)
    if not settings.dry_run:
        refuse_unwritable(folder.root, "folder")
    model: Captioner | None = None
    for path in folder.photos:
        if path.stem in captions_in(folder.root):  # asked each time: two photos may share a name, and a user may write meanwhile
            yield Captioned(path, None)
            continue
        model = model or Captioner(settings.model, device)
        text = placed(model.describe(load(path), settings.max_new_tokens), settings.class_noun, style=settings.concept == "style")
        if not settings.dry_run:
            write_text(path.with_name(f"{path.stem}.txt"), f"{text}\n")
        yield Captioned(path, text)


def placed(text: str, noun: str | None, *, style: bool = False) -> str:
    """A caption with [V] in it: before the noun where that is named first, as "a [V] noun" before a caption without it, or as its style."""
    text = " ".join(text.split()).rstrip(".")
    if style:
        return f"{text or 'a painting'} in the style of {PLACEHOLDER}"
    assert noun
    found = re.search(rf"(?<!\w){re.escape(noun)}(?:s|es)?(?!\w)", text, re.IGNORECASE)
    if not found:
        return f"a {PLACEHOLDER} {noun}" + (f", {text}" if text else "")
    before = re.sub(r"\b([Aa])n\s$", r"\1 ", text[: found.start()])
    return f"{before}{PLACEHOLDER} {text[found.start() :]}"


class Captioner:
    """An image-to-text model, whatever its processor asks for."""

    def __init__(self, where: str, device: torch.device):
        """Raises SettingError for what is no such model, or cannot be had."""
        import transformers

        kind: Any = transformers.AutoModelForImageTextToText
        self.model = from_pretrained(kind, where, FLAG, otherwise="give another model").eval().to(device)
        self.images = from_pretrained(transformers.AutoImageProcessor, where, FLAG, has_weights=False)
        self.tokenizer = from_pretrained(transformers.AutoTokenizer, where, FLAG, has_weights=False)
        self.chat = None
        if self.tokenizer.chat_template:
            self.chat = from_pretrained(transformers.AutoProcessor, where, FLAG, has_weights=False)
        self.device = device

    @torch.no_grad()
    def describe(self, image: Image.Image, max_new_tokens: int) -> str:
        """What the model says of a picture; the same each time."""
        inputs = self._inputs(image)
        out = self.model.generate(**inputs, max_new_tokens=max_new_tokens, do_sample=False)[0]
        prompt = inputs.get("input_ids")
        new = out[prompt.shape[1] :] if prompt is not None else out
        return self.tokenizer.decode(new, skip_special_tokens=True).strip()

    def _inputs(self, image: Image.Image) -> dict[str, Any]:
        if self.chat is None:
            return {"pixel_values": self.images(images=image, return_tensors="pt")["pixel_values"].to(self.device)}
        message = [{"role": "user", "content": [{"type": "image", "image": image}, {"type": "text", "text": QUESTION}]}]
        inputs = self.chat.apply_chat_template(message, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt")
        return dict(inputs.to(self.device))
