"""The web server of the app; imports no torch."""
