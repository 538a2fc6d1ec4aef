"""Which word should stand for the subject: rare tokens of a model's own tokenizers, ranked by what the model already sees in them."""

from dreambooth.core.callable import make_callable

make_callable(__name__, "dreambooth.identifier.search:search_for")
