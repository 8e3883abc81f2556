"""Micrographs, coordinates and their sets."""

import copy

from pyworkflow.object import Integer, Object, String


class EMObject(Object):
    pass


class Micrograph(EMObject):
    def __init__(self, location=None, **kwargs):
        super().__init__(**kwargs)
        self._file, self._name, self._sampling = location, None, None

    def getFileName(self):
        return self._file

    def getMicName(self):
        return self._name

    def setMicName(self, name):
        self._name = name

    def getSamplingRate(self):
        return self._sampling

    def setSamplingRate(self, angstrom):
        self._sampling = angstrom

    def clone(self):
        return copy.copy(self)


class Coordinate(EMObject):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self._x, self._y = Integer(kwargs.get("x")), Integer(kwargs.get("y"))
        self._micId, self._micName = Integer(), String()

    def setPosition(self, x, y):
        self._x.set(x)
        self._y.set(y)

    def getPosition(self):
        return self._x.get(), self._y.get()

    def setMicrograph(self, mic):
        self._micId.set(mic.getObjId())
        self._micName.set(mic.getMicName())

    def getMicId(self):
        return self._micId.get()

    def getMicName(self):
        return self._micName.get()


class EMSet(EMObject):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self._items = []

    def append(self, item):
        if item.getObjId() is None:
            item.setObjId(len(self._items) + 1)
        self._items.append(copy.deepcopy(item))

    def getSize(self):
        return len(self._items)

    def __iter__(self):
        shown = None
        for item in self._items:
            if shown is None:
                shown = copy.copy(item)
            else:
                shown.__dict__.update(item.__dict__)
            yield shown


class SetOfMicrographs(EMSet):
    pass


class SetOfCoordinates(EMSet):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self._micrographs, self._boxSize = None, Integer()

    def setMicrographs(self, pointer):
        self._micrographs = pointer

    def getMicrographs(self):
        return self._micrographs.get()

    def getBoxSize(self):
        return self._boxSize.get()

    def setBoxSize(self, pixels):
        self._boxSize.set(pixels)

    def iterCoordinates(self, micrograph=None):
        for coordinate in self:
            if micrograph is None or coordinate.getMicId() == micrograph.getObjId():
                yield coordinate
