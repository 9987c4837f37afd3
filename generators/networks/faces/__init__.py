"""Networks about faces: identity, parsing, gaze, swapping."""
