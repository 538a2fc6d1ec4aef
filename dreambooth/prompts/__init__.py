"""Words: the placeholder [V] and what stands around it, and how tokenizers read them."""
