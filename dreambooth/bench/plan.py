"""A plan: which ways of learning are compared, on what, and what the paper says beside it. YAML, one file each; shipped ones by name."""

import itertools
from collections.abc import Iterator, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator

from dreambooth.bench.job import MEASURED
from dreambooth.bench.keep import parse_keep
from dreambooth.bench.tables import REAL, REAL_PAIRS, UNTUNED, Layout
from dreambooth.core.errors import SettingError
from dreambooth.evaluation import EvaluateConfig
from dreambooth.files.yaml_file import read_yaml_file
from dreambooth.metrics import METRICS
from dreambooth.schema import Count, Flag, Setting, flags, nearest
from dreambooth.setup.config import Watching
from dreambooth.setup.given import config_type
from dreambooth.setup.trust import DEEDS, is_on

OWN = ("num_photos", "noun", "identifier_kind")
"""Fields of an arm that a sweep may name, beside every flag of `dreambooth train`."""
NOT_TO_SET = {
    "instance_data_dir", "output_dir", "concepts_list", "class_noun", "instance_prompt", "class_prompt", "seed", "resume_from_checkpoint",
    "overwrite_output_dir", "allow_changed_settings", "push_to_hub", "hub_token", "hub_model_id", "hub_private", "concept",
    "class_data_dir", "mask_dir", "skip_save_text_encoder",
}  # fmt: skip
"""Training flags that the bench itself decides for every job, or of which one value cannot be right for all subjects."""
INSTEAD = {"seed": "Use --seeds.", "class_noun": "The dataset says it.", "instance_data_dir": "Use --dataset_dir."}
"""What to do in place of some of them."""
BY_HAND = (*(name for name in DEEDS if name not in NOT_TO_SET), "cache_dir", "logging_dir", "report_to")
"""What a plan cannot ask for: deeds, other places to write to, and reports to others."""
NOT_TO_ASK = ("run", "output_dir", "class_noun", "identifier", "instance_data_dir", "untuned", "allow_pickle")
"""Flags of `dreambooth evaluate` that a plan cannot set."""
ALIKE = ("output", "encoders", "validation", "watching")
"""Branches of the training tree that change nothing of what an arm learns: in an arm they would make two lines out of one job."""
SHIPPED = files("dreambooth.bench") / "plans"


class Arm(Setting):
    """One line of a table: a way of learning, or a way of asking the untuned model."""

    model: Literal["tuned", "untuned", "described"] = "tuned"
    """tuned: learned from the photos; untuned: the base model, asked for the class; described: asked for what the subject looks like."""
    settings: dict[str, Any] = Field(default_factory=dict)
    """Flags of `dreambooth train`. `x0.5` is half of what the flag would be without it."""
    sweep: dict[str, list[Any]] | list[dict[str, Any]] = Field(default_factory=dict)
    """Fields with the values that they take: all combinations of a mapping, or the listed ones. Each makes an arm of its own."""
    num_photos: Count | None = None
    """Learn from the first so many photos; automatic: from all."""
    noun: Literal["correct", "none", "wrong"] = "correct"
    """What the subject is called beside the identifier; wrong is another class of the dataset, none leaves the prior out, too."""
    identifier_kind: Literal["rare", "common", "random", "sks"] = "rare"
    """What [V] is: a rare token of the model's own, an ordinary word, random characters, or the field's habit."""
    keep: str | None = None
    """What stays of each model: everything, adapter, delta:RANK, scores; automatic: as the plan says."""

    @field_validator("sweep", mode="before")
    @classmethod
    def _one_is_a_list(cls, sweep: Any) -> Any:
        return {field: some if isinstance(some, list) else [some] for field, some in sweep.items()} if isinstance(sweep, dict) else sweep


class Plan(Setting):
    """A plan of `dreambooth bench`"""

    prose = ("notes",)

    name: str
    """Short name, as on the command line."""
    title: str
    """What the table is called in print."""
    about: str = ""
    """What is asked, in a sentence or two."""
    arms: dict[str, Arm]
    """The ways that are compared, in the order of the table. A name may hold a swept field in braces: "rank {rank}"."""
    settings: dict[str, Any] = Field(default_factory=dict)
    """Flags of `dreambooth train` for all arms; those of the command line and of an arm count more."""
    evaluation: dict[str, Any] = Field(default_factory=dict)
    """Flags of `dreambooth evaluate` for all arms; those of the command line count more."""
    metrics: tuple[str, ...] = ("dino", "clip_i", "clip_t")
    """Columns of the table."""
    paper: dict[str, dict[str, float]] = Field(default_factory=dict)
    """Arm -> metric -> the paper's value; also "real photos", "real photos, with self-pairs" and "untuned"."""
    paper_of: str = ""
    """What the paper's values were measured on: "Imagen, 15 subjects"."""
    baseline: str | None = None
    """The arm that others are tested against; automatic: the first."""
    keep: str = "scores"
    """What stays of each model: everything, adapter, delta:RANK, or scores only."""
    num_subjects: Count | None = None
    """Subjects, when the command line names none; automatic: all."""
    notes: tuple[str, ...] = ()
    """Sentences below the table."""

    @property
    def most_photos(self) -> int:
        """Photos that a subject needs for every arm; 0 where no arm says a number."""
        return max(arm.num_photos or 0 for arm in self.lines().values())

    def lines(self) -> dict[str, Arm]:
        """All arms by name, with their sweeps laid out."""
        found: dict[str, Arm] = {}
        for name, arm in self.arms.items():
            for full_name, one in _laid_out(name, arm):
                if full_name in found:
                    fix = "Name the arms apart; a swept field may stand in braces: `rank {rank}`."
                    raise SettingError(f"{self.name}: arms", f"two of them are named {full_name!r}.", fix=fix)
                found[full_name] = one
        return found

    def layout(self) -> Layout:
        """What its table looks like."""
        notes = (self.about, *self.notes) if self.about else self.notes
        lines = self.lines()
        untrained = tuple(name for name, arm in lines.items() if arm.model != "tuned")
        return Layout(self.name, self.title, tuple(lines), self.metrics, self.paper, self.paper_of, untrained, self.baseline, notes)


