"""The models that an export is made from and compared with: the run's base, and what is read back."""

from dataclasses import dataclass
from pathlib import Path

from dreambooth.core.errors import SettingError
from dreambooth.families import Family, ModelSource, family_of
from dreambooth.families.single_file import load_single_file
from dreambooth.formats.base import FLAG, Models
from dreambooth.setup.config import TrainConfig
from dreambooth.setup.model import configure_tokenizers, learning_parts


@dataclass(frozen=True)
class RunModels(Models):
    """Those of a run, or of a pipeline that no run has made (`config` None)."""

    kind: type[Family]
    config: TrainConfig | None
    folder: Path
    """A pipeline folder with the configurations and tokenizers of the result."""

    def base(self) -> Family:
        if self.config is None:
            raise SettingError(FLAG, "a pipeline has no base model that it differs from.", fix="Export it --as single_file.")
        return self._as_read(family_of(self.config.model).load(self.config.model))

    def of_folder(self, folder: Path) -> Family:
        source = ModelSource(pretrained_model_name_or_path=str(folder))
        return self._as_read(family_of(source).load(source))

    def of_file(self, file: Path) -> Family:
        return self._as_read(self.kind(load_single_file(self.kind.pipelines[0], file, self.folder)))

    def of_word(self, file: Path) -> Family:
        family, config = self.base(), self.config
        assert config is not None
        learner = config.method.attach(family, learning_parts(config, family), seed=0)
        learner.words.take(file)  # type: ignore[attr-defined]
        return self._as_read(family)

    def _as_read(self, family: Family) -> Family:
        """With prompts as long as the run has them."""
        if self.config:
            configure_tokenizers(family, self.config.text)
        for part in family.parts.values():
            part.requires_grad_(False).eval()
        return family
