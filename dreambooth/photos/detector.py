"""The subject's box by a detector whose weights the user has: anything that transformers loads for finding objects in pictures.

Two kinds. One knows a fixed list of words (YOLOS, RT-DETR, DETR where timm is installed: "dog", "cup", a face detector's "face"); the
other is asked in words (OWL-ViT, OWLv2, Grounding DINO: "a dog wearing a collar"). Which one a folder holds is read from its
configuration.
"""

from collections.abc import Mapping
from typing import Any

from PIL import Image

from dreambooth.core.errors import SettingError
from dreambooth.files.pretrained import from_pretrained
from dreambooth.photos.subject import Subject, from_box
from dreambooth.schema import nearest

UNLIKE = ("omdet-turbo",)
"""Asked in words, but in a way of its own."""
SURE = 0.3
"""The least score that a box is believed with."""


class Detector:
    """Finds what a word names in a photo.

    `source` is a folder or Hub id of a transformers detector, `word` what to look for. Raises SettingError for weights that cannot be
    loaded, that are no detector, or that do not know the word.
    """

    def __init__(self, source: str, word: str | None):
        self.asked, self.pipe = _load(source)
        self.word = word or ""
        self.label = None if self.asked else _label(self.pipe.model.config.id2label, self.word, source)
        if self.asked and len(self.pipe.tokenizer(f"a {self.word}").input_ids) > self.pipe.tokenizer.model_max_length:
            raise SettingError("--detect", f"{source} cannot read so many words.", fix="Give the class noun alone.")
        if self.asked and not self.word:
            fix = "Add --detect with the class noun, for instance --detect dog, or --detect face."
            raise SettingError("--detector", f"{source} is asked in words, and no word was given.", fix=fix)

    def find(self, image: Image.Image) -> Subject | None:
        """The surest box of the word in an upright RGB photo, the larger one of two equally sure; None where it sees none."""
        if self.asked:
            found = self.pipe(image, candidate_labels=[f"a {self.word}"], threshold=SURE)
        else:
            found = [one for one in self.pipe(image, threshold=SURE) if self.label in (None, one["label"])]
        boxes = [(float(one["score"]), _shares(one["box"], image.size)) for one in found]
        boxes = [(score, box) for score, box in boxes if _area(box) > 0]
        if not boxes:
            return None
        score, box = max(boxes, key=lambda one: (one[0], _area(one[1])))
        return from_box(box, score)


Box = tuple[float, float, float, float]


def _shares(box: Mapping[str, int], size: tuple[int, int]) -> Box:
    """Left, top, right, bottom as shares of the picture, inside it."""
    left, right = (min(max(box[side] / size[0], 0.0), 1.0) for side in ("xmin", "xmax"))
    top, bottom = (min(max(box[side] / size[1], 0.0), 1.0) for side in ("ymin", "ymax"))
    return left, top, right, bottom


def _area(box: Box) -> float:
    return max(0.0, box[2] - box[0]) * max(0.0, box[3] - box[1])


def _load(source: str) -> tuple[bool, Any]:
    """Whether it is asked in words, and the pipeline that transformers makes of it."""
    import transformers
    from transformers.models.auto import modeling_auto as kinds

    without = "leave --detector out: the subject is then found without a network"
    config = from_pretrained(transformers.AutoConfig, source, "--detector", has_weights=False, otherwise=without)
    asked = config.model_type in kinds.MODEL_FOR_ZERO_SHOT_OBJECT_DETECTION_MAPPING_NAMES
    if config.model_type in UNLIKE or (not asked and config.model_type not in kinds.MODEL_FOR_OBJECT_DETECTION_MAPPING_NAMES):
        fix = "Known kinds: yolos, rt_detr, detr, owlvit, owlv2, grounding-dino and the like."
        raise SettingError("--detector", f"{source} is a {config.model_type}, which finds no objects in this way.", fix=fix)
    kind = transformers.AutoModelForZeroShotObjectDetection if asked else transformers.AutoModelForObjectDetection
    parts = {"model": from_pretrained(kind, source, "--detector", use_safetensors=True, otherwise=without)}
    readers = {"image_processor": transformers.AutoImageProcessor} | ({"tokenizer": transformers.AutoTokenizer} if asked else {})
    for name, reader in readers.items():
        parts[name] = from_pretrained(reader, source, "--detector", has_weights=False, otherwise=without)
    return asked, transformers.pipeline("zero-shot-object-detection" if asked else "object-detection", **parts)


def _label(names: Mapping[int, str], word: str, source: str) -> str | None:
    """The detector's own label for the word; None where any object will do."""
    if not word:
        return None
    for name in names.values():
        if name.casefold() == word.strip().casefold():
            return name
    known = sorted({name for name in names.values() if name and name != "N/A"})
    listed = ", ".join(known[:12]) + (" ..." if len(known) > 12 else "")
    fix = nearest(word, known) or "Choose one of its words, or leave it out."
    raise SettingError("--detect", f"{source} does not know {word!r}, but {listed}.", fix=fix)
