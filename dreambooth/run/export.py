"""`export`: a run's result as a file that other programs read, written whole or not at all, and read back before it counts."""

from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from dreambooth.core.device import DTYPES, free_memory, pick_device
from dreambooth.core.errors import RunError, SettingError
from dreambooth.core.wording import size
from dreambooth.families import Family, ModelSource, family_of
from dreambooth.families.sampling import Sampling, draw
from dreambooth.files.atomic import whole_file, whole_folder, writable_folder, write_json
from dreambooth.files.digests import file_digest
from dreambooth.files.disk import disk_errors
from dreambooth.files.leftovers import sweep
from dreambooth.formats import FORMATS
from dreambooth.formats.base import FLAG, Facts, Format, Result
from dreambooth.formats.learned import changes_in
from dreambooth.run.export_facts import facts_of, method_of
from dreambooth.run.export_models import RunModels
from dreambooth.run.export_place import SETTING, record_place, target
from dreambooth.schema import Count, Seed, Setting
from dreambooth.setup.config import TrainConfig
from dreambooth.setup.open import Opened, Opening, find, open_model
from dreambooth.setup.record import read_record
from dreambooth.setup.runs import folder_size
from dreambooth.training.records import Message

SavePrecision = Literal["fp32", "fp16", "bf16"]
STEPS = 8
"""Of the sampler, for the pictures that are compared."""
CLOSE = 1
"""Levels of 255 by which two drawings of one model may differ: arithmetic in another order."""


class ExportConfig(Setting):
    """Write a run's result as a file that ComfyUI, A1111, kohya's tools, InvokeAI or diffusers open."""

    positional = ("run",)

    run: str
    """The run's folder, RUN@300 or RUN@best for one of its checkpoints; as pipeline or single_file also a pipeline folder or a Hub id."""
    format: Literal["comfy", "kohya", "pipeline", "single_file", "embedding", "lora", "space"]
    """What is written."""
    output: str | None = None
    """The file, or a folder to put it into; automatic: RUN/export/FORMAT/RUN.safetensors."""
    save_precision: SavePrecision | None = None
    """Precision of the written weights; automatic: fp32 for small files, and that of the base model's own files for whole models."""
    overwrite: bool = False
    """Replace a file of this name; without it an existing one stays, and nothing is written."""
    rank: Count | None = None
    """Rank of the low-rank difference, of --as lora alone; automatic: 64."""
    compare: bool = True
    """Read back what was written, and compare its pictures with the run's own before it takes its place."""
    seed: Seed = 0
    """Seed of the pictures that are compared."""
    device: str | None = None
    """cpu, cuda, mps ...; automatic: the accelerator of this machine."""
    single_file_config: str | None = None
    """For a single file in the place of a run: a pipeline folder of its kind, of which configurations and tokenizers are taken."""
    allow_pickle: bool = False
    """Also load weights saved as pickles. A pickle can run any code: only for files you trust."""
    verify: bool = True
    """Hold the bytes of a run's weights against their digests while they are loaded."""

    def refuse_contradictions(self) -> None:
        if self.rank is not None and self.format != "lora":
            raise SettingError("--rank", "is for --as lora alone.", fix="Leave it out.")


@dataclass(frozen=True)
class Exported:
    """What was written, and what the record says of it."""

    path: Path
    record: dict[str, Any]
    lines: tuple[str, ...]
    """For people: what opens it where, the words to write in a prompt."""


