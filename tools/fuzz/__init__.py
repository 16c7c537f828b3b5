"""Damaged media, read with the sources of the pipeline: python -m tools.fuzz.

seeds.py    sound media of each kind; damage.py: what happens to them
peers.py    servers that send them
child.py    the process that reads, and may die of it; hunt.py starts it, and finds what it does not survive
"""
