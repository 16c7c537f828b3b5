"""Networks compared on one task: python -m tools.compare."""
