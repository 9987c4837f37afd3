"""The commands of `ntf`, grouped by what a person wants. Each module has `add_to(app)`."""
