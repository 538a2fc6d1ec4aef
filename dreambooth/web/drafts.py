"""A run that is being prepared: what was typed, as it was typed, in one file. Nothing is lost by going back, a reload or a restart."""

import secrets
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from dreambooth.core.errors import SettingError
from dreambooth.core.wording import shell_words
from dreambooth.files.atomic import write_json
from dreambooth.files.places import remove
from dreambooth.files.reading import Damaged, TypedDict, open_shape, read_json
from dreambooth.schema import flags
from dreambooth.setup.config import TrainConfig
from dreambooth.setup.given import config_type, from_arguments
from dreambooth.setup.trust import DEEDS
from dreambooth.web import choices
from dreambooth.web.confine import confine
from dreambooth.web.studio import Missing, Studio

PHOTOS, OUTPUT = "instance_data_dir", "output_dir"
"""The settings that the app itself fills in: where the photos lie, and the run's folder."""
Typed = str | list[str]


@open_shape
class DraftFile(TypedDict):
    """What is read of a draft's file."""

    created: float
    settings: dict[str, Any]


@dataclass(frozen=True)
class Draft:
    """What was decided so far."""

    id: str
    created: float
    name: str = ""
    """Of the run to be."""
    goal: str = next(iter(choices.GOALS))
    """Which of `choices.GOALS`."""
    settings: Mapping[str, Typed] = field(default_factory=dict)
    """What was given by hand, by flag, as it was typed."""
    is_started: bool = False
    """Whether a run was made of it."""

    def chosen(self, studio: Studio) -> dict[str, Typed]:
        """Settings that follow from what it is for, where they were not given otherwise."""
        goal = choices.GOALS.get(self.goal)
        own: dict[str, Typed] = {name: value for name, value in goal.settings.items() if name not in self.settings} if goal else {}
        if goal and goal.is_quick and choices.STEPS not in self.settings:
            own[choices.STEPS] = str(choices.quick_steps(self._config(studio, own)))
        return own

    def config(self, studio: Studio) -> TrainConfig:
        """The settings as the command line would read them; raises SettingError for the first that is wrong."""
        return self._config(studio, self.chosen(studio))

    def command(self, studio: Studio) -> str:
        """The equal command line; raises SettingError, as `config` does."""
        known, words = flags(type(self.config(studio))), ["dreambooth", "train"]
        photos = studio.photos(self.id).relative_to(studio.root).as_posix()
        given = {PHOTOS: photos, **self.chosen(studio), **self.settings, OUTPUT: self.name or "RUN"}
        for name, value in given.items():
            if name not in known:
                continue
            if known[name].is_switch and str(value) in ("true", "false"):
                words.append(f"--{name}" if value == "true" else f"--no-{name}")
            else:
                words += [f"--{name}", *([value] if isinstance(value, str) else value)]
        return shell_words(*words)

    def _config(self, studio: Studio, chosen: Mapping[str, Typed]) -> TrainConfig:
        for name in DEEDS:
            if name in self.settings:
                raise SettingError(f"--{name}", f"{DEEDS[name]}; that is asked for on the command line alone.", fix="Leave it out.")
        values: dict[str, Any] = {**chosen, **self.settings}
        values |= {PHOTOS: str(studio.photos(self.id)), OUTPUT: str(studio.root / (self.name or "unnamed"))}
        config = from_arguments(config_type(values.get(choices.METHOD), may_import=False), values)
        confine(config, studio)
        return config


def new_draft(studio: Studio, like: Draft | None = None) -> Draft:
    """An empty draft, or one with the same settings as another."""
    own = secrets.token_hex(4)
    draft = replace(like, id=own, created=time.time(), name="", is_started=False) if like else Draft(own, time.time())
    studio.photos(own).mkdir(parents=True)
    save(studio, draft)
    return draft


def save(studio: Studio, draft: Draft) -> None:
    """Write it down."""
    write_json(_place(studio, draft.id), asdict(draft))


def with_settings(studio: Studio, draft: Draft, values: Mapping[str, Typed | None]) -> Draft:
    """The draft with some settings changed and saved, right or wrong; None takes one away."""
    settings = {name: value for name, value in {**draft.settings, **values}.items() if value not in (None, "", [])}
    draft = replace(draft, settings=settings)
    save(studio, draft)
    return draft


def read_draft(studio: Studio, name: str) -> Draft:
    """A draft by its id; raises Missing."""
    draft = _read(_place(studio, name))
    if draft is None:
        raise Missing("draft", "this draft is not there any more.", fix="Begin a new one.")
    return draft


def read_drafts(studio: Studio) -> list[Draft]:
    """All drafts, the newest first; files that are damaged are left out."""
    found = [draft for path in studio.drafts.glob("*.json") if (draft := _read(path))]
    return sorted(found, key=lambda draft: -draft.created)


def discard(studio: Studio, draft: Draft, *, with_photos: bool) -> None:
    """Delete a draft, and its photos where no run learns from them."""
    _place(studio, draft.id).unlink(missing_ok=True)
    if with_photos:
        remove(studio.photos(draft.id), root=studio.root)


def _place(studio: Studio, name: str) -> Path:
    return studio.inside(studio.own.name, "drafts", f"{name}.json")


def _read(path: Path) -> Draft | None:
    try:
        values = read_json(path, DraftFile)
        known = Draft.__dataclass_fields__
        return Draft(**{**{name: value for name, value in values.items() if name in known}, "id": path.stem})
    except (FileNotFoundError, Damaged, TypeError):
        return None
