"""Clips of one's own from a camera: python -m tools.record. All of it is in __main__.py."""
