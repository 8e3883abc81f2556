"""Where this program works for others: their files, their words, their calls."""
