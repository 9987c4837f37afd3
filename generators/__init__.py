"""How an image is made: generators by name, their networks, and the safe reading of their checkpoints."""
