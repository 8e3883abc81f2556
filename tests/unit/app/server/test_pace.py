from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliodor.app.server.pace import Pace


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@given(st.floats(0.01, 100), st.integers(3, 60), st.integers(1, 1000))
def test_at_an_even_pace_the_rest_takes_its_share(each, done, left):
    clock = Clock()
    pace = Pace(clock)
    for number in range(done):
        clock.now = number * each
        pace.note(number)
    assert pace.seconds_left(left) == pytest.approx(left * each)
    clock.now += each / 2
    assert pace.seconds_left(left) == pytest.approx((left - 0.5) * each)
    clock.now += 2 * left * each
    assert pace.seconds_left(left) == 0


def test_nothing_is_said_before_the_pace_is_known_and_at_the_end():
    pace = Pace(Clock())
    assert pace.seconds_left(5) is None
    for number in range(2):
        pace.note(number)
    assert pace.seconds_left(5) is None
    pace.note(1)  # nothing new
    assert pace.seconds_left(5) is None
    pace.note(2)
    assert pace.seconds_left(5) == 0
    assert pace.seconds_left(0) is None
    pace.note(1)  # other work
    assert pace.seconds_left(5) is None
