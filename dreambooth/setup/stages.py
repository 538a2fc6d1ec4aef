"""A cascade: a list of models of which each makes the pictures of the one before it larger, opened and checked as one.

It is named on the command line (RUN1 --then RUN2), or once in a folder: `cascade.yaml` with `stages: [RUN1, RUN2, UPSCALER]`.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from dreambooth.core.errors import SettingError
from dreambooth.families import Family, ModelSource, family_of
from dreambooth.families.cascade import Stage, refuse_other_size, refuse_wrong_order
from dreambooth.families.fitting import sizes
from dreambooth.families.loading import sharing_text
from dreambooth.families.sampling import Sampling, Smaller, filled_in, refuse_alone
from dreambooth.families.superresolution import SuperResolution
from dreambooth.files.yaml_file import read_yaml_file
from dreambooth.schema import Setting
from dreambooth.setup.config import TrainConfig
from dreambooth.setup.open import Opened, Opening, find, open_base, open_model
from dreambooth.setup.record import read_record

CASCADE = "cascade.yaml"


@dataclass(frozen=True)
class Found:
    """A stage that was named, with nothing loaded."""

    name: str
    path: Path
    run: Path | None
    config: TrainConfig | None
    single_file_config: str | None = None

    @property
    def source(self) -> ModelSource:
        """Its base model; the model itself where it is no run."""
        given = {"pretrained_model_name_or_path": self.name, "single_file_config": self.single_file_config}
        return self.config.model if self.config else ModelSource.parse(given)

    @property
    def kind(self) -> type[Family] | None:
        """Its family; None for one that would have to be downloaded first."""
        return family_of(self.source) if self.source.is_here else None

    @property
    def side(self) -> int | None:
        """The side of its pictures in pixels, where that can be seen."""
        own = self.config.cropping.resolution if self.config else None
        known = sizes(self.kind, self.source) if self.kind else None
        return own or (known[0] if known else None)


def stage_names(name: str, then: Sequence[str] = ()) -> tuple[str, ...]:
    """The models that a name and those after it stand for; a folder with `cascade.yaml` for those in it. Raises SettingError."""
    return tuple(stage for one in (name, *then) for stage in _listed(one))


def is_cascade(name: str) -> bool:
    """Whether a name is that of a folder with a list of stages."""
    return (Path(name).expanduser() / CASCADE).is_file()


def _listed(name: str) -> list[str]:
    folder, file = Path(name).expanduser(), Path(name).expanduser() / CASCADE
    if not file.is_file():
        return [name]
    tree = read_yaml_file(file, "run")
    stages = tree.get("stages") if isinstance(tree, dict) else None
    if not (isinstance(stages, list) and stages and all(isinstance(stage, str) and stage for stage in stages)):
        raise SettingError("run", f"{file} names no stages.", fix="Write: stages: [RUN1, RUN2]")
    nested = next((stage for stage in stages if is_cascade(_from(folder, stage))), None)
    if nested:
        raise SettingError("run", f"{file} names {nested}, a cascade itself.", fix="Name its stages.")
    return [_from(folder, stage) for stage in stages]


def _from(folder: Path, stage: str) -> str:
    """A stage's name as seen from here: what lies in, or beside, the cascade's folder is named from that."""
    inside = folder / Path(stage.partition("@")[0]).expanduser()
    return str(folder / stage) if inside.exists() else stage


def find_stages(
    names: Sequence[str], *, has_pictures: bool = False, has_size: bool = False, single_file_config: str | None = None
) -> list[Found]:
    """Every stage, as far as can be seen with nothing loaded, downloaded or written.

    `has_pictures`: the first one is given small pictures. `has_size`: sizes are asked for by hand. `single_file_config` is for the first.
    Raises SettingError for stages that cannot follow each other.
    """
    configs = [single_file_config, *[None] * (len(names) - 1)]
    found = [Found(name, *find(name, single_file_config=config), config) for name, config in zip(names, configs, strict=True)]
    kinds = [stage.kind for stage in found]
    if kinds[0] and has_pictures and not kinds[0].conditioning_channels:
        raise SettingError("--from", f"{kinds[0].name} draws from text, not from pictures.", fix="Leave it out, or name a later stage.")
    if kinds[0]:
        refuse_alone(kinds[0], has_pictures)
    known = [(kind, stage) for kind, stage in zip(kinds, found, strict=True) if kind]
    refuse_wrong_order([kind for kind, _ in known], [stage.name for _, stage in known])
    side = found[0].side
    for before, stage in pairwise(found):
        if stage.kind and not stage.kind.vae_classes and side and stage.side and not has_size:
            refuse_other_size(stage.name, stage.side, side, before.name)
        side = side and side * SuperResolution.ratio
    return found


def strangers(found: Sequence[Found]) -> list[str]:
    """A sentence where stages have learned different subjects, by the bytes of their photos."""
    known = [(stage.name, {photo["sha256"] for photo in read_record(stage.run).get("photos", ())}) for stage in found if stage.run]
    for (one, photos), (other, others) in pairwise(known):
        if photos and others and photos.isdisjoint(others):
            return [f"{one} and {other} have learned from different photos: are they of one subject?"]
    return []


def reference(found: Sequence[Found]) -> TrainConfig | None:
    """The run whose words prompts are filled in with: the last one."""
    return next((stage.config for stage in reversed(found) if stage.config), None)


def open_stages(names: Sequence[str], how: Opening | None = None) -> Opened:
    """The last stage, loaded, with those before it in `stages`; a LoRA file is for the first."""
    how = how or Opening()
    with sharing_text():
        opened = [open_model(name, how if place == 0 else _later(how)) for place, name in enumerate(names)]
    return replace(opened[-1], stages=tuple(opened[:-1]))


def open_bases(found: Sequence[Found], how: Opening) -> Opened:
    """The same before training: of every run its base model."""
    hows = [how, *[_later(how)] * (len(found) - 1)]
    with sharing_text():
        opened = [
            open_base(one.config, own.device, own.precision) if one.config else open_model(one.name, own)
            for one, own in zip(found, hows, strict=True)
        ]
    return replace(opened[-1], stages=tuple(opened[:-1]))


def _later(how: Opening) -> Opening:
    """For the stages after the first, of which files beside the model's own are not."""
    return replace(how, lora=None, single_file_config=None)


