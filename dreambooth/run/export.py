"""`export`: a run's result as a file that other programs read, written whole or not at all, and read back before it counts."""

from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from dreambooth.core.device import DTYPES, pick_device
from dreambooth.core.errors import RunError
from dreambooth.core.wording import from_here, shell_words, size
from dreambooth.families.superresolution import SuperResolution
from dreambooth.files.atomic import whole_file, whole_folder, writable_folder, write_json, write_text
from dreambooth.files.digests import file_digest
from dreambooth.files.disk import disk_errors
from dreambooth.files.leftovers import sweep
from dreambooth.formats import FORMATS
from dreambooth.formats.base import Facts, Format, Result
from dreambooth.formats.learned import changes_in
from dreambooth.run.export_facts import facts_of
from dreambooth.run.export_models import RunModels
from dreambooth.run.export_pictures import Comparison, comparison, difference, own_sampling
from dreambooth.run.export_place import SETTING, record_place
from dreambooth.run.export_request import Cascade, ExportConfig, Request, cascade_of, listed, request_of
from dreambooth.setup.config import TrainConfig
from dreambooth.setup.open import Opened, Opening, open_model
from dreambooth.setup.record import read_record
from dreambooth.setup.runs import folder_size
from dreambooth.setup.stages import CASCADE
from dreambooth.training.records import Message, Waiting

__all__ = ["ExportConfig", "Exported", "export"]

DRAWN_WITH = {"num_inference_steps", "guidance_scale", "height", "width"}
"""What of a run's sampler a page that draws with it begins with."""
CLOSE = 1
"""Levels of 255 by which two drawings of one model may differ: arithmetic in another order."""


@dataclass(frozen=True)
class Exported:
    """What was written, and what the record says of it."""

    path: Path
    record: dict[str, Any]
    lines: tuple[str, ...]
    """For people: what opens it where, the words to write in a prompt."""


def export(config: ExportConfig) -> Iterator[Message | Exported]:
    """Write the result, read it back, compare; the last record is `Exported`, of a cascade one for each stage.

    Raises SettingError before anything is loaded or written.
    """
    config.refuse_contradictions()
    cascade = cascade_of(config)
    if cascade is None:
        yield from _export(config, request_of(config))
        return
    for name in cascade.untuned:
        yield Message(f"{name} was not tuned, and is not written.")
    words = ""
    for stage in cascade.tuned:
        for record in _export(config, stage):
            words = str(record.record["trigger"]) if isinstance(record, Exported) else words
            yield record
    yield from _list(config, cascade, words)


def _list(config: ExportConfig, cascade: Cascade, words: str) -> Iterator[Message]:
    """Name the stages where all of them are pipelines, so that the folder is a cascade as the one before it was."""
    if FORMATS[config.format].suffix:
        return
    write_text(cascade.folder / CASCADE, listed(cascade.stages))
    drawn = shell_words("dreambooth", "generate", from_here(cascade.folder), f"{words or 'a photo'} on the beach")
    yield Message(f"All stages: {drawn}")


def _export(config: ExportConfig, asked: Request) -> Iterator[Message | Exported]:
    """One model."""
    format, run, own, out = FORMATS[config.format], asked.run, asked.own, asked.out
    yield Waiting(f"Loading {asked.name} ...")
    how = Opening(
        device="cpu", precision="no", verify=config.verify, allow_pickle=config.allow_pickle, single_file_config=config.single_file_config
    )  # fmt: skip
    opened = open_model(asked.name, how)
    facts = replace(_facts(out, run, own), drawing=own_sampling(opened).model_dump(include=DRAWN_WITH, exclude_none=True))
    result = Result(
        opened.family, opened.learner, changes_in(opened.family), RunModels(asked.family, own, asked.folder), facts,
        {name: _stored(asked.folder / name) for name in opened.family.parts}, config.rank or 0,
    )  # fmt: skip
    alike = comparison(opened, result.facts.trigger, config.seed, pick_device(config.device))
    noise = _noise(opened)
    opened = None  # the result holds the model, and lets go of it when another one is needed
    exported = yield from _write(config, format, result, out, alike)
    readers = dict(format.readers(asked.family, asked.method))
    if run:
        place = record_place(run, asked.path, config.format)
        sweep(place.parent)  # the file itself may be elsewhere, and its folder has been swept
        write_json(place, exported.record | {"readers": list(readers)})
    yield Exported(out, exported.record, (*exported.lines, *_in_words(readers, result.facts.trigger, out), *noise))


