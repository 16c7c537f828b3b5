"""The fault matrix: what the live pipeline does when a camera does what cameras do. `python -m tools.faults`.

matrix.py   the rows: each fault, and what it should lead to
scene.py    what the cameras show, and the model that knows it
stage.py    one run on such a camera, and all that it says
judge.py    from its messages to a row
"""
