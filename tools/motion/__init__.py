"""Drawn motion, which the default model learns from.

paths.py      how things move, and the label at each frame
textures.py   what they look like
clips.py      clips of both with their labels
"""
