"""What things cost: python -m tools.bench, and of the parts: .load .capture .labels .view .describe.

timing.py     times that can be compared: in turns, medians and quartiles
graphs.py     the forms of a network that are compared; networks.py measures them, peers.py has other people's
pipeline.py   the shipped model from capture to publish
load.py, capture.py, labels.py, view.py   many cameras, a process for capture, readers, viewers
many.py       1 to 32 cameras, by part, beside their limits and peers; inside.py: what the engine costs there
placing.py    where a fleet's head puts streams, and describe.py: a network before anything is trained
"""
