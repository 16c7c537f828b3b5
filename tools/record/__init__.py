"""Clips of one's own from a camera: python -m tools.record."""
