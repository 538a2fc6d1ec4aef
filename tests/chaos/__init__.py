"""Kills, full disks, flipped bytes and races: what a person's work survives (`make chaos`; the counts stand in docs/reliability.md)."""
