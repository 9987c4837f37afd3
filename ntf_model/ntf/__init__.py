"""Natural Trace Forensics: its losses, networks, two stages, and how it explains itself."""
