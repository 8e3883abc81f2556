"""The drop-in for Topaz: its commands, options and files, done by this program."""
