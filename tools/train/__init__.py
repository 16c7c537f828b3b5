"""Training from a recipe: python -m tools.train."""
