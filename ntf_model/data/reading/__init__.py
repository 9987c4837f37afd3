"""What names and files in a dataset stand for: classes, splits, groups, lists; what is not certain is refused."""
