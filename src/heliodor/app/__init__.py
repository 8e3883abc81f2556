"""The heliodor app: a local web server with its page and its engine."""
