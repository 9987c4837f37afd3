"""The paper's dataset rehearsed without its checkpoints: stand-ins in every released form, fetched, checked and built from."""
