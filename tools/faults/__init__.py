"""The fault matrix: what the live pipeline does when a camera does what cameras do. `python -m tools.faults`."""
