"""The fault matrix: what the live pipeline does when a camera does what cameras do. `python -m tools.faults`.

matrix.py   the rows: each fault, and what it should lead to
scene.py    what the cameras show, and the model that knows it
stage.py    one run on such a camera, and all that it says
judge.py    from its messages to a row

fleet.py    the same for the machines of a fleet: `python -m tools.faults fleet`
machines.py three nodes and a head on one machine, and a reader
nets.py     a network for each of them, which can be cut
trouble.py  random trouble for minutes
rules.py    what holds whatever happens to them
rate.py     how much a hub can pass on
"""
