"""Stand-in for Scipion's pwem; see README.md."""

import os


class Plugin:
    _vars = {}  # noqa: RUF012

    @classmethod
    def _defineVar(cls, name, default):
        cls._vars[name] = os.environ.get(name, default)

    @classmethod
    def getVar(cls, name):
        return cls._vars.get(name)
