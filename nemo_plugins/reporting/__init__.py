"""What a run shows a person: plots and tables."""
