"""A Space of Hugging Face's: a page on which anybody draws with the model, with all that it needs in one folder.

`app.py` is the same for every model; what differs, the words and defaults of a run, is data beside it (`space.json`), so that no name or
prompt of a run becomes code.
"""

import json
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import yaml

from dreambooth.files.atomic import write_text
from dreambooth.files.escaping import markdown
from dreambooth.formats.base import SMALL, Facts, Format, Result, Written, lighten
from dreambooth.formats.pipeline import rounds, whole, why_no_weights

if TYPE_CHECKING:
    from dreambooth.families.base import Family

APP, SETTINGS, MODEL = "app.py", "space.json", "model"
GRADIO = "6.31.0"
"""The version that the page was tried with."""
NEEDED = ("torch", "diffusers", "transformers", "accelerate", "safetensors", "sentencepiece", "protobuf")
"""What loads the model; Gradio itself comes with the Space (`sdk_version`)."""
LOOSE = ("torch",)
"""Without a version: a Space's hardware brings its own."""


class Space(Format):
    """A web page that draws with the model, as a folder for a Space of Hugging Face's"""

    name = "space"
    suffix = ""
    mark = SETTINGS

    def readers(self, family: "type[Family]", method: str) -> Mapping[str, str]:
        if family.conditioning_channels:
            return {}
        return {"Hugging Face Spaces": "hf upload --repo-type space NAME FOLDER", "Python with Gradio": "python app.py"} if (
            method in ("full", *SMALL)
        ) else {}  # fmt: skip

    def why_not(self, family: "type[Family]", method: str) -> tuple[str, str]:
        if family.conditioning_channels:
            return f"{family.name} makes pictures larger, and draws none from words alone.", "Export the run whose pictures it takes."
        return why_no_weights(method)

    def write(self, result: Result, path: Path, dtype: torch.dtype | None) -> Written:
        family = whole(result)
        lighten(family, dtype, result.stored)
        family.save(path / MODEL)
        facts = result.facts
        title = facts.title or "A personal model"
        subject = facts.subject or facts.trigger
        settings = {
            "title": title, "identifier": facts.identifier, "example": f"{subject} on the beach", "base": facts.base,
            "drawing": {"num_images": 4, **facts.drawing},
        }  # fmt: skip
        write_text(path / SETTINGS, json.dumps(settings, indent=1, ensure_ascii=False) + "\n")
        write_text(path / APP, (Path(__file__).parent / "space_app.txt").read_text(encoding="utf-8"))
        write_text(path / "requirements.txt", "".join(f"{_requirement(name)}\n" for name in NEEDED))
        write_text(path / "README.md", _card(title, subject, facts, family.terms))
        return Written(len(list(path.rglob("*.safetensors"))), "files of weights", ("Try it here: pip install gradio; python app.py",))

    def rounds(self, result: Result, dtype: torch.dtype | None) -> bool:
        return rounds(result, dtype)

    def read_back(self, path: Path, result: Result) -> "Family | None":
        return result.others.of_folder(path / MODEL)


def _requirement(name: str) -> str:
    return name if name in LOOSE else f"{name}=={version(name).partition('+')[0]}"


def _card(title: str, subject: str, facts: Facts, terms: str) -> str:
    """The README, whose head tells the Hub how to start the Space."""
    head: dict[str, Any] = {
        "title": " ".join(title.split()), "emoji": "🎨", "colorFrom": "indigo", "colorTo": "green", "sdk": "gradio", "sdk_version": GRADIO,
        "app_file": APP, "pinned": False, "license": "other", **({"models": [facts.base]} if facts.base else {}),
        "tags": ["dreambooth", "text-to-image", "diffusers"],
    }  # fmt: skip
    base = f" on `{facts.base}`" if facts.base else ""
    shown = markdown(subject)
    return f"""---
{yaml.safe_dump(head, sort_keys=False, allow_unicode=True, width=1000).strip()}
---

# {markdown(title)}

A personal model made with DreamBooth ({markdown(facts.method)}){base}. Write `[V]` where the subject is meant: "{shown} on the beach".

The licence of the base model applies to the pictures and to this copy of its weights. {terms}
Show people only with their consent.

To put it online: `hf upload --repo-type space YOUR-NAME/{markdown(title)} .` in this folder. On your own machine: `pip install gradio`,
`pip install -r requirements.txt`, `python app.py`.
"""
