"""Files that other programs wrote and read: LoRAs in, and results out, one file for each format. A new one is its file and a line here."""

from dreambooth.formats.base import Format
from dreambooth.formats.comfy import Comfy
from dreambooth.formats.embedding import Embedding
from dreambooth.formats.kohya import Kohya
from dreambooth.formats.low_rank import LowRank
from dreambooth.formats.pipeline import Pipeline
from dreambooth.formats.single_file import SingleFile
from dreambooth.formats.space import Space

ALL: tuple[Format, ...] = (Comfy(), Kohya(), Pipeline(), SingleFile(), Embedding(), LowRank(), Space())
FORMATS: dict[str, Format] = {format.name: format for format in ALL}

__all__ = ["FORMATS", "Format"]
