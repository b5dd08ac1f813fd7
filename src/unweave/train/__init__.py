"""Teaching networks: the loop, its checkpoints, the losses, and one recipe per model."""
