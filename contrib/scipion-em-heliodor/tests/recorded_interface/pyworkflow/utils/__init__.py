"""Helpers."""

import os


class Environ(dict):
    def getPrepend(self):
        return ""


def makePath(*paths):
    for path in paths:
        os.makedirs(path, exist_ok=True)
