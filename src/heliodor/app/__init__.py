"""The picking room: a local web server, and its page."""
