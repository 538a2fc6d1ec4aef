"""A model to draw with, from whatever a person names: a run, a checkpoint of a run, a pipeline, a Hub id, a LoRA file on a base model."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dreambooth.core.device import pick_device
from dreambooth.core.errors import SettingError
from dreambooth.core.wording import resume_command, shell_words
from dreambooth.families import Family, ModelSource, family_of
from dreambooth.families.names import known_models
from dreambooth.families.source import relabel_errors
from dreambooth.families.superresolution import SuperResolution
from dreambooth.files.digests import file_digest
from dreambooth.files.entries import INCOMING, finish_entries
from dreambooth.files.folders import expanded
from dreambooth.files.locks import claimed
from dreambooth.files.places import is_inside
from dreambooth.files.pretrained import is_nothing
from dreambooth.files.sums import SUMS, verified
from dreambooth.formats.loras import add_lora, read_lora
from dreambooth.methods import Learner
from dreambooth.setup.config import TrainConfig
from dreambooth.setup.given import config_type, named_in, read_yaml
from dreambooth.setup.model import configure_tokenizers, learning_parts, load_base, load_in, silence_libraries
from dreambooth.setup.record import RECORD, read_record
from dreambooth.setup.runs import absent
from dreambooth.setup.trust import untrusted
from dreambooth.training.state import STATE, checkpoints, step_of

CONFIG = "config.yaml"


@dataclass
class Opened:
    """A loaded family; for a run also how it was made."""

    family: Family
    name: str
    config: TrainConfig | None = None
    record: dict[str, Any] | None = None
    learner: Learner | None = None
    added: str | None = None
    """What a LoRA file has changed, in words."""
    checker: Any = None
    """The loaded safety checker, once pictures were shown to it."""
    stages: "tuple[Opened, ...]" = ()
    """Those before it, where it is the last one of a cascade."""

    @property
    def identifier(self) -> str | None:
        """What [V] stands for."""
        return self.config.photos.identifier if self.config else None

    @property
    def replaced_noun(self) -> str | None:
        """The class noun, where [V] stands for it too."""
        return self.config.replaced_noun if self.config else None

    @property
    def weights(self) -> str | None:
        """A digest of the run's or checkpoint's own files, where they were noted when they were saved."""
        sums = Path(self.name) / SUMS
        return file_digest(sums)[:16] if self.config and sums.is_file() else None

    @property
    def precision(self) -> str:
        """The arithmetic the run was trained and previewed in."""
        return self.config.loop.mixed_precision if self.config else "no"


@dataclass(frozen=True)
class Opening:
    """How a model is to be opened."""

    lora: str | None = None
    """A LoRA file, or another run, on top."""
    device: str | None = None
    precision: str | None = None
    """The arithmetic to draw in where it is not the run's own: frozen weights of a run in half precision are then kept whole."""
    variant: str | None = None
    revision: str | None = None
    allow_pickle: bool = False
    verify: bool = True
    single_file_config: str | None = None
    """Configurations and tokenizers for a single file."""


def open_model(name: str, how: Opening = Opening()) -> Opened:
    """Load a run, RUN@300, RUN@best, a pipeline folder or a Hub id; raises SettingError when there is nothing of the kind."""
    path = named(name)
    run = run_folder(path)
    silence_libraries()
    added = read_lora(str(named(how.lora, "--lora")), allow_pickle=how.allow_pickle) if how.lora else None
    if run:
        opened = _open_run(run, path, how)
    else:
        refuse_no_model(name, single_file_config=how.single_file_config, allow_pickle=how.allow_pickle)
        source = ModelSource(
            pretrained_model_name_or_path=name, allow_pickle=how.allow_pickle, variant=how.variant, revision=how.revision,
            single_file_config=how.single_file_config,
        )  # fmt: skip
        with relabel_errors("run"):
            opened = Opened(load_in(how.precision or "no", source), source.pretrained_model_name_or_path)
    if added:
        opened.added = add_lora(opened.family, added)
    opened.family.to(pick_device(how.device))
    return opened


def open_base(config: TrainConfig, device: str | None, precision: str | None) -> Opened:
    """A run's model before training, rounded where the run's is; another `precision` than the run's own may be asked for."""
    family = load_base(config, precision)
    configure_tokenizers(family, config.text)
    family.to(pick_device(device))
    return Opened(family, config.model.pretrained_model_name_or_path)


