"""The bench: subjects x ways of learning x seeds, run to the end whatever fails, and printed as the paper prints it."""
