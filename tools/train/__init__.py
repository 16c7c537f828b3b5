"""Training from a recipe, on drawn motion or a data set: python -m tools.train. The loop is in engines/training.

recipe.py    configs/train/*.yaml
feeds.py     the clips: drawn on the fly, or cut from the videos of a data set
head.py      the last layer alone, on a light backbone with ImageNet weights: python -m tools.train.head
folds.py     which clips are held out together
"""
