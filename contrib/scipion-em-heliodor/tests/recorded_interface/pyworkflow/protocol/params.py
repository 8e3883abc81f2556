"""The form of a protocol: sections of parameters."""

from pyworkflow.object import Boolean, Float, Integer, Pointer, String


class Param:
    value_class = String

    def __init__(self, label="", help="", default=None, allowsNull=False, condition=None,
                 expertLevel=0, important=False, validators=(), **kwargs):  # fmt: skip
        assert not kwargs, f"unknown arguments: {kwargs}"
        self.label, self.help = String(label), String(help)
        self.default, self.allowsNull, self.condition = default, allowsNull, condition

    def setDefault(self, default):
        self.default = default

    def create(self):
        return self.value_class(self.default)


class StringParam(Param):
    pass


class FileParam(StringParam):
    pass


class IntParam(Param):
    value_class = Integer


class EnumParam(IntParam):
    DISPLAY_LIST, DISPLAY_COMBO, DISPLAY_HLIST = 0, 1, 2

    def __init__(self, choices, display=DISPLAY_COMBO, **kwargs):
        super().__init__(**kwargs)
        self.choices = choices


class FloatParam(Param):
    value_class = Float


class BooleanParam(Param):
    value_class = Boolean


class PointerParam(Param):
    value_class = Pointer

    def __init__(self, pointerClass, **kwargs):
        super().__init__(**kwargs)
        self.pointerClass = String(pointerClass)


class Form:
    def __init__(self):
        self.params = {}
        self._open = False

    def addSection(self, label):
        self._open = True

    def addParam(self, name, param_class, **kwargs):
        assert self._open, f"{name} is in no section"
        assert name not in self.params, f"{name} is there twice"
        self.params[name] = param_class(**kwargs)

    def addHidden(self, name, param_class, **kwargs):
        self.addParam(name, param_class, **kwargs)

    def getParam(self, name):
        return self.params[name]

    def addParallelSection(self, threads=1, mpi=8):
        self.addSection("Parallelization")
        if threads:
            self.addParam("numberOfThreads", IntParam, default=threads, label="Threads")
        if mpi:
            self.addParam("numberOfMpi", IntParam, default=mpi, label="MPIs")
