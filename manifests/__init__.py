"""What to build, as data: the demo, the paper's dataset, and the checkpoints that are known."""
