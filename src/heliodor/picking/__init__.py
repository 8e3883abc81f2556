"""Score micrographs and pick particles."""
