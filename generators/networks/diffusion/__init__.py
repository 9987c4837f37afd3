"""Noise-predicting UNets under the names of their original repositories, and their schedules."""
