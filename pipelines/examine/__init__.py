"""Looking at versions: are they what they say, what changed, and where does an image come from?"""
