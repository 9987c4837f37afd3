"""Training of small face swappers, and of the identity network that guides them."""