def read_plan(name: str, given: Mapping[str, Any] | None = None) -> Plan:
    """A shipped plan by name, or one of a YAML file; raises SettingError naming the plan, the field and the nearest name.

    `given` are the training flags of the command line, which alone may ask for code, pickles and other places to write to.
    """
    path = Path(name).expanduser()
    if path.suffix not in (".yaml", ".yml"):
        shipped = plans()
        if name not in shipped:
            fix = f"There are {', '.join(shipped)}; a plan of your own is a file ending in .yaml."
            raise SettingError("plan", f"there is no plan {name!r}.", fix=fix)
        return parse_plan(_shipped(name), name)
    tree = read_yaml_file(path, "plan")
    if not isinstance(tree, dict):
        raise SettingError("plan", f"{path} holds no plan.", fix="Write `arms:` and below it a name for each way of learning.")
    return parse_plan({"name": path.stem, **tree}, str(path), given)


def parse_plan(tree: Mapping[str, Any], where: str, given: Mapping[str, Any] | None = None) -> Plan:
    """A plan from plain values, with every field that it names looked up; `given` as in `read_plan`."""
    for field in tree:
        if field not in Plan.model_fields:
            raise SettingError(f"{where}: {field}", "a plan has no such field.", fix=_near(field, Plan.model_fields))
    example = "Name at least one: `arms: {LoRA: {settings: {method: lora}}}`."
    if not tree.get("arms"):
        raise SettingError(f"{where}: arms", "the plan compares nothing.", fix=example)
    if not isinstance(tree["arms"], dict):
        raise SettingError(f"{where}: arms", f"{tree['arms']!r} are no arms by name.", fix=example)
    arms = {str(name): {} if arm is None else arm for name, arm in tree["arms"].items()}
    for name, arm in arms.items():
        _check_arm(arm, f"{where}: arms: {name}")
    if Path(str(tree["name"])).name != str(tree["name"]) or tree["name"] in ("", ".", ".."):
        raise SettingError(f"{where}: name", f"{tree['name']!r} cannot be the name of a folder.", fix="Use letters, digits, - and _.")
    try:
        plan = Plan.parse({**tree, "title": tree.get("title", tree["name"]), "arms": arms})
    except SettingError as error:
        raise SettingError(f"{where}: {error.setting.removeprefix('--')}", error.reason, fix=error.fix) from None
    _check_names(plan, where, given or {})
    return plan


def _check_arm(arm: Any, where: str) -> None:
    """See that plain values are an arm, and so are all that its sweep lays out."""
    if not isinstance(arm, dict):
        raise SettingError(where, f"{arm!r} is no arm.", fix="Write its fields below it: `settings: {method: lora}`.")
    for field in arm:
        if field not in Arm.model_fields:
            fix = _near(field, Arm.model_fields) or "Flags of `dreambooth train` stand below `settings:`."
            raise SettingError(f"{where}: {field}", "an arm has no such field.", fix=fix)
    try:
        parsed = Arm.parse(arm)
        lists = list(parsed.sweep.values()) if isinstance(parsed.sweep, dict) else [parsed.sweep]
        if "sweep" in arm and (not lists or not all(lists)):
            raise SettingError("sweep", "is over nothing, so there would be no such arm.", fix="Give values, or leave it out.")
        list(_laid_out("", parsed))
    except SettingError as error:
        raise SettingError(f"{where}: {error.setting.removeprefix('--')}", error.reason, fix=error.fix) from None


def plans() -> dict[str, str]:
    """The shipped plans and their titles."""
    found = sorted(path.name.removesuffix(".yaml") for path in SHIPPED.iterdir() if path.name.endswith(".yaml"))
    return {name: _shipped(name)["title"] for name in found}


