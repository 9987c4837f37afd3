"""What the baselines' recipes share: preprocessing, pseudo-fakes, landmarks, optimizers, the training loop."""
