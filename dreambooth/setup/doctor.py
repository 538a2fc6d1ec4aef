"""What this machine has for dreambooth, and what is missing for what. Nothing is loaded or downloaded; a broken library is a finding."""

import os
import platform
import re
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any

import dreambooth
from dreambooth.core.errors import DreamboothError, first_line
from dreambooth.core.wording import size
from dreambooth.files.cache import cache_root

PURPOSES = {
    "photos": "photos in HEIC and HEIF", "lean": "--use_8bit_adam", "optimizers": "--optimizer prodigy", "track": "--report_to",
    "provenance": "sign", "cluster": "bench --executor ray or processes", "ui": "dreambooth ui", "dev": "working on dreambooth itself",
    "docs": "the site of the documentation",
}  # fmt: skip
"""What each extra is for."""
ROOM = 20 * 2**30
"""Free bytes below which a disk is short: a base model of SDXL's size and a run."""


@dataclass(frozen=True)
class Fact:
    """One line of the report."""

    group: str
    name: str
    value: str
    problem: str = ""
    """What does not work because of it; empty where all is well."""
    fix: str = ""
    is_fatal: bool = False
    """Whether nothing can be trained."""


@dataclass(frozen=True)
class Diagnosis:
    """Everything that was looked at."""

    facts: tuple[Fact, ...]

    @property
    def is_fit(self) -> bool:
        """Whether dreambooth can train here."""
        return not any(fact.is_fatal for fact in self.facts)

    def plain(self) -> dict[str, Any]:
        """For programs."""
        return {"fit": self.is_fit, "facts": [asdict(fact) for fact in self.facts]}


def diagnose() -> Diagnosis:
    """This machine as dreambooth finds it."""
    return Diagnosis((*_versions(), *_device(), *_places(), *_extras(), *_encoders()))


def _versions() -> Iterator[Fact]:
    yield Fact("versions", "dreambooth", dreambooth.__version__)
    yield Fact("versions", "python", f"{platform.python_version()} on {platform.system()} {platform.machine()}")
    needed = list(_requirements(None))
    if not needed:
        yield Fact("versions", "packages", "not known", "dreambooth runs from its source and was not installed", "pip install -e .")
    for name, lowest in needed:
        found = _installed(name)
        is_whole = found is not None and _numbers(found) >= _numbers(lowest)
        problem = "" if is_whole else "is missing" if found is None else f"is older than {lowest}"
        yield Fact("versions", name, found or "-", problem, "" if is_whole else f'pip install "{name}>={lowest}"', is_fatal=not is_whole)


def _device() -> Iterator[Fact]:
    try:
        import torch

        from dreambooth.core.device import pick_device

        device = pick_device(None)
    except Exception as error:  # a library that is half installed raises anything
        yield Fact("device", "torch", "-", f"torch cannot be loaded: {first_line(error)}", "Install it again.", is_fatal=True)
        return
    if device.type == "cuda":
        for number in range(torch.cuda.device_count()):
            own = torch.cuda.get_device_properties(number)
            bf16 = "with" if torch.cuda.is_bf16_supported() else "without"
            yield Fact("device", f"cuda:{number}", f"{own.name}, {size(own.total_memory)}, {bf16} bfloat16")
    elif device.type == "cpu":
        built = "" if torch.backends.cuda.is_built() else " (this torch is a CPU build)"
        problem = "a real base model takes hours to train on a CPU; the toybox takes minutes"
        yield Fact(
            "device", "cpu", f"{os.cpu_count()} cores, no accelerator{built}", problem, "https://pytorch.org says how to install for a GPU."
        )
    else:
        yield Fact("device", device.type, str(torch.accelerator.current_accelerator()))
    try:
        import psutil

        yield Fact("device", "memory", f"{size(psutil.virtual_memory().total)}, {size(psutil.virtual_memory().available)} available")
    except Exception as error:
        yield Fact("device", "memory", "-", f"psutil cannot be loaded: {first_line(error)}", "pip install psutil", is_fatal=True)


