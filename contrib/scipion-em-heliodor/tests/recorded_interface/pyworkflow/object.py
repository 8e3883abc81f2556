"""Objects of a project that hold one value."""


class Object:
    def __init__(self, **kwargs):
        self._id = None
        self._comment = ""

    def getObjId(self):
        return self._id

    def setObjId(self, number):
        self._id = number

    def setObjComment(self, text):
        self._comment = text

    def getObjComment(self):
        return self._comment


class Scalar(Object):
    def __init__(self, value=None, **kwargs):
        super().__init__(**kwargs)
        self.set(value)

    def _convert(self, value):
        return value

    def set(self, value):
        self._value = None if value is None else self._convert(value)

    def get(self, default=None):
        return default if self._value is None else self._value

    def hasValue(self):
        return self._value is not None

    def __bool__(self):
        return bool(self._value)


class Integer(Scalar):
    def _convert(self, value):
        return int(value)


class Float(Scalar):
    def _convert(self, value):
        return float(value)


class String(Scalar):
    def _convert(self, value):
        return str(value)


class Boolean(Scalar):
    def _convert(self, value):
        return value if isinstance(value, bool) else str(value).lower() in ("true", "1", "yes")


class Pointer(Object):
    def __init__(self, value=None, **kwargs):
        super().__init__(**kwargs)
        self._value = value

    def set(self, value):
        self._value = value

    def get(self):
        return self._value
