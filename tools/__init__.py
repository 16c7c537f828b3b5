"""Offline jobs, run as `python -m tools.NAME`."""
