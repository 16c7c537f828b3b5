"""Data sets of labelled video: how they are laid out, read, cut into clips and varied."""
