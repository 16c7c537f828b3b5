"""Months of a run's life in minutes: whatever can happen to it happens, again and again, and it must stay as it was."""
