"""`dreambooth sign`."""

from collections.abc import Sequence
from contextlib import closing

from dreambooth.cli.parse import settings_from
from dreambooth.cli.show import Terminal
from dreambooth.core.wording import counted, from_here
from dreambooth.run.sign import SignConfig, Signed, sign

USAGE = "dreambooth sign PICTURES --certificate CHAIN.pem --private_key KEY.pem [--output_dir DIR]"
INTRO = (
    "Write signed copies of pictures that dreambooth drew: Content Credentials (C2PA) inside the PNG say that a model drew it, with which "
    "program and which model, and that nobody changed it since. Needs the extra `provenance`; docs/responsible-use.md says more."
)
EXAMPLES = ("dreambooth sign my-dog/samples/generated --certificate chain.pem --private_key key.pem",)


def main(argv: Sequence[str]) -> int:
    """Sign as the flags say."""
    config = settings_from(argv, SignConfig, usage=USAGE, intro=INTRO, examples=EXAMPLES)
    if config is None:
        return 0
    with closing(Terminal()) as terminal:
        for record in sign(config):
            terminal.take(record)
            if isinstance(record, Signed):
                folders = sorted({str(from_here(path.parent)) for path in record.paths})
                terminal.say(f"{counted(len(record.paths), 'signed picture')} in {', '.join(folders)}")
    return 0
