"""What the user brings: photos are found, read, checked and prepared here, before anything is trained.

`load` finds and reads, `check` looks for what spoils a training, `prepare` writes a clean folder beside the original.
"""
