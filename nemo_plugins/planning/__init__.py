"""Plans: what a stage would do, and whether it can. Imports neither torch nor NeMo."""
