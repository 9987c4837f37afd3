"""Pictures with labels, subsets and splits, and batches of them."""
