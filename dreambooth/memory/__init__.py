"""How much memory a run needs, learned by running its own step on tensors without numbers, from a model's configurations alone."""