def _write(config: ExportConfig, format: Format, result: Result, out: Path, alike: Comparison) -> Generator[Message, None, Exported]:
    """The pictures of the run, the file under another name, its pictures; then the name."""
    before = alike.pictures(result.family) if config.compare else None
    yield Waiting(f"Writing {out} ...")
    writable_folder(out.parent, SETTING)
    most, is_seen = None, False
    dtype = DTYPES[config.save_precision] if config.save_precision else None
    is_rounded = format.rounds(result, dtype)
    with disk_errors(out), (whole_file if format.suffix else whole_folder)(out) as partial:
        written = format.write(result, partial, dtype)
        if before is not None:
            again = format.read_back(partial, result)
            is_seen = again is not None
            most = difference(before, alike.pictures(again)) if is_seen else None
            if most is not None and most > CLOSE and format.is_exact and not is_rounded:
                reason = f"what was written draws other pictures than the run (up to {most} levels of 255)"
                raise RunError(f"{out.name} was not written: {reason}. This is a fault of dreambooth.")
    facts = result.facts
    compared = {"max_difference": most, "of": 255, "seeds": list(alike.seeds), "steps": alike.sampling.num_inference_steps}
    record = {
        "format": config.format, "file": out.name, "sha256": file_digest(out) if out.is_file() else None, "base": facts.base,
        "method": facts.method, "trigger": facts.trigger, "save_precision": config.save_precision, written.of_what: written.count,
        "compared": compared if is_seen else None, **written.record,
    }  # fmt: skip
    lines = (
        f"{out} ({size(_bytes(out))}, {written.count} {written.of_what})",
        *written.remarks,
        _seen(config.compare, is_seen, most, is_rounded),
    )
    return Exported(out, record, lines)


def _noise(opened: Opened) -> list[str]:
    """At which noise a later stage was trained, which no file of other programs says."""
    family = opened.family
    if not isinstance(family, SuperResolution) or not family.noise_levels:
        return []
    level = family.noise_level
    return [
        f"Draw at the noise it was trained with: noise_level={level} in diffusers, --noise_augmentation {family.variance(level):.2g} here."
    ]


def _seen(wanted: bool, is_seen: bool, difference: int | None, is_rounded: bool) -> str:
    if not wanted:
        return "Not read back (--no-compare)."
    if not is_seen:
        return "Not compared: no reader of this file's kind is here."
    why = " (its weights are rounded to half precision)" if is_rounded else ""
    return f"Read back: two pictures differ from the run's own by at most {difference} of 255 levels{why}."


def _in_words(readers: Mapping[str, str], trigger: str, out: Path) -> list[str]:
    width = max(map(len, readers))
    return [*(f"  {program:<{width}}  {place}" for program, place in readers.items()), f"Write in the prompt: {trigger}"]


def _bytes(path: Path) -> int:
    return folder_size(path) if path.is_dir() else path.stat().st_size


def _facts(out: Path, run: Path | None, config: TrainConfig | None) -> Facts:
    if run is None or config is None:
        return Facts("full", "a photo", out.stem)
    today = datetime.now(UTC).date().isoformat()
    return replace(facts_of(config, read_record(run)), title=out.stem, date=today)


def _stored(folder: Path) -> torch.dtype:
    """In which precision a part is kept on the disk; float32 where its files do not say."""
    from dreambooth.files.tensors import DTYPES as NAMES
    from dreambooth.files.tensors import open_tensors

    for path in sorted(folder.glob("*.safetensors")):
        with open_tensors(path) as file:
            for name in list(file.keys())[:1]:
                kind = file.get_slice(name).get_dtype()
                return next((dtype for dtype, known in NAMES.items() if known == kind and dtype.is_floating_point), torch.float32)
    return torch.float32
