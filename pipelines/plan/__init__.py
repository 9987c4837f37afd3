"""From a manifest to shards with keys."""