def refuse_no_model(name: str, *, single_file_config: str | None = None, allow_pickle: bool = True) -> None:
    """Raise SettingError for what can be seen to be no model, with nothing loaded or downloaded; a run is another matter."""
    path = Path(name).expanduser()
    source = ModelSource(pretrained_model_name_or_path=name, single_file_config=single_file_config, allow_pickle=allow_pickle)
    if (path / "pytorch_lora_weights.safetensors").is_file() and not (path / "model_index.json").is_file():
        fix = f"Name its base model: {shell_words('dreambooth', 'generate', 'BASE_MODEL', 'a dog on the beach', '--lora', path)}"
        raise SettingError("model", f"{name} is a LoRA without its base model.", fix=fix)
    if path.name == name and not source.is_here and is_nothing(source.pretrained_model_name_or_path, needs_owner=True):
        raise absent(name, Path.cwd(), others=known_models())
    with relabel_errors("run"):
        source.refuse_missing()
        if source.is_here:
            family_of(source)


def find(name: str, *, single_file_config: str | None = None) -> tuple[Path, Path | None, TrainConfig | None]:
    """Where a model lies that a user has named, and, where it is a run or a checkpoint of one, that run and its configuration.

    Raises SettingError for all that can be seen to be no model to draw with, with nothing loaded, downloaded or written.
    """
    expanded(name, "run")
    path = named(name)
    run = run_folder(path)
    if run is None:
        refuse_no_model(name, single_file_config=single_file_config)
        return path, None, None
    config = read_config(run)
    refuse_unfinished(run, path, config)
    return path, run, config


def refuse_unfinished(run: Path, path: Path, config: TrainConfig) -> None:
    """Raise SettingError for a run without a result, for a checkpoint of it that is not whole, and for a base model that is gone."""
    record = read_record(run)
    if path != run and config.method.kind != (method := named_in(read_yaml(run / CONFIG)) or config.method.kind):
        fix = f"Draw with the run itself, or import {method.partition(':')[0]} in Python before."
        raise SettingError("run", f"{path} was trained by {method}, code that is not imported for a checkpoint.", fix=fix)
    if path != run and not (path / STATE / "state.json").is_file():
        raise SettingError("model", f"{path} is no whole checkpoint.", fix="Name another checkpoint of the run.")
    result = path / ("model_index.json" if config.method.trains_whole_parts else "README.md")
    if path == run and record.get("state") != "finished" and not result.is_file():
        fix = f"Finish it: {resume_command(run)}, or name one of its checkpoints ({run}@N)."
        raise SettingError("model", f"the run {run} is {record.get('state', 'not finished')}.", fix=fix)
    if path != run or not config.method.trains_whole_parts:
        config.model.refuse_missing()


def read_config(run: Path, *, allow_pickle: bool = False) -> TrainConfig:
    """The configuration of a run, which may be somebody else's: its deeds do not count, and code that it names is not imported.

    Pickles are opened where `allow_pickle` says so here and now. A whole pipeline is one whatever has trained it; for anything else of a
    user's own method raises SettingError unless their program has imported its code.
    """
    tree = untrusted(read_yaml(run / CONFIG))
    method = named_in(tree)
    try:
        kind = config_type(method, may_import=False)
    except SettingError as error:
        if not (run / "model_index.json").is_file():
            module = str(method).partition(":")[0]
            fix = f"If you trust that code, use Python: `import {module}, dreambooth; dreambooth.open_run({str(run)!r}).generate(...)`."
            raise SettingError("run", f"{run / CONFIG}: {error.reason}", fix=fix) from None
        kind, tree["method"] = TrainConfig, "full"
    return kind.parse(tree).updated({("model", "allow_pickle"): True} if allow_pickle else {})


def own_place(run: Path, *names: str) -> Path:
    """A folder of a run that is written to; raises SettingError where a link in the run, which may be somebody else's, leads out of it."""
    place = run.joinpath(*names)
    if not is_inside(place, run):
        reason = f"{place} lies elsewhere, for a link leads out of the run; nothing is written there."
        raise SettingError("run", reason, fix="Remove the link, or name a folder: --output_dir.")
    return place


