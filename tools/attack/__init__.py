"""Attacks on a run, and what they cost it: python -m tools.attack."""
