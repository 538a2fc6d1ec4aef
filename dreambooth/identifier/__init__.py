"""Which word should stand for the subject: rare tokens of a model's own tokenizers, ranked by what the model already sees in them."""