def sampling_of(asked: Setting, opened: Opened) -> Sampling:
    """How a model draws: as asked for; what was left out as its run drew its own previews, so that equal seeds give equal pictures.

    A later stage's pictures have the size that those before it lead to.
    """
    run, family = opened.config, opened.family
    own = run.validation.sampling(run.cropping.resolution or family.native_resolution) if run else None
    filled = filled_in(asked, own, type(family))
    return filled.model_copy(update={"height": None, "width": None}) if family.conditioning_channels else filled


def smaller_of(asked: Setting, opened: Opened, given: Smaller | None = None, **options: Any) -> Smaller | None:
    """What draws the small pictures of an opened model's: the stages before it, each with its own sampling, from `given` ones or text."""
    before, words = given, spoken([*opened.stages, opened])
    for place, stage in enumerate(opened.stages):
        precision, reworded = options.get("precision") or stage.precision, _reworded(words[place + 1], words[place])
        how = sampling_of(asked, stage)
        before = Stage(stage.family, how, before, stage.name, precision, options.get("negative_prompt"), reworded)
    return before


def spoken(stages: Sequence[Opened]) -> list[str | None]:
    """What each stage calls the subject: a stage without a word of its own is asked with that of one after it, or else before it."""
    words = [stage.identifier for stage in stages]
    last = next((word for word in reversed(words) if word), None)
    for place in reversed(range(len(words))):
        last = words[place] = words[place] or last
    return words


def _reworded(theirs: str | None, own: str | None) -> Callable[[str], str]:
    if not theirs or not own or theirs == own:
        return str
    return lambda prompt: re.sub(rf"(?<!\w){re.escape(theirs)}(?!\w)", lambda _: own, prompt)


def set_noise(opened: Opened, variance: float | None) -> list[str]:
    """Have every later stage draw at the level that it was trained at, or at that of a variance; a sentence for each that was not."""
    said, later = [], [stage for stage in (*opened.stages, opened) if isinstance(stage.family, SuperResolution)]
    if variance is not None and not later:
        opened.family.refuse_no_augmentation()
    for stage in later:
        family, trained = stage.family, (stage.record or {}).get("noise_levels")
        assert isinstance(family, SuperResolution)
        family.noise_levels = (trained[0], trained[1]) if trained else None
        if variance is None:
            continue
        level = family.nearest_level(variance)
        if trained and not trained[0] <= level <= trained[1]:
            low, high = (f"{family.variance(one):.2g}" for one in trained)
            own = low if trained[0] == trained[1] else f"{low} to {high}"
            said.append(f"{stage.name} was trained with noise of variance {own} on small pictures, not {variance:g}: it draws worse.")
        family.noise_levels = (level, level)
    return said
