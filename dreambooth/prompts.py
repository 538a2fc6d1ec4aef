"""Prompts: `[V]` stands for the identifier, everywhere and in one way."""

from pathlib import Path

from dreambooth.core.errors import SettingError

PLACEHOLDER = "[V]"

INSTANCE = {"object": f"a {PLACEHOLDER} {{noun}}", "style": f"a painting in the style of {PLACEHOLDER}"}
"""The paper's label for every photo (section 3.2), and its counterpart for a style; `{noun}` is the class noun."""

CLASS = {"object": "a {noun}", "style": "a painting"}
"""What the prior's pictures are called (section 3.3)."""


def fill(prompt: str, identifier: str | None, *, setting: str = "prompt") -> str:
    """The prompt with the identifier in the place of every `[V]`; raises SettingError where there is none to put there."""
    if PLACEHOLDER not in prompt:
        return prompt
    if not identifier:
        fix = f"Give --identifier, or write the words in full instead of {PLACEHOLDER}."
        raise SettingError(setting, f"{prompt!r} holds {PLACEHOLDER}, but this model has no identifier.", fix=fix)
    return prompt.replace(PLACEHOLDER, identifier)


def article(noun: str) -> str:
    """`a` or `an`, as it stands before a noun."""
    return "an" if noun[:1].lower() in "aeiou" else "a"


def read_prompts(path: Path, setting: str = "--prompts") -> list[str]:
    """One prompt a line; empty lines and lines that start with # do not count."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingError(setting, f"{path} cannot be read ({error}).", fix="Give a text file with one prompt a line.") from None
    prompts = [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
    if not prompts:
        raise SettingError(setting, f"{path} holds no prompt.", fix="Write one prompt a line.")
    return prompts
