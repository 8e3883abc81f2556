"""The live loop: learning, scoring and asking while somebody looks on."""
