"""Finding, aligning, masking and recognising faces."""
