"""Encoders: from pictures to an embedding, for every detector that stands on one."""
