"""How good a detector is: scores, measures, intervals, tables."""
