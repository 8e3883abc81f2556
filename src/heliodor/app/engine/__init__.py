"""The engine of the app: the process that trains and scores."""
