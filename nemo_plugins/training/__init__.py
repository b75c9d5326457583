"""Training on NeMo: one trainer for every stage that learns, its checkpoints, progress and pretraining."""
