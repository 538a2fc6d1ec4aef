"""A request becomes a job: what starts a training, goes on with one, draws and exports; pages and the API ask here, and nowhere else."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import yaml

from dreambooth.core.errors import SettingError
from dreambooth.files.atomic import write_text
from dreambooth.formats import FORMATS
from dreambooth.run.export import ExportConfig
from dreambooth.run.export_place import target
from dreambooth.run.generate import GenerateConfig, asked
from dreambooth.schema import Setting, flags, is_set
from dreambooth.setup.config import TrainConfig
from dreambooth.setup.given import from_arguments
from dreambooth.setup.open import find
from dreambooth.setup.record import CONFIG
from dreambooth.setup.runs import FoundRun
from dreambooth.setup.states import State
from dreambooth.web import jobs, planning
from dreambooth.web.confine import confine, refuse_unsaid
from dreambooth.web.studio import Studio
from dreambooth.web.view import PLAY, run_view

Values = Mapping[str, Any]


def as_yaml(config: TrainConfig) -> str:
    """What was given by hand, as a file of settings."""
    return yaml.safe_dump(config.model_dump(mode="json", exclude_unset=True), sort_keys=False, allow_unicode=True)


def start(studio: Studio, name: str, config: TrainConfig, *, at_once: bool = False) -> jobs.Job:
    """Train; raises SettingError where the name is taken meanwhile. The checks have been made by `planning`."""
    studio.new_run(name)
    job = jobs.new("train", (), name, planning.device_of(config), at_once=at_once)
    path = studio.jobs / f"{job.id}.yaml"
    write_text(path, as_yaml(config))
    return _added(studio, replace(job, words=("train", "--config", path.relative_to(studio.root).as_posix())))


def go_on(studio: Studio, name: str) -> jobs.Job:
    """Go on with a run that was interrupted or has failed; a start that failed before there was a run is made again.

    Raises SettingError where there is nothing to go on with.
    """
    view = run_view(studio, name)
    if view.status is None or view.is_waiting or view.status.state is State.FINISHED:
        raise SettingError("run", f"{name} is {view.status or 'not understood'}.", fix="There is nothing to go on with.")
    if view.run is not None:
        path = (view.run.folder / CONFIG).relative_to(studio.root).as_posix()
        return _added(studio, jobs.new("train", ("train", "--config", path, "--resume_from_checkpoint", "latest"), name, _device()))
    assert view.job
    job = replace(view.job, process={}, started=0.0)
    jobs.put_back(studio, job)
    jobs.pump(studio)
    return job


def draw(studio: Studio, run: FoundRun, typed: Values, *, step: str = "", at_once: bool = False) -> jobs.Job:
    """Draw pictures into a folder of their own below the run's; raises SettingError for a request that cannot be done."""
    refuse_unsaid(typed)
    job = jobs.new("generate", (), run.name, _device(), at_once=at_once)
    folder = run.folder / PLAY / job.id
    config = from_arguments(GenerateConfig, {**typed, "run": _model(run, step), "output_dir": str(folder)})
    confine(config, studio)
    asked(config)
    result = folder.relative_to(studio.root).as_posix()
    return _added(studio, replace(job, words=("generate", *words_of(config)), result=f"{result}/contact_sheet.png"))


def export(studio: Studio, run: FoundRun, typed: Values, *, step: str = "", at_once: bool = False) -> jobs.Job:
    """Write a run's result as a file for other programs; raises SettingError for what cannot be, and for one that is there."""
    refuse_unsaid(typed)
    config = from_arguments(ExportConfig, {**typed, "run": _model(run, step)})
    confine(config, studio)
    config.refuse_contradictions()
    path, folder, own = find(config.run)
    out = target(None, FORMATS[config.format], folder, path, own, overwrite=config.overwrite)
    result = out.relative_to(studio.root).as_posix()
    return _added(studio, jobs.new("export", ("export", *words_of(config)), run.name, _device(), result=result, at_once=at_once))


def words_of(config: Setting) -> list[str]:
    """A setting's flags, each with its value in one word, so that no value can be taken for a flag."""
    words = []
    for name, flag in flags(type(config)).items():
        if is_set(config, flag.path):
            value: Any = config
            for step in flag.path:
                value = getattr(value, step)
            words += [f"--{name}={_word(one)}" for one in (value if isinstance(value, tuple) else (value,)) if one is not None]
    return words


def _word(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _model(run: FoundRun, step: str) -> str:
    """A run, or one of its checkpoints, as commands name it."""
    if step and not step.isdecimal():
        raise SettingError("step", "a checkpoint is named by its step.")
    return str(run.folder / f"checkpoint-{step}") if step else str(run.folder)


def _device() -> str:
    """The device on which a run goes on and is drawn with, as jobs name it."""
    return planning.device_name(planning.pick_device(None))


def _added(studio: Studio, job: jobs.Job) -> jobs.Job:
    job = jobs.add(studio, job)
    jobs.pump(studio)
    return job
