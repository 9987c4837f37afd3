"""Making the images of one shard."""
