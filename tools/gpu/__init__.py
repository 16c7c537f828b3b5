"""What a GPU proves in a few minutes: python -m tools.gpu.

checks.py     the questions, the important ones first
recorded.py   a run of the reference, written down, to compare with on a machine without it
"""
