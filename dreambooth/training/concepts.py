"""A list of several subjects, in the JSON of ShivamShrirao's fork: one entry a subject, with photos and words of its own."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, ConfigDict

from dreambooth.core.errors import SettingError
from dreambooth.core.wording import shortened
from dreambooth.files.folders import expanded
from dreambooth.files.json_file import read_json_file
from dreambooth.prompts.placeholder import refuse_unreadable
from dreambooth.schema import Count, Setting, nearest

FLAG = "--concepts_list"
MAX_LETTERS = 2**20
"""Of a list; a subject takes a few hundred."""


def _not_blank(text: str) -> str:
    if not text.strip():
        raise ValueError("it is blank")
    return text


Text = Annotated[str, AfterValidator(_not_blank)]


class Concept(Setting):
    """One subject of a list. A count as text or a prompt that is a number is refused: whoever wrote it meant something else."""

    model_config = ConfigDict(strict=True)

    instance_prompt: Text
    """What its photos are called; [V] stands for the identifier."""
    instance_data_dir: Text
    """Folder of its photos."""
    class_prompt: Text | None = None
    """What its class images are called; automatic: as --class_prompt says."""
    class_data_dir: Text | None = None
    """Folder of its class images; automatic: as --class_data_dir says."""
    num_class_images: Count | None = None
    """How many class images; automatic: as --num_class_images says."""


def read_concepts(path: Path) -> list[Concept]:
    """The entries of a list; raises SettingError naming the entry, the field and what it holds."""
    entries = read_json_file(path, FLAG, limit=MAX_LETTERS)
    if not isinstance(entries, list) or not entries:
        raise SettingError(FLAG, f"{path} must hold a list of subjects.", fix='[{"instance_prompt": "...", ...}]')
    return [_concept(entry, entry_name(number)) for number, entry in enumerate(entries, start=1)]


def entry_name(number: int) -> str:
    """How an entry is called where something is said of it; they count from 1."""
    return f"{FLAG} entry {number}"


def _concept(entry: Any, where: str) -> Concept:
    fields = Concept.model_fields
    if not isinstance(entry, dict):
        raise SettingError(where, f"it must be a subject, got {shortened(repr(entry))}.", fix='{"instance_prompt": "...", ...}')
    for name, value in entry.items():
        if name not in fields:
            raise SettingError(
                where, f"there is no field {shortened(repr(name))}; there are {', '.join(fields)}.", fix=nearest(name, fields)
            )
        if value is None:
            raise SettingError(where, f"{name} is null.", fix="Give a value, or leave it out.")
    try:
        concept = Concept.parse(entry)
    except SettingError as error:
        raise SettingError(where, f"{error.setting.removeprefix('--')}: {error.reason}", fix=error.fix) from None
    for name in ("instance_data_dir", "class_data_dir"):
        expanded(getattr(concept, name) or "", f"{where}: {name}")
    for name in ("instance_prompt", "class_prompt"):
        refuse_unreadable(getattr(concept, name) or "", f"{where}: {name}")
    return concept
