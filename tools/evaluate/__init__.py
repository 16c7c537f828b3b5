"""How good a model is, on clips and on streams: python -m tools.evaluate.

scoring.py     what models say of clips
streaming.py   a model as it runs on a camera: its events beside what happened
unknown.py     motions that nobody taught: python -m tools.evaluate.unknown
metrics.py     figures of merit, as pure functions; figures.py: their picture
"""
