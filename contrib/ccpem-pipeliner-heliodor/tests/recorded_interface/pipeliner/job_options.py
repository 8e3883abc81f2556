"""The options in the form of a job."""


class FileDescription:
    def __init__(self, name="Any file", exts=None, exact=False):
        self.name, self.exts = name, exts


class JobOptionCondition:
    def __init__(self, conditions, operation="ANY"):
        for _, sign, _ in conditions:
            assert sign in ("=", "!=")
        self.conditions = conditions

    def is_met(self, options):
        tests = {"=": lambda a, b: a == b, "!=": lambda a, b: a != b}
        return any(
            tests[sign](options[name].value, value) for name, sign, value in self.conditions
        )


class JobOptionValidationResult:
    def __init__(self, result_type, raised_by, message):
        self.type, self.raised_by, self.message = result_type, raised_by, message

    def __str__(self):
        return f"{self.message}: {[option.label for option in self.raised_by]}"


class JobOption:
    def __init__(self, *, label, default_value=None, help_text="", in_continue=False,
                 is_required=False, required_if=None, deactivate_if=None,
                 jobop_group="Main"):  # fmt: skip
        self.label, self.help_text, self.jobop_group = label, help_text, jobop_group
        self.is_required, self.required_if = is_required, required_if
        self.deactivate_if = deactivate_if
        self.value = default_value

    @property
    def value(self):
        return self._value

    @value.setter
    def value(self, value):
        self._value = self._convert(value)

    @property
    def is_blank(self):
        return self.value in ("", None)

    def get_string(self):
        if self.is_required and self.is_blank:
            raise ValueError(f"JobOption {self.label} is required but has no value")
        return "" if self.value is None else str(self.value)

    def validate(self):
        if self.is_required and self.is_blank:
            return [JobOptionValidationResult("error", [self], "This option is required")]
        return []


class StringJobOption(JobOption):
    def _convert(self, value):
        return "" if value is None else str(value)


class InputNodeJobOption(StringJobOption):
    def __init__(self, *, node_type, pattern=None, node_kwds=None, **kwargs):
        super().__init__(**kwargs)
        self.node_type, self.pattern, self.node_kwds = node_type, pattern, node_kwds


class BooleanJobOption(JobOption):
    def _convert(self, value):
        return value if isinstance(value, bool) else str(value).lower() in ("yes", "true", "1")

    def get_boolean(self):
        return self.value


class MultipleChoiceJobOption(StringJobOption):
    def __init__(self, *, choices, default_value_index=None, default_value=None, **kwargs):
        self.choices = choices
        super().__init__(
            default_value=choices[default_value_index] if default_value is None else default_value,
            **kwargs,
        )

    def _convert(self, value):
        assert value in self.choices
        return value


class FloatJobOption(JobOption):
    number = float

    def __init__(self, *, hard_min=None, hard_max=None, suggested_min=None, suggested_max=None,
                 step_value=1, **kwargs):  # fmt: skip
        self.hard_min, self.hard_max = hard_min, hard_max
        super().__init__(**kwargs)

    def _convert(self, value):
        return None if value in ("", None) else self.number(value)

    def get_number(self):
        if self.value is None:
            raise ValueError(f"could not return a number from the value: {self.value}")
        return self.value

    def validate(self):
        results = super().validate()
        if results or self.is_blank:
            return results
        if self.hard_min is not None and self.value < self.hard_min:
            said = f"Value cannot be less than {self.hard_min}"
            return [JobOptionValidationResult("error", [self], said)]
        if self.hard_max is not None and self.value > self.hard_max:
            said = f"Value cannot be greater than {self.hard_max}"
            return [JobOptionValidationResult("error", [self], said)]
        return []


class IntJobOption(FloatJobOption):
    number = int