def export(config: ExportConfig) -> Iterator[Message | Exported]:
    """Write the result, read it back, compare; the last record is `Exported`. Raises SettingError before anything is loaded or written."""
    config.refuse_contradictions()
    format = FORMATS[config.format]
    path, run, own = find(config.run, single_file_config=config.single_file_config)
    source = own.model if own else ModelSource(
        pretrained_model_name_or_path=config.run, allow_pickle=config.allow_pickle, single_file_config=config.single_file_config
    )  # fmt: skip
    family, method = family_of(source), method_of(own)
    format.check(family, method)
    if own is None and config.format == "lora":
        raise SettingError(FLAG, f"{config.run} is no run, so there is no base model that it differs from.", fix="Name a run.")
    folder = path if run is None or (path == run and (run / "model_index.json").is_file()) else source.folder()
    folder = folder if folder.is_dir() else source.folder()
    format.check_model(family, folder)
    out = target(config.output, format, run, path, own, overwrite=config.overwrite)
    device = pick_device(config.device)
    yield Message(f"Loading {config.run} ...")
    how = Opening(
        device="cpu", precision="no", verify=config.verify, allow_pickle=config.allow_pickle, single_file_config=config.single_file_config
    )  # fmt: skip
    opened = open_model(config.run, how)
    models = RunModels(family, own, folder)
    sampling = _sampling(opened)
    drawing = sampling.model_dump(include={"num_inference_steps", "guidance_scale", "height", "width"}, exclude_none=True)
    result = Result(
        opened.family, opened.learner, changes_in(opened.family), models, replace(_facts(out, run, own), drawing=drawing),
        {name: _stored(folder / name) for name in opened.family.parts}, config.rank or 0,
    )  # fmt: skip
    sampling = sampling.model_copy(update={"num_inference_steps": min(sampling.num_inference_steps, STEPS)})
    opened = None  # the result holds the model, and lets go of it when another one is needed
    exported = yield from _write(config, format, result, out, sampling, device)
    readers = dict(format.readers(family, method))
    if run:
        place = record_place(run, path, config.format)
        sweep(place.parent)  # the file itself may be elsewhere, and its folder has been swept
        write_json(place, exported.record | {"readers": list(readers)})
    yield Exported(out, exported.record, (*exported.lines, *_in_words(readers, result.facts.trigger, out)))


def _write(
    config: ExportConfig, format: Format, result: Result, out: Path, sampling: Sampling, device: torch.device
) -> Generator[Message, None, Exported]:
    """The pictures of the run, the file under another name, its pictures; then the name."""
    prompts, seeds = [result.facts.trigger] * 2, [config.seed, config.seed + 1]
    before = _pictures(result.family, prompts, seeds, sampling, device) if config.compare else None
    yield Message(f"Writing {out} ...")
    writable_folder(out.parent, SETTING)
    difference, is_seen = None, False
    dtype = DTYPES[config.save_precision] if config.save_precision else None
    is_rounded = format.rounds(result, dtype)
    with disk_errors(out), (whole_file if format.suffix else whole_folder)(out) as partial:
        written = format.write(result, partial, dtype)
        if before is not None:
            again = format.read_back(partial, result)
            is_seen = again is not None
            difference = _difference(before, _pictures(again, prompts, seeds, sampling, device)) if is_seen else None
            if difference is not None and difference > CLOSE and format.is_exact and not is_rounded:
                reason = f"what was written draws other pictures than the run (up to {difference} levels of 255)"
                raise RunError(f"{out.name} was not written: {reason}. This is a fault of dreambooth.")
    facts, compared = result.facts, {"max_difference": difference, "of": 255, "seeds": seeds, "steps": sampling.num_inference_steps}
    record = {
        "format": config.format, "file": out.name, "sha256": file_digest(out) if out.is_file() else None, "base": facts.base,
        "method": facts.method, "trigger": facts.trigger, "save_precision": config.save_precision, written.of_what: written.count,
        "compared": compared if is_seen else None, **written.record,
    }  # fmt: skip
    lines = (
        f"{out} ({size(_bytes(out))}, {written.count} {written.of_what})",
        *written.remarks,
        _seen(config.compare, is_seen, difference, is_rounded),
    )
    return Exported(out, record, lines)


def _pictures(family: Family | None, prompts: list[str], seeds: list[int], sampling: Sampling, device: torch.device) -> list[np.ndarray]:
    """What a model draws, in float32."""
    assert family is not None
    family.to(device)
    pictures = list(draw(family, prompts, seeds, sampling=sampling))
    if not all(one.finite for one in pictures):
        raise RunError("The pictures are not finite, so there is nothing to compare, and nothing was written. Is the run damaged?")
    drawn = [np.asarray(one.image, dtype=np.int16) for one in pictures]
    family.to(torch.device("cpu"))
    free_memory(device)
    return drawn


def _difference(before: list[np.ndarray], after: list[np.ndarray]) -> int:
    return max(int(np.abs(one - other).max()) for one, other in zip(before, after, strict=True))


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


def _sampling(opened: Opened) -> Sampling:
    """As the run draws its previews."""
    run, native = opened.config, opened.family.native_resolution
    return run.validation.sampling(run.cropping.resolution or native) if run else Sampling(guidance_scale=opened.family.guidance_scale)


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
