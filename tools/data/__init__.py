"""Data sets of labelled video.

layouts.py    how they are published; datasets.py reads a split into a `VideoSet`
decode.py     the wanted pictures of a video
watched.py    what the network of a run sees of a video
clips.py      cut into batches, with the sampling and augmentation of engines/training
"""
