"""The site, one file for each part of it; each has a `router`."""
