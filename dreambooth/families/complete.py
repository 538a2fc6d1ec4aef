"""Whether a base model's folder is complete: every file that diffusers and transformers will look for, seen before anything is loaded.

They miss less than they should: a tokenizer without its vocabulary is loaded as an empty one, and then every prompt draws one picture.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from safetensors import SafetensorError

from dreambooth.core.errors import SettingError, first_line
from dreambooth.files.disk import failing
from dreambooth.files.places import is_inside, is_plain_name
from dreambooth.files.reading import Damaged, TypedDict, open_shape, read_json
from dreambooth.files.tensors import open_tensors

WEIGHTS = (".safetensors", ".bin", ".ckpt", ".pt", ".pth")
LIBRARIES = ("diffusers", "transformers")
"""Where the parts of a pipeline come from; a module of another name would be somebody's code."""
STEMS = {"diffusers": ("diffusion_pytorch_model", "diffusion_pytorch_model"), "transformers": ("model", "pytorch_model")}
"""What files of weights are called: safetensors, pickles."""
VOCABULARIES: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "CLIPTokenizer": (("tokenizer.json",), ("vocab.json", "merges.txt")), "T5Tokenizer": (("tokenizer.json",), ("spiece.model",)),
}  # fmt: skip
"""The files of a tokenizer: one of these sets."""
ANY_VOCABULARY = (("tokenizer.json",), ("vocab.json", "merges.txt"), ("spiece.model",), ("tokenizer.model",), ("vocab.txt",))
SHARD = re.compile(r"-[0-9]{5}-of-[0-9]{5}")
SMALL = (".json", ".txt", ".model", ".yaml")
"""Files whose words end up in results; weights can be nothing but weights."""
MODEL_INDEX = "model_index.json"


@open_shape
class Shards(TypedDict):
    """An index of weights that lie in several files."""

    weight_map: dict[str, str]


