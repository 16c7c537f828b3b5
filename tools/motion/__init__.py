"""Drawn motion: paths, textures, and clips of both with their labels."""
