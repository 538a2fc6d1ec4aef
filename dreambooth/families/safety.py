"""A base model's safety checker: files of its pipeline that training neither loads nor changes, and that belong to its results.

diffusers names it in two parts: `safety_checker`, the network, and `feature_extractor`, which prepares pictures for it.
"""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from dreambooth.core.errors import RunError, SettingError
from dreambooth.families.complete import MODEL_INDEX, Part, refuse_links
from dreambooth.families.downloading import CHECKER, downloaded_checker
from dreambooth.families.source import FLAG, ModelSource, parts_of
from dreambooth.files.pretrained import from_pretrained
from dreambooth.files.reading import needed_json

NETWORK, PICTURES = CHECKER
KINDS: Mapping[str, tuple[str, str]] = {
    "StableDiffusionSafetyChecker": ("stable_diffusion", "diffusers.pipelines.stable_diffusion.safety_checker"),
    "IFSafetyChecker": ("deepfloyd_if", "diffusers.pipelines.deepfloyd_if.safety_checker"),
}
"""The checkers that are known: what an index of parts calls their library, and the module of diffusers that they lie in."""
PREPROCESSOR = "preprocessor_config.json"
LEAVE_OUT = "--no_safety_checker does without it."


@dataclass(frozen=True)
class SafetyChecker:
    """The checker that a base model's `model_index.json` names."""

    source: ModelSource
    kind: str

    @classmethod
    def of(cls, source: ModelSource) -> "SafetyChecker | None":
        """A model's checker; None where it has none, or where the settings leave it out."""
        library, kind = parts_of(source.index()).get(NETWORK, (None, None))
        return cls(source, str(kind)) if source.safety_checker and library else None

    def files(self) -> dict[str, Path]:
        """Every file by its place in a pipeline that names no variant; those of a Hub model are downloaded first.

        Raises SettingError, which names the file, for a checker that is not whole, or is none that is known.
        """
        if self.kind not in KINDS:
            raise self._refusal(f"{MODEL_INDEX} names {self.kind}, which is not known here.")
        root = self.source.folder()
        if not self.source.is_here and not self.source.single_file:
            root = downloaded_checker(self.source)  # type: ignore[arg-type]
        part = Part(root, NETWORK, "transformers", self.kind, FLAG, self.source.variant, allow_pickle=True)
        try:
            part.check()
            refuse_links(root / PICTURES, root, flag=FLAG)
        except SettingError as error:
            raise self._refusal(error.reason) from None
        if not (root / PICTURES / PREPROCESSOR).is_file():
            raise self._refusal(f"{root / PICTURES} lacks {PREPROCESSOR}.")
        weights = part.weight_files()
        listed = (root / NETWORK).glob("*.index*.json") if len(weights) > 1 else ()
        found = [root / NETWORK / "config.json", root / PICTURES / PREPROCESSOR, *weights, *listed]
        return {f"{path.parent.name}/{self._plain(path.name)}": path for path in found}

    def is_pickle(self) -> bool:
        """Whether its weights are a pickle, which can run any code when it is opened."""
        return any(name.endswith(".bin") for name in self.files())

    def runnable(self, *, allow_pickle: bool) -> dict[str, Path]:
        """`files`; raises SettingError for a pickle, too, unless that is allowed."""
        if self.is_pickle() and not allow_pickle:
            reason = "its weights are a pickle, which can run any code when opened."
            raise self._refusal(reason, "Pass --allow_pickle if you trust the file;")
        return self.files()

    def network(self, *, allow_pickle: bool = False) -> Any:
        """The network in float32; raises SettingError for one that is not whole."""
        files = self.runnable(allow_pickle=allow_pickle)
        weights = next(path.name for name, path in files.items() if name.startswith(NETWORK) and not name.endswith(".json"))
        variant = self.source.variant if f".{self.source.variant}" in weights else None
        options = {"variant": variant, "use_safetensors": not self.is_pickle(), "local_files_only": True}
        with torch.random.fork_rng(devices=[]):
            return from_pretrained(self._class(), str(files[f"{NETWORK}/config.json"].parent), FLAG, **options).eval()

    def size(self) -> int:
        """Bytes that it takes in a result; of a model whose configurations alone are here, what its network will take in float32."""
        folder = self.source.folder() / NETWORK
        if any(folder.glob("*.safetensors")) or any(folder.glob("*.bin")) or not (folder / "config.json").is_file():
            return sum(path.stat().st_size for path in self.files().values())
        from transformers import CLIPConfig

        with torch.device("meta"):
            network = self._class()(CLIPConfig.from_pretrained(folder))
        return sum(weight.numel() * 4 for weight in network.parameters())

    def copy(self, folder: Path) -> None:
        """Put its files, byte for byte, into a pipeline that was saved without it, and name it there."""
        try:
            for name, path in self.files().items():
                (folder / name).parent.mkdir(exist_ok=True)
                shutil.copyfile(path, folder / name)
        except (FileNotFoundError, SettingError) as error:
            fix = f"Put it back and go on with --resume_from_checkpoint latest; {LEAVE_OUT}"
            raise RunError(f"The base model's safety checker is no longer there ({error}). {fix}") from None
        place, own = folder / MODEL_INDEX, self.source.index()
        index = needed_json(place, setting="--output_dir", fix="Save it again.")
        index |= {NETWORK: [KINDS[self.kind][0], self.kind], PICTURES: ["transformers", "CLIPImageProcessor"]}
        index["requires_safety_checker"] = bool(own.get("requires_safety_checker", True))
        place.write_text(json.dumps(index, indent=2, sort_keys=True) + "\n", encoding="utf-8", newline="\n")

    def _class(self) -> Any:
        return getattr(import_module(KINDS[self.kind][1]), self.kind)

    def _plain(self, name: str) -> str:
        """The name of a file without its variant."""
        return name.replace(f".{self.source.variant}.", ".", 1) if self.source.variant and "-of-" not in name else name

    def _refusal(self, reason: str, fix: str = "") -> SettingError:
        where = self.source.pretrained_model_name_or_path
        return SettingError(FLAG, f"the safety checker of {where}: {reason}", fix=f"{fix} {LEAVE_OUT}".strip())