@dataclass(frozen=True)
class Part:
    """A part of a pipeline on the disk, as the index of parts names it, and how it is to be loaded."""

    root: Path
    """The model's folder, out of which nothing is to lead."""
    name: str
    library: str
    kind: str
    flag: str
    variant: str | None = None
    allow_pickle: bool = False
    alone: bool = False
    """Whether `root` is the part's own folder, and no pipeline's."""

    @property
    def folder(self) -> Path:
        return self.root if self.alone else self.root / self.name

    def check(self) -> None:
        """Raise SettingError, naming the file, for what is missing, damaged, leads elsewhere, or is no such part."""
        if not is_plain_name(self.name):
            self._refuse(f"{self.root / MODEL_INDEX} names a part {self.name!r}.")
        is_tokenizer, is_scheduler = self.name.startswith("tokenizer"), self.name.endswith("scheduler")
        reads = "Tokenizer" in self.kind or (is_tokenizer and self.kind.endswith("Processor"))  # of which the tokenizer is loaded alone
        if self.library not in LIBRARIES or (reads, self.kind.endswith("Scheduler")) != (is_tokenizer, is_scheduler):
            reason = f"{MODEL_INDEX} says that {self.name} is {self.library}.{self.kind}, which is no part of that name."
            self._refuse(reason, fix=f"Parts are classes of {' or '.join(LIBRARIES)}; code of others is not run.")
        config = "scheduler_config.json" if is_scheduler else "tokenizer.json" if is_tokenizer else "config.json"
        if not self.folder.is_dir() or not any(self.folder.iterdir()):
            self._refuse(f"{self.folder} holds no files: it lacks {config}.")
        refuse_links(self.folder, self.root, flag=self.flag)
        if is_tokenizer:
            self._check_vocabulary()
            return
        if not (self.folder / config).is_file():
            self._refuse(f"{self.folder} holds no configuration: it lacks {config}.")
        if not is_scheduler:
            self._check_weights()

    def _check_vocabulary(self) -> None:
        sets = VOCABULARIES.get(self.kind.removesuffix("Fast"), ANY_VOCABULARY)
        missing = [[name for name in names if not (self.folder / name).is_file()] for names in sets]
        if all(missing):
            wanted = " or ".join(" and ".join(names) for names in sorted(missing, key=len)[:2])
            self._refuse(f"{self.folder} lacks {wanted}: a tokenizer without its vocabulary cannot read.")

    def _check_weights(self) -> None:
        names = {path.name for path in self.folder.glob("*") if path.suffix in WEIGHTS}
        safe = STEMS[self.library][0]
        if not names:
            self._refuse(f"{self.folder} holds no weights: it lacks {safe}.safetensors.")
        if self.variant is None and all(name.count(".") == 2 for name in names):
            variant = min(names).split(".")[1].split("-")[0]
            raise SettingError("--variant", f"{self.folder} holds {variant} weights only.", fix=f"Add --variant {variant}.")
        kinds = {Path(name).suffix for name in names}
        if ".safetensors" not in kinds and not self.allow_pickle:
            reason = f"the weights of {self.name} are a pickle ({', '.join(sorted(kinds))}), which can run any code when opened."
            self._refuse(reason, fix="Convert them to safetensors, or pass --allow_pickle if you trust the file.")
        files = self.weight_files()
        if not files:
            index = ".index.json" if any(SHARD.search(name) for name in names) else ""
            self._refuse(f"{self.folder} lacks {safe}.safetensors{index}.")
        for file in files:
            self._check_header(file)

    def weight_files(self) -> list[Path]:
        """The files that its weights are read from, safetensors before pickles; none where there are none."""
        safe, pickled = STEMS[self.library]
        return self._stored(safe, ".safetensors") or (self._stored(pickled, ".bin") if self.allow_pickle else [])

    def _stored(self, stem: str, suffix: str) -> list[Path]:
        """The files of weights that will be read: of the variant, or, for a part that has none, the plain ones."""
        for variant in dict.fromkeys((f".{self.variant}" if self.variant else "", "")):
            single, index = self.folder / f"{stem}{variant}{suffix}", self.folder / f"{stem}{suffix}.index{variant}.json"
            if index.is_file() and not (self.library == "transformers" and single.is_file()):
                return self._shards(index)
            if single.is_file():
                return [single]
        return []

    def _shards(self, index: Path) -> list[Path]:
        try:
            names = sorted(set(read_json(index, Shards)["weight_map"].values()))
        except (FileNotFoundError, Damaged) as error:
            self._refuse(f"{index} is damaged ({error}).")
        for name in names:
            if not is_plain_name(name):
                self._refuse(f"{index} names {name!r}, which leads out of the folder.")
            if not (self.folder / name).is_file():
                self._refuse(f"{self.folder} lacks {name}, of which {index.name} tells.")
        return [self.folder / name for name in names]

    def _check_header(self, file: Path) -> None:
        """A safetensors file says in its first bytes how long it has to be."""
        if file.suffix != ".safetensors":
            return
        try:
            with open_tensors(file):
                return
        except (SafetensorError, OSError) as error:
            wrong = SettingError(
                self.flag, f"{file} cannot be loaded: {first_line(error)}.", fix="It is damaged or half written; save or copy it again."
            )
            raise failing(error, file) or wrong from None

    def _refuse(self, reason: str, *, fix: str = "The folder is half written; save or download it again.") -> NoReturn:
        raise SettingError(self.flag, reason, fix=fix)


def refuse_links(place: Path, root: Path, *, flag: str) -> None:
    """Raise SettingError for a small file that is a link out of a model's folder: private words could become the model's.

    Files of the Hub's cache are links, to `blobs` of the same model; and a pipeline may be put together of links to others' parts.
    """
    for path in place.glob("*"):
        if path.suffix in SMALL and not is_inside(path, root) and not _is_of_a_model(path.resolve(), path.name):
            reason = f"{path} is a link that leads out of the model's folder."
            raise SettingError(flag, reason, fix="Put the file itself there, or link to another pipeline's.")


def _is_of_a_model(target: Path, name: str) -> bool:
    """Whether a link leads to a file of the Hub's cache, or to one of the same name in another pipeline's folder."""
    is_blob = target.parent.name == "blobs" and target.parent.parent.name.startswith("models--")
    return is_blob or (target.name == name and any((folder / MODEL_INDEX).is_file() for folder in (target.parent, target.parent.parent)))
