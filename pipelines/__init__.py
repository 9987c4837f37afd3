"""How a dataset comes to be: manifest, plan, chain, shard, store, split, report."""
