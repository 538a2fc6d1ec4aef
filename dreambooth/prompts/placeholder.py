"""Prompts: `[V]` stands for the identifier, everywhere and in one way."""

import re
from pathlib import Path

from dreambooth.core.errors import SettingError
from dreambooth.core.wording import HALF, shown
from dreambooth.files.text import read_text

PLACEHOLDER = "[V]"
SPELLINGS = re.compile(r"\[\s*(?:v|trigger)\s*\]", re.IGNORECASE)
"""How the placeholder is written: in small letters, too, and as ai-toolkit's captions have it. Nothing else can be meant by these."""

STYLE_PROMPT, STYLE_CLASS = f"a painting in the style of {PLACEHOLDER}", "a painting"
"""What a style's photos and its prior are called."""


def instance_prompt(noun: str) -> str:
    """The paper's label for every photo (section 3.2)."""
    return f"a {PLACEHOLDER} {noun}"


def class_prompt(noun: str) -> str:
    """What the prior's pictures are called (section 3.3): "a dog", "an umbrella"."""
    return f"{'an' if noun[:1].lower() in 'aeiou' else 'a'} {noun}"


def holds_placeholder(prompt: str | None) -> bool:
    """Whether a prompt has a place for the identifier."""
    return bool(SPELLINGS.search(prompt or ""))


def fill(prompt: str, identifier: str | None, *, setting: str = "prompt", replaced: str | None = None) -> str:
    """The prompt with the identifier in the place of every `[V]`; raises SettingError where there is none to put there.

    `replaced` is the class noun for which the identifier stands too, where it is a word learned as a whole: "a [V] dog" is "a <my-dog>".
    """
    refuse_unreadable(f"{prompt} {identifier}", setting)
    if not holds_placeholder(prompt):
        return prompt
    if not identifier:
        fix = f"Give --identifier, or write the words in full instead of {PLACEHOLDER}."
        raise SettingError(setting, f"{prompt!r} holds {PLACEHOLDER}, but this model has no identifier.", fix=fix)
    prompt = SPELLINGS.sub(PLACEHOLDER, prompt)
    if replaced:
        prompt = re.sub(rf"{re.escape(PLACEHOLDER)}\s+(?i:{re.escape(replaced)})(?!\w)", PLACEHOLDER, prompt)
    return prompt.replace(PLACEHOLDER, identifier)


def generalized(prompt: str, identifier: str | None, noun: str) -> str:
    """A prompt as it would be written for any run. A learned word stands for the noun too: "a <my-dog>" is "a [V] dog"."""
    if not identifier:
        return prompt
    general = re.sub(rf"(?<!\w){re.escape(identifier)}(?!\w)", PLACEHOLDER, prompt)
    has_no_noun = noun and identifier.startswith("<") and f"{PLACEHOLDER} {noun}" not in general
    return general.replace(PLACEHOLDER, f"{PLACEHOLDER} {noun}") if has_no_noun else general


def refuse_unreadable(prompt: str, setting: str) -> None:
    """Raise SettingError for bytes that are no UTF-8, as a terminal of another encoding hands them over: no tokenizer reads them."""
    if HALF.search(prompt):
        raise SettingError(setting, f"'{shown(prompt)}' holds bytes that are no UTF-8.", fix="Write it in UTF-8.")


def read_prompts(path: Path, setting: str = "--prompts") -> list[str]:
    """One prompt a line, the placeholder as [V]; empty lines and lines that start with # do not count."""
    lines = (line.strip() for line in read_text(path, setting).splitlines())
    prompts = [SPELLINGS.sub(PLACEHOLDER, line) for line in lines if line and not line.startswith("#")]
    if not prompts:
        raise SettingError(setting, f"{path} holds no prompt.", fix="Write one prompt a line.")
    return prompts
