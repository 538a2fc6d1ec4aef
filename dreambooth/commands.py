"""What to type next: lines that a shell takes as they stand."""

import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dreambooth.prompts import PLACEHOLDER

PLAIN = re.compile(r"[\w@%+=:,./-]+", re.ASCII)
ACTIVE = set('"$`\\!\n\r')
"""What a shell would do something with between double quotes."""


def typed(*words: str) -> str:
    """A command line; words that need quotes get double ones, which every shell has, where they hold nothing that acts in them."""
    return " ".join(word if PLAIN.fullmatch(word) else shlex.quote(word) if ACTIVE & set(word) else f'"{word}"' for word in words)


def draw_command(run: Path, record: Mapping[str, Any]) -> str:
    """The line that draws with the best that a finished run has: RUN@300 where its result is not the best of its checkpoints."""
    best = (record.get("choice") or {}).get("step")
    name = str(run) if best in (None, record.get("result_step")) else f"{run}@{best}"
    if name != str(run) and Path(name).exists():  # another folder, which is what this name means then
        name = str(run / f"checkpoint-{best}")
    prompt, identifier = min(record.get("instance_prompts") or ["a dog"], key=len), record.get("identifier")
    subject = prompt.replace(identifier, PLACEHOLDER) if identifier else prompt
    return typed("dreambooth", "generate", name, f"{subject} on the beach")


def best_words(run: Path, record: Mapping[str, Any]) -> str:
    """Which step of a run is the best and why, and what to type for it where it is not the result."""
    why, best = record["choice"]["why"], record["choice"]["step"]
    if best != record.get("result_step"):
        return f"{why} Use it: {draw_command(run, record)}"
    return why if best == record.get("step") else f"{why} It is the result in {run}."
