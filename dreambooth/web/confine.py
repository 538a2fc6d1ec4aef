"""Settings that come from a browser name no file outside the root and the folders of models."""

import os
import re

from dreambooth.core.errors import SettingError
from dreambooth.core.wording import shown
from dreambooth.files.names import RESERVED
from dreambooth.files.places import is_inside
from dreambooth.schema import Flag, Setting, flags, get, is_set
from dreambooth.setup.checks import WORDS
from dreambooth.web.studio import Studio

PROSE = frozenset({*(path[-1] for path in WORDS), "prompt", "negative_prompt"})
"""Settings that are read by a tokenizer and name no file."""
DRIVE = re.compile(r"^[A-Za-z]:")


def confine(config: Setting, studio: Studio) -> None:
    """Raise SettingError for a setting that leads to a file elsewhere, or to code."""
    for flag in flags(type(config)).values():
        if flag.path[-1] == "kind" and ":" in str(get(config, flag.path)):
            raise SettingError(f"--{flag.name}", "code of one's own runs from the command line alone.", fix="Choose another.")
        if is_set(config, flag.path) and flag.type_name.startswith("text") and flag.name not in PROSE:
            value = get(config, flag.path)
            for one in value if isinstance(value, tuple | list) else [value]:
                if isinstance(one, str):
                    _refuse(flag, one, studio)


def _refuse(flag: Flag, value: str, studio: Studio) -> None:
    """Raise SettingError for a value that is a path to elsewhere; a name of the Hub is none, and neither is a word."""
    parts, path = re.split(r"[/\\]", value), studio.root / value
    is_odd = value[:1] == "~" or ".." in parts or any(map(RESERVED.fullmatch, parts))
    if not (is_odd or value[:1] in "/\\" or DRIVE.match(value) or os.path.lexists(path)):
        return
    if is_odd or not any(is_inside(path, place) for place in (studio.root, *studio.models)):
        reason = f"{shown(value)} does not lie in {shown(studio.root)}, and nothing outside is read or written from a page."
        raise SettingError(f"--{flag.name}", reason, fix="Put it there; models may also lie in a folder named by `dreambooth ui --models`.")
