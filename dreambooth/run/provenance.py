"""What a run was trained on, file by file, and what of it is another when the run goes on.

A checkpoint's `state.json` holds it, so that photos, captions, masks, class images or a base model that change between two starts do not
pass for those of the whole run.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from dreambooth.core.errors import SettingError
from dreambooth.core.trees import at
from dreambooth.families.source import replaced
from dreambooth.files.digests import file_digest
from dreambooth.memory.levers import PATHS
from dreambooth.run.material import Material
from dreambooth.schema import get
from dreambooth.setup.config import TrainConfig
from dreambooth.setup.resuming import differences
from dreambooth.training.masks import mask_file
from dreambooth.training.state import read_state, step_of

CHOSEN = (("loop", "seed"), ("photos", "identifier"), ("cropping", "resolution"))
"""Settings for which a run finds a value itself where they were left out."""
LISTED = 3
"""Files that are named of those that have changed alike."""

Contents = Mapping[str, Any]


def contents(config: TrainConfig, material: Material, base: str) -> dict[str, Any]:
    """What decides beside the settings what a run learns, as JSON: sha256 of each file, and what each photo is called.

    {"models": {"base model": sha256}, "photos": {name: {"sha256", "prompt", "mask"}}, "class_images": {prompt: {name: sha256}}}.
    Photos of the second of several subjects are called 2/name. Of class images that are still to be drawn nothing is known, and nothing
    of any while the sets are not planned.
    """
    photos = {}
    roots = {subject.folder.root: place for place, subject in reversed(list(enumerate(material.subjects, start=1)))}
    for photo in material.photos:
        name = photo.path.name if len(material.subjects) == 1 else f"{roots[photo.path.parent]}/{photo.path.name}"
        mask = mask_file(photo.path, config.photos.mask_dir) if config.objective.masked_loss else None
        photos[name] = {"sha256": photo.digest(), "prompt": photo.prompt, "mask": mask and file_digest(mask)}
    found = {"models": {"base model": base, **replaced(config.model)}, "photos": photos}
    if config.has_prior and not material.prior:
        return found
    class_images: dict[str, dict[str, str]] = {}
    for images in material.prior:
        prompt = f"{images.prompt} ({len(class_images) + 1})" if images.prompt in class_images else images.prompt
        class_images[prompt] = {path.name: file_digest(path) for path in images.present()}
    return {**found, "class_images": class_images}


def as_chosen(config: TrainConfig, checkpoint: Path) -> TrainConfig:
    """The configuration with what the run had found itself: a seed, an identifier, the model's own resolution, and what --fit chose."""
    settings = read_state(checkpoint)["settings"]
    found = {path: at(settings, path) for path in CHOSEN if get(config, path) is None}
    if config.loop.fit:  # the device's free memory may be another by now
        found |= {path: at(settings, path, get(config, path)) for path in PATHS}
    return config.updated({path: value for path, value in found.items() if value is not None})


def earlier(config: TrainConfig, material: Material, base: str, checkpoint: Path) -> list[dict[str, Any]]:
    """What the run was trained on until a checkpoint, where that is something else now: `until` which update, what has `changed`, and
    the `photos` of that time. Checkpoints of versions that did not keep it count as unchanged.

    Raises SettingError naming what has changed, settings among it, unless --allow_changed_settings was given.
    """
    state = read_state(checkpoint)
    before = state.get("material") or {}
    found = [*differences(state["settings"], config), *(changes(before, contents(config, material, base)) if before else ())]
    if found and not config.loop.allow_changed_settings:
        fix = "Set them back, or pass --allow_changed_settings."
        raise SettingError("--resume_from_checkpoint", f"changed since {checkpoint.name}: {'; '.join(found)}.", fix=fix)
    kept = list(before.get("earlier", ()))
    if not found:
        return kept
    photos = [{"name": name, "sha256": photo["sha256"]} for name, photo in before.get("photos", {}).items()]
    return [*kept, {"until": step_of(checkpoint), "changed": found, **({"photos": photos} if photos else {})}]


def changed_since(material: Material, checkpoint: Path) -> list[str]:
    """A sentence on what has changed since a checkpoint, where it was allowed."""
    found = [change for part in material.earlier if part["until"] == step_of(checkpoint) for change in part["changed"]]
    return [f"Going on although this has changed since {checkpoint.name} (run.json keeps it): {'; '.join(found)}."] if found else []


def since(material: Material, digest: str) -> dict[str, int]:
    """{"since": update} for a photo that was not there from the start; nothing for one that was."""
    parts = [part for part in material.earlier if "photos" in part]
    without = [part["until"] for part in parts if digest not in {photo["sha256"] for photo in part["photos"]}]
    return {"since": max(without)} if without else {}


def changes(before: Contents, now: Contents) -> Iterator[str]:
    """What is another, in words that name the files."""
    for name, digest in before["models"].items():
        if now["models"].get(name, digest) != digest:
            yield f"the {name} is another"
    yield from _files("", {n: p["sha256"] for n, p in before["photos"].items()}, {n: p["sha256"] for n, p in now["photos"].items()})
    both = [name for name in before["photos"] if name in now["photos"]]
    called = [name for name in both if before["photos"][name]["prompt"] != now["photos"][name]["prompt"]]
    for name in called[:LISTED]:
        yield f"{name} is called {now['photos'][name]['prompt']!r}, was {before['photos'][name]['prompt']!r}"
    if len(called) > LISTED:
        yield f"{len(called) - LISTED} more photos are called otherwise"
    masks = [name for name in both if before["photos"][name]["mask"] != now["photos"][name]["mask"]]
    if masks:
        yield f"the mask of {_listed(masks)} is another"
    if "class_images" not in now:
        return
    for prompt, old in before["class_images"].items():
        new = now["class_images"].get(prompt)
        if new:
            yield from _files("class image ", old, new)
    fresh = now["class_images"].keys() ^ before["class_images"].keys()
    if fresh:
        yield f"the class images are others ({_listed(sorted(map(repr, fresh)))})"


def _files(what: str, before: Mapping[str, str], now: Mapping[str, str]) -> Iterator[str]:
    """Files that are gone, new, or others by the same name."""
    groups = {
        "gone": [name for name in before if name not in now], "new": [name for name in now if name not in before],
        "another": [name for name, digest in before.items() if now.get(name, digest) != digest],
    }  # fmt: skip
    for word, names in groups.items():
        if names:
            yield f"{what}{_listed(names)} {'is' if len(names) == 1 else 'are'} {word}"


def _listed(names: Sequence[str]) -> str:
    more = len(names) - LISTED
    return ", ".join(names[:LISTED]) + (f" and {more} more" if more > 0 else "")