def _shipped(name: str) -> dict[str, Any]:
    return read_yaml_file(Path(str(SHIPPED / f"{name}.yaml")), "plan")


def _check_names(plan: Plan, where: str, given: Mapping[str, Any]) -> None:
    """Every flag, metric, arm and keeping that the plan names must exist, and be for a plan to say."""
    for metric in plan.metrics:
        if metric not in MEASURED:
            problem = "a bench does not measure" if metric in METRICS else "there is no metric"
            raise SettingError(
                f"{where}: metrics", f"{problem} {metric!r}.", fix=_near(metric, MEASURED) or f"There are {', '.join(MEASURED)}."
            )
    for name in plan.evaluation:
        if name not in flags(EvaluateConfig) or name in NOT_TO_ASK:
            raise SettingError(f"{where}: evaluation: {name}", "it is nothing that a plan can set.", fix=_near(name, flags(EvaluateConfig)))
    lines = plan.lines()
    for name, arm in lines.items():
        tree = _trusted({**plan.settings, **arm.settings}, f"{where}: {name}", given)
        for flag in {**plan.settings, **arm.settings}:
            if flag not in tree:
                raise SettingError(f"{where}: {name}: {flag}", "`dreambooth train` has no such flag.", fix=_near(flag, [*tree, *OWN]))
            if flag in NOT_TO_SET:
                raise SettingError(f"{where}: {name}: {flag}", "the bench itself sets it for every job.", fix="Leave it out.")
            branch = tree[flag].path[0]
            if branch == "encoders" or (branch in ALIKE and flag in arm.settings and flag != "stop_early" and not _stops(plan, arm)):
                fix = "Put it below `evaluation:`." if branch == "encoders" else "Put it into the plan's own `settings:`, for all arms."
                raise SettingError(f"{where}: {name}: {flag}", "all arms are evaluated alike, and it changes nothing else.", fix=fix)
    known = (*lines, REAL, REAL_PAIRS, UNTUNED)
    for name, allowed in (*((name, known) for name in plan.paper), *(((plan.baseline, tuple(lines)),) if plan.baseline else ())):
        if name not in allowed:
            raise SettingError(f"{where}: {name}", "the plan has no such arm.", fix=_near(name, lines) or f"It has {', '.join(lines)}.")
    for name, values in plan.paper.items():
        for metric in values:
            if metric not in METRICS:
                raise SettingError(f"{where}: paper: {name}", f"there is no metric {metric!r}.", fix=_near(metric, METRICS))
    for keep in filter(None, (plan.keep, *(arm.keep for arm in lines.values()))):
        parse_keep(keep, f"{where}: keep")


def _trusted(settings: Mapping[str, Any], where: str, given: Mapping[str, Any]) -> dict[str, Flag]:
    """The flags of an arm; raises SettingError for what a plan, which may be somebody else's, cannot say in the user's place."""
    for flag in BY_HAND:
        if is_on(settings.get(flag)) and not (flag in DEEDS and is_on(given.get(flag))):  # what an arm says counts more than the command
            fix = f"Delete it there, and add --{flag} to the command if you want it."
            raise SettingError(f"{where}: {flag}", "a plan cannot say that for you.", fix=fix)
    method = settings.get("method")
    try:
        return flags(config_type(method, may_import=is_on(given.get("trust_code")) or method == given.get("method")))
    except SettingError as error:
        raise SettingError(f"{where}: method", error.reason, fix=error.fix) from None


def _stops(plan: Plan, arm: Arm) -> bool:
    """Whether evaluation passes decide when a training ends, so that how they are made decides what is learned."""
    given = {**plan.settings, **arm.settings}.get("stop_early")
    return given is not None and Watching.parse({"stop_early": given}).stop_early


def _laid_out(name: str, arm: Arm) -> Iterator[tuple[str, Arm]]:
    """An arm without a sweep is itself; with one, an arm for each combination, which says so in its name."""
    if not arm.sweep:
        yield name, arm
        return
    swept = arm.sweep
    listed = [dict(zip(swept, values, strict=True)) for values in itertools.product(*swept.values())] if isinstance(swept, dict) else swept
    for values in listed:
        own = {field: value for field, value in values.items() if field in OWN}
        rest = {field: value for field, value in values.items() if field not in OWN}
        tree = {**arm.model_dump(exclude_unset=True), **own, "settings": {**arm.settings, **rest}}
        tree.pop("sweep")
        yield _named(name, values), Arm.parse(tree)


def _named(name: str, values: Mapping[str, Any]) -> str:
    """The name with its braces filled; fields that it does not mention follow."""
    left = {field: value for field, value in values.items() if f"{{{field}}}" not in name}
    for field, value in values.items():
        name = name.replace(f"{{{field}}}", str(value))
    left = {field: "***" if field == "hub_token" else value for field, value in left.items()}
    return ", ".join([name, *(f"{field} {value}" for field, value in left.items())])


def _near(name: str, names: Any) -> str:
    return nearest(name, names)
