"""Making all that is missing of a plan, and committing one version."""