def named(name: str, setting: str = "run") -> Path:
    """The folder that a name means: RUN@300 is a checkpoint that the run has kept, RUN@best the one that its evaluations chose.

    A folder that is called so itself comes first. Raises SettingError, with the steps that there are, for a checkpoint that is not there.
    """
    path = Path(name).expanduser()
    head, _, which = name.rstrip("/").rpartition("@")
    run = Path(head).expanduser()
    is_run = bool(head) and run_folder(run) == run
    if path.exists() or not (is_run or (head and (which == "best" or which.isdecimal()))):
        return path
    if not is_run:
        reason = "is no run, so it has no checkpoints." if run.exists() else "does not exist."
        raise SettingError(setting, f"{head} {reason}", fix="Before the @ stands the folder that `dreambooth train` wrote.")
    return _checkpoint(run, which, head, setting)


def _checkpoint(run: Path, which: str, head: str, setting: str) -> Path:
    """What stands behind `head`@`which`. The last step may have no checkpoint of its own; the run's result is that then."""
    record = read_record(run)
    found: dict[int, Path] = {record["result_step"]: run} if record.get("state") == "finished" and "result_step" in record else {}
    found |= {step_of(checkpoint): checkpoint for checkpoint in checkpoints(run)}
    names = ", ".join(f"{head}@{step}" for step in sorted(found))
    there = f"There {'is' if len(found) == 1 else 'are'} {names}." if found else "It has kept none."
    if which != "best" and not which.isdecimal():
        raise SettingError(setting, f"after the @ stands a step or best, not {which!r}.", fix=there)
    if which == "best" and not record.get("choice"):
        reason = f"no checkpoint of {head} was evaluated while it trained, so none is known to be the best."
        raise SettingError(setting, reason, fix=f"Train with --evaluate_every. {there}")
    step = record["choice"]["step"] if which == "best" else int(which)
    if step not in found:
        what = f"the best of {head}, step {step}, is no longer there" if which == "best" else f"{head} has no checkpoint of step {step}"
        raise SettingError(setting, f"{what}.", fix=there)
    return found[step]


def run_folder(path: Path) -> Path | None:
    """The run that a path is, or lies in as a checkpoint."""
    for folder in (path, path.parent):
        whole = (folder / RECORD).is_file() and (folder / CONFIG).is_file()
        if whole and (folder == path or path.name.startswith("checkpoint-")):
            return folder
    return None


def _open_run(run: Path, path: Path, how: Opening) -> Opened:
    config, record = read_config(run, allow_pickle=how.allow_pickle), read_record(run)
    _finish_replacing(run)
    refuse_unfinished(run, path, config)
    fix = "Train it again, or use another checkpoint; --no_verify uses it as it is."
    with verified(path, fix=fix, enabled=how.verify):
        return _loaded(run, path, config, record, how.precision)


def _finish_replacing(run: Path) -> None:
    """Bring a result to its place that a run was interrupted at replacing; a run that is at work does so itself."""
    if (run / INCOMING).is_dir():
        with claimed(run, "generate", setting="run"):
            finish_entries(run)


def _loaded(run: Path, path: Path, config: TrainConfig, record: dict[str, Any], precision: str | None) -> Opened:
    if config.method.trains_whole_parts and path == run:
        source = config.model.updated({("pretrained_model_name_or_path",): str(run), ("pretrained_vae_name_or_path",): None,
                                       ("tokenizer_name",): None, ("variant",): None, ("revision",): None,
                                       ("single_file_config",): None, ("lora",): None})  # fmt: skip
        family = family_of(source).load(source, replaced=_encoders_of_base(config))
        learner = None
    else:
        family = load_base(config, precision)  # as in training
        learner = config.method.attach(family, learning_parts(config, family), seed=0)
        learner.load(path)
    configure_tokenizers(family, config.text)
    if isinstance(family, SuperResolution) and (levels := record.get("noise_levels")):
        family.noise_levels = levels[0], levels[1]
    for part in family.parts.values():
        part.requires_grad_(False).eval()
    return Opened(family, str(path), config, record, learner)


def _encoders_of_base(config: TrainConfig) -> dict[str, Any]:
    """The base model's text encoders, where the run has left them out of its result."""
    if not config.output.skip_save_text_encoder:
        return {}
    base = family_of(config.model).load(config.model)
    return {name: base.parts[name] for name in base.encoder_names}
