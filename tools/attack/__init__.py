"""Attacks on a run, and what they cost it: python -m tools.attack.

sockets.py, ports.py, inputs.py, cameras.py   the attacks, by where they come in
target.py   what they know of the run; stage.py: the run, and who reads its labels meanwhile
judge.py    from what was measured to a row of the matrix
"""
