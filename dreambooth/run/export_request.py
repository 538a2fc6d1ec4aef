"""What is to be exported: a run, a pipeline, or each tuned stage of a cascade; found and checked with nothing loaded or written."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dreambooth.core.errors import SettingError
from dreambooth.families import Family, ModelSource, family_of
from dreambooth.files.folders import expanded
from dreambooth.formats import FORMATS
from dreambooth.formats.base import FLAG, Format
from dreambooth.run.export_facts import method_of
from dreambooth.run.export_place import EXPORTS, SETTING, safe_name, target
from dreambooth.schema import Count, Seed, Setting
from dreambooth.setup.config import TrainConfig
from dreambooth.setup.open import find, own_place
from dreambooth.setup.record import RECORD
from dreambooth.setup.stages import CASCADE, Found, find_stages, is_cascade, stage_names

SavePrecision = Literal["fp32", "fp16", "bf16"]


class ExportConfig(Setting):
    """Write a run's result as a file that ComfyUI, A1111, kohya's tools, InvokeAI or diffusers open."""

    positional = ("run",)

    run: str
    """The run's folder, RUN@300 or RUN@best for one of its checkpoints, a folder with cascade.yaml for each of its tuned stages; as
    pipeline or single_file also a pipeline folder or a Hub id."""
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
class Request:
    """One model, and where its file goes."""

    name: str
    path: Path
    run: Path | None
    own: TrainConfig | None
    """The run's settings."""
    family: type[Family]
    folder: Path
    """A pipeline folder with the configurations and tokenizers of the result."""
    out: Path

    @property
    def method(self) -> str:
        """As formats know it."""
        return method_of(self.own)


@dataclass(frozen=True)
class Cascade:
    """A list of stages that are exported as one: the tuned ones in a folder, the others by their names."""

    tuned: tuple[Request, ...]
    folder: Path
    stages: tuple[str, ...]
    """As a `cascade.yaml` in the folder names them."""
    untuned: tuple[str, ...]


def request_of(config: ExportConfig) -> Request:
    """What a name and a format ask for. Raises SettingError for what cannot be."""
    return _request(config, config.run, *find(config.run, single_file_config=config.single_file_config))


def cascade_of(config: ExportConfig) -> Cascade | None:
    """Every tuned stage of a folder with `cascade.yaml`; None for any other name. Raises SettingError where one of them cannot be."""
    if not is_cascade(config.run):
        return None
    if config.single_file_config is not None:
        raise SettingError("--single_file_config", "is for a single file, and this is a cascade.", fix="Leave it out.")
    names = stage_names(config.run)
    first = Found(names[0], *find(names[0])).kind
    found = find_stages(names, has_pictures=bool(first and first.conditioning_channels))
    if not any(stage.run for stage in found):
        raise SettingError("run", f"no stage of {config.run} is a run, so nothing of it was tuned.", fix="Name runs in its cascade.yaml.")
    home = expanded(config.run, "run")
    folder = expanded(config.output, SETTING) if config.output else own_place(home, EXPORTS, config.format)
    if folder.suffix or folder.is_file():
        raise SettingError(SETTING, f"{config.run} is a cascade, of which each stage is written.", fix="Name a folder.")
    if any((folder / name).exists() for name in (RECORD, "model_index.json")):
        raise SettingError(SETTING, f"{folder} is a run or a model, which a list of stages would hide.", fix="Choose another folder.")
    own = [_stage_name(number, stage) for number, stage in enumerate(found, start=1)]
    tuned = []
    for name, stage in zip(own, found, strict=True):
        if stage.run:
            place = config.model_copy(update={"output": str(folder / f"{name}{FORMATS[config.format].suffix}")})
            tuned.append(_stage(place, stage))
    if (folder / CASCADE).exists() and not config.overwrite:
        raise SettingError(SETTING, f"{folder} holds a cascade already; it stays as it is.", fix="Choose another folder, or --overwrite.")
    return Cascade(tuple(tuned), folder, tuple(own), tuple(stage.name for stage in found if not stage.run))


def _stage(config: ExportConfig, stage: Found) -> Request:
    try:
        return _request(config, stage.name, stage.path, stage.run, stage.config)
    except SettingError as error:
        if error.setting != FLAG:
            raise
        raise SettingError(FLAG, f"of {stage.name}: {error.reason}", fix=error.fix) from None


def _stage_name(number: int, stage: Found) -> str:
    """A tuned stage by its place and its run's name; another one as whoever reads the list finds it."""
    if stage.run:
        return f"{number}-{safe_name(stage.run, stage.path)}"
    return str(Path(stage.name).expanduser().resolve()) if stage.path.exists() else stage.name


def _request(config: ExportConfig, name: str, path: Path, run: Path | None, own: TrainConfig | None) -> Request:
    format: Format = FORMATS[config.format]
    source = own.model if own else ModelSource(
        pretrained_model_name_or_path=name, allow_pickle=config.allow_pickle, single_file_config=config.single_file_config
    )  # fmt: skip
    family = family_of(source)
    format.check(family, method_of(own))
    if own is None and config.format == "lora":
        raise SettingError(FLAG, f"{name} is no run, so there is no base model that it differs from.", fix="Name a run.")
    folder = path if run is None or (path == run and (run / "model_index.json").is_file()) else source.folder()
    folder = folder if folder.is_dir() else source.folder()
    format.check_model(family, folder)
    out = target(config.output, format, run, path, own, overwrite=config.overwrite)
    return Request(name, path, run, own, family, folder, out)


def listed(stages: Sequence[str]) -> str:
    """The text of a `cascade.yaml`."""
    import yaml

    return yaml.safe_dump({"stages": list(stages)}, allow_unicode=True, sort_keys=False)
