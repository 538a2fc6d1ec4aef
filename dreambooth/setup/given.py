"""A configuration from what somebody has given: a file, flat names, a method of their own."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dreambooth.core.errors import SettingError
from dreambooth.core.trees import merged, place
from dreambooth.files.yaml_file import read_yaml_file
from dreambooth.methods import Method
from dreambooth.schema import Setting, extended, flags, from_python, nearest
from dreambooth.setup.config import TrainConfig, rooted
from dreambooth.setup.kohya import read_kohya
from dreambooth.setup.record import CONFIG, RECORD
from dreambooth.setup.trust import is_on, own_class, refuse_deeds


def train_config(*, config: str | Path | None = None, **settings: Any) -> TrainConfig:
    """The configuration from a file and flat names, later ones first."""
    method = settings.get("method")
    kind, said = from_file(Path(config).expanduser(), settings, method) if config else (config_type(method), {})
    return from_arguments(kind, settings, said)


def from_arguments(kind: type[Setting], settings: Mapping[str, Any], tree: dict[str, Any] | None = None) -> Any:
    """A tree of settings from flat names, as flags without their dashes, over a file's; raises SettingError for a name that does not
    exist. Where a list is wanted, one text is a list of it."""
    given, known = dict[str, Any](), flags(kind)
    for name in settings:
        if name not in known:
            raise SettingError(name, "there is no such setting.", fix=nearest(name, known))
    for name, value in from_python(settings).items():
        place(given, known[name].path, known[name].items([value]) if known[name].is_list and isinstance(value, str) else value)
    return kind.parse(merged(tree or {}, given))


def read_yaml(path: Path) -> dict[str, Any]:
    """A nested mapping from a YAML file, or of a TOML of kohya's; raises SettingError when it is no such thing."""
    if path.suffix.lower() == ".toml":
        return read_kohya(path)
    tree = read_yaml_file(path, "--config")
    if not isinstance(tree, dict):
        raise SettingError("--config", f"{path} holds no settings.", fix="Write `branch: {setting: value}`, as in a run's config.yaml.")
    return tree


def from_file(path: Path, given: Mapping[str, Any], method: str | None) -> tuple[type[TrainConfig], dict[str, Any]]:
    """The tree of settings, and a file's nested values. `given`, by flag, and `method` are what the user has said in person.

    A run's own config.yaml means the folder that it lies in, wherever that has moved to. Raises SettingError for code and deeds that the
    file asks for and the user does not.
    """
    said = read_yaml(path)
    tree = config_type(method or named_in(said), may_import=bool(method) or is_on(given.get("trust_code")))
    refuse_deeds(said, given, flags(tree), str(path))
    output = said.get("output") or {}
    if path.name == CONFIG and (path.parent / RECORD).is_file() and isinstance(output, Mapping):
        said["output"] = {**output, "output_dir": rooted(str(path.parent))}
    return tree, said


def named_in(tree: Mapping[str, Any]) -> Any:
    """The method that a file's tree names, by its kind or as that alone (`method: lora`)."""
    method = tree.get("method")
    return method.get("kind") if isinstance(method, Mapping) else method


def config_type(method: Any, *, may_import: bool = True) -> type[TrainConfig]:
    """The tree, with a user's own method (`package.module:Class`) in its union when one is named.

    Where it is a file that names it, its code is imported only with the user's leave (`may_import`), and raises SettingError without.
    """
    if not isinstance(method, str) or ":" not in method:
        return TrainConfig
    kind = own_class(method, may_import=may_import)
    if not (isinstance(kind, type) and issubclass(kind, Method)):
        raise SettingError("--method", f"{method} is no dreambooth Method.", fix="Derive it from dreambooth.methods.Method.")
    return extended(TrainConfig, "method", kind, method)  # type: ignore[return-value]
