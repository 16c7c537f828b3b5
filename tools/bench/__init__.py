"""What things cost: python -m tools.bench, and of the parts: .load .capture .labels .view .describe."""
