"""What people and schedulers start: the command line, and thin Prefect flows over plain functions."""
