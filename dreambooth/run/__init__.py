"""The verbs, from settings to a result: train, generate, and what they show and leave."""
