"""Networks compared on one task: python -m tools.compare.

training.py   each is trained on the same clips, and asked about others
"""
