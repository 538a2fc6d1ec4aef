"""`dreambooth doctor`."""

import json
from collections.abc import Sequence

from dreambooth.cli.parse import Alias, settings_from
from dreambooth.core.wording import shown
from dreambooth.schema import Setting
from dreambooth.setup.doctor import Diagnosis, diagnose

USAGE = "dreambooth doctor [--json]"


class Doctor(Setting):
    """What this machine has for dreambooth, and what is missing for what: versions, device, memory, disk, caches, extras, encoders."""

    as_json: bool = False
    """The same for programs."""


def main(argv: Sequence[str]) -> int:
    """Look at everything; 1 where nothing can be trained."""
    settings = settings_from(argv, Doctor, usage=USAGE, aliases={"json": Alias("as_json", True)})
    if settings is None:
        return 0
    found = diagnose()
    print(json.dumps(found.plain(), indent=1) if settings.as_json else _text(found))
    return 0 if found.is_fit else 1


def _text(found: Diagnosis) -> str:
    """Groups of facts, and then what is missing with the line that brings it."""
    lines, group = list[str](), ""
    width = max(len(fact.name) for fact in found.facts)
    for fact in found.facts:
        if fact.group != group:
            group = fact.group
            lines += ["", group]
        mark = "!" if fact.is_fatal else "-" if fact.problem else " "
        lines.append(f" {mark} {fact.name:<{width}}  {shown(fact.value)}")
    missing = [fact for fact in found.facts if fact.problem]
    if missing:
        lines += ["", "missing"]
        lines += [
            f" {'!' if fact.is_fatal else '-'} {fact.name:<{width}}  {shown(f'{fact.problem}. {fact.fix}'.strip())}" for fact in missing
        ]
    lines += ["", "dreambooth can train here." if found.is_fit else "dreambooth cannot train here: see the lines with !."]
    return "\n".join(lines).lstrip("\n")
