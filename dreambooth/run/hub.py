"""A result on the Hub: what is uploaded, and what never leaves this machine."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dreambooth.core.errors import SettingError, first_line
from dreambooth.core.wording import written_out
from dreambooth.methods import Learner
from dreambooth.run.card import card
from dreambooth.run.material import Material
from dreambooth.run.result import CARD
from dreambooth.setup.config import TrainConfig

CONSENT = (
    "It will be uploaded: whoever has the model can draw its subject. Of a person, upload only with their consent; of a base model, only "
    "as its licence allows (docs/responsible-use.md). --hub_private keeps it to yourself."
)
"""What is said before the work of a run whose result goes to the Hub."""


def check_push(config: TrainConfig, folder: Path) -> None:
    """Raise SettingError, before any work, for a name that the Hub would not take or a token that it does not know."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    name = _hub_name(config, folder)
    try:
        validate_repo_id(name)
    except HFValidationError as error:
        raise SettingError("--hub_model_id", f"the Hub takes no model named {name!r} ({first_line(error)}).", fix="Give another.") from None
    try:
        HfApi(token=_token(config)).whoami()
    except Exception as error:  # the transport's own errors differ from version to version
        fix = "`hf auth login` or --hub_token; offline, leave the flag out and `hf upload` the result later."
        reason = _without_token(first_line(error), config)
        raise SettingError("--push_to_hub", f"the Hub does not know who asks ({reason}).", fix=fix) from None


def push(
    config: TrainConfig, material: Material, learner: Learner, folder: Path, written: Sequence[str], record: Mapping[str, Any]
) -> str:  # fmt: skip
    """Upload what was `written` by `write_result`, and the pictures drawn at the end; returns the address.

    Nothing else: contact sheets and reports show the user's photos, and the run's record names this machine and its folders.
    """
    from huggingface_hub import CommitOperationAdd, HfApi

    api, text = HfApi(token=_token(config)), card(config, material, learner, record, is_public=True)
    files = [file for name in [*written, "samples/final"] for file in [folder / name, *(folder / name).rglob("*")] if file.is_file()]
    adds = [CommitOperationAdd(file.relative_to(folder).as_posix(), _public(file, text)) for file in files]
    try:
        name = api.create_repo(_hub_name(config, folder), exist_ok=True, private=config.output.hub_private).repo_id
        return str(api.create_commit(name, adds, commit_message="DreamBooth").repo_url)
    except Exception as error:  # whatever it was: the run is done, and its result lies there whole
        reason = f"the upload failed ({_without_token(first_line(error), config)}); the result is whole in {folder}."
        raise SettingError("--push_to_hub", reason, fix="`hf upload` it.") from None  # what it came from may hold the token


def _token(config: TrainConfig) -> str | None:
    return config.output.hub_token.get_secret_value() if config.output.hub_token else None


def _without_token(text: str, config: TrainConfig) -> str:
    """What a library has said, without the token that it may have said it of: a header that is refused, say."""
    token = _token(config)
    return text.replace(token, "***").replace(repr(token)[1:-1], "***") if token else text


def _hub_name(config: TrainConfig, folder: Path) -> str:
    return config.output.hub_model_id or folder.absolute().name


def _public(file: Path, card: str) -> str | bytes:
    """A file as it may be seen by all: the card's public text, configurations without the folder that they were read from."""
    if file.name == CARD:
        return written_out(card).encode()
    if file.suffix != ".json":
        return str(file)
    content = json.loads(file.read_text(encoding="utf-8"))
    if isinstance(content, dict):
        content = {name: value for name, value in content.items() if name not in ("_name_or_path", "name_or_path")}
    return written_out(json.dumps(content, indent=2, ensure_ascii=False)).encode()
