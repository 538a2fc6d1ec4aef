"""A new word as A1111, ComfyUI and diffusers read it: its vectors in one tensor, or one for each encoder; the file's name is the word."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from dreambooth.files.tensors import save_tensors
from dreambooth.formats.base import A1111, COMFY, DIFFUSERS, Format, Result, Written, rounded
from dreambooth.formats.headers import embedding_notes

if TYPE_CHECKING:
    from dreambooth.families.base import Family

FOLDERS = {COMFY: "ComfyUI/models/embeddings", A1111: "stable-diffusion-webui/embeddings"}


class Embedding(Format):
    """The new word of a textual inversion"""

    name = "embedding"

    def readers(self, family: "type[Family]", method: str) -> Mapping[str, str]:
        if method != "textual_inversion":
            return {}
        if family.kohya_prefixes:
            return {**FOLDERS, **({} if family.embedding_names else {DIFFUSERS: "pipe.load_textual_inversion"})}
        return {COMFY: FOLDERS[COMFY]} if family.embedding_names else {}

    def why_not(self, family: "type[Family]", method: str) -> tuple[str, str]:
        if method == "custom_diffusion":
            reason = "the word of a Custom Diffusion run means nothing without its layers, which diffusers alone reads."
            return reason, "Use the run's own files."
        if method == "textual_inversion":
            return super().why_not(family, method)
        return f"--method {method} learns no new word.", "Export it --as comfy, pipeline or single_file."

    def stem(self, word: str | None) -> str | None:
        """The word without brackets, which Windows takes in no name."""
        return word and word.strip("<>")

    def write(self, result: Result, path: Path, dtype: torch.dtype | None) -> Written:
        family, words = result.family, result.learner.words
        assert family is not None
        rows = [table.words.detach() for table in words.tables]
        names = family.embedding_names or (words.placeholder,)
        tensors = rounded(dict(zip(names, rows, strict=True)), dtype)
        save_tensors(path, tensors, texts=embedding_notes(family, result.facts, word=words.placeholder))
        title = result.facts.title
        calls = f"ComfyUI embedding:{title}" + (f", A1111 {title}" if family.kohya_prefixes else "")
        calls += "" if family.embedding_names else f", diffusers {words.placeholder}"
        return Written(len(rows[0]), "vectors", (f"The file's name is the word: {calls}.",))

    def read_back(self, path: Path, result: Result) -> "Family | None":
        return result.others.of_word(path)
