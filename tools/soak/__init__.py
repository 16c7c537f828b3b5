"""Months of a run's life in minutes: whatever can happen to it happens, again and again, and it must stay as it was.

soak.py       the rounds of trouble and rest: python -m tools.soak
faults.py     what can happen
observer.py   hears all that the run publishes; checks.py: what must hold of it
"""
