"""What a GPU proves in a few minutes: python -m tools.gpu."""
