"""What to type next: lines that a shell takes as they stand."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dreambooth.core.wording import from_here, shell_words
from dreambooth.prompts.placeholder import PLACEHOLDER

LONGEST = 60
"""Letters of a subject in a line to type: what is longer is a caption."""


def draw_command(run: Path, record: Mapping[str, Any]) -> str:
    """The line that draws with the best that a finished run has: RUN@300 where its result is not the best of its checkpoints."""
    best, run = (record.get("choice") or {}).get("step"), from_here(run)
    name = run if best in (None, record.get("result_step")) else run.with_name(f"{run.name}@{best}")
    if name != run and name.exists():  # another folder, which is what this name means then
        name = run / f"checkpoint-{best}"
    if record.get("stage", 1) > 1:  # one stage of a cascade, whose small pictures are to come from somewhere
        return shell_words("dreambooth", "generate", "RUN_OF_THE_STAGE_BEFORE", f"{_subject(record)} on the beach", "--then", name)
    return shell_words("dreambooth", "generate", name, f"{_subject(record)} on the beach")


def _subject(record: Mapping[str, Any]) -> str:
    prompt, identifier = min(record.get("instance_prompts") or ["a dog"], key=len), record.get("identifier")
    subject = prompt.replace(identifier, PLACEHOLDER) if identifier else prompt
    if identifier and len(subject) > LONGEST:
        noun = min(record.get("class_prompts") or [""], key=len).partition(" ")[2]
        subject = f"a {PLACEHOLDER} {noun}".rstrip() if len(noun) < LONGEST else PLACEHOLDER
    return subject


def best_words(run: Path, record: Mapping[str, Any]) -> str:
    """Which step of a run is the best and why, and what to type for it where it is not the result."""
    why, best = record["choice"]["why"], record["choice"]["step"]
    if best != record.get("result_step"):
        return f"{why} Use it: {draw_command(run, record)}"
    return why if best == record.get("step") else f"{why} It is the result in {run}."
