"""Changed files against every reader: seconds in the tests, hours by hand (`python -m tests.fuzz --inputs 1000000`)."""
