"""The commands of `ntf`, grouped by what a person wants.

Every module has `add_to(app)`. It imports nothing heavy at its top: a command imports what it runs inside, so that help is there at once.
"""