def _places() -> Iterator[Fact]:
    yield _room("working folder", Path.cwd())
    try:
        yield _room("class images", cache_root(), " ($DREAMBOOTH_CACHE moves it)")
    except DreamboothError as error:
        yield Fact("disk", "class images", "-", str(error))
    try:
        from huggingface_hub import constants, get_token

        yield _room("models of the Hub", Path(constants.HF_HUB_CACHE), " ($HF_HOME moves it)")
        is_known = bool(get_token())
        problem = "" if is_known else "gated models (FLUX.1 dev, SD 3.5 ...) cannot be downloaded"
        yield Fact("disk", "token of the Hub", "there" if is_known else "none", problem, "" if is_known else "hf auth login")
        if constants.HF_HUB_OFFLINE:
            yield Fact("disk", "Hub", "offline", "nothing is downloaded (HF_HUB_OFFLINE)", "Unset it.")
    except Exception as error:
        yield Fact("disk", "models of the Hub", "-", f"huggingface_hub cannot be loaded: {first_line(error)}", is_fatal=True)


def _room(name: str, folder: Path, how: str = "") -> Fact:
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(there).free
    if not os.access(there, os.W_OK):
        return Fact("disk", name, str(folder), "it may not be written", f"Give yourself the right{how}.")
    problem = f"less than {size(ROOM)}: a base model and a run may not fit" if free < ROOM else ""
    return Fact("disk", name, f"{folder}, {size(free)} free", problem, f"Make room{how}." if problem else "")


def _extras() -> Iterator[Fact]:
    extras = {mark for one in requires_of() if (mark := _extra(one))}
    for extra in sorted(extras, key=lambda name: (list(PURPOSES).index(name) if name in PURPOSES else len(PURPOSES), name)):
        missing = [name for name, _ in _requirements(extra) if _installed(name) is None]
        purpose = PURPOSES.get(extra, "")
        if extra in ("dev", "docs") and missing:
            continue  # nobody but its developers misses it
        value = "there" if not missing else f"without {', '.join(missing)}"
        yield Fact(
            "extras", extra, value, f"not possible: {purpose}" if missing else "", f'pip install "dreambooth[{extra}]"' if missing else ""
        )


def _encoders() -> Iterator[Fact]:
    """Whether the encoders of `evaluate` are on this disk."""
    try:
        from dreambooth.metrics import SCORES
        from dreambooth.metrics.networks import NETWORKS
        from dreambooth.metrics.networks.base import NONE, folder_of
    except Exception as error:
        yield Fact("encoders", "all", "-", f"they cannot be asked for: {first_line(error)}", is_fatal=True)
        return
    for name, network in NETWORKS.items():
        if network.on_request:
            continue  # nobody misses one that was not asked for
        where = network.default()
        if where != NONE and folder_of(where).is_dir():
            yield Fact("encoders", name, str(folder_of(where)))
        else:
            scores = ", ".join(metric.title for metric in SCORES if metric.encoder == name)
            yield Fact("encoders", name, "not here", f"no value of real models for {scores}", f"dreambooth encoders get {name}")


def requires_of() -> list[str]:
    """What the installed package asks for, extras with it; empty where it is not installed."""
    try:
        return requires("dreambooth") or []
    except PackageNotFoundError:
        return []


def _extra(requirement: str) -> str | None:
    found = re.search(r"""extra\s*==\s*["']([\w-]+)["']""", requirement)
    return found[1] if found else None


def _requirements(extra: str | None) -> Iterator[tuple[str, str]]:
    """Names and lowest versions of what the package needs, or what an extra brings."""
    for requirement in requires_of():
        found = re.match(r"([\w.-]+)\s*>=\s*([\w.]+)", requirement)
        if found and _extra(requirement) == extra:
            yield found[1], found[2]


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", text.partition("+")[0])[:3])
