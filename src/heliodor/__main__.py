"""`python -m heliodor`: the program, where its script is not on the path."""

from heliodor.cli.entry import entry

if __name__ == "__main__":
    entry()
