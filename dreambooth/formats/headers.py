"""What the headers of files say to the tools that list them: kohya's `ss_` notes and ModelSpec's; no path, host or photo's name."""

LENGTHS = "dreambooth.dora_lengths"
"""A note for our own reader: "untuned" where DoRA's lengths are made for a program that divides by the untuned row's."""
