from __future__ import annotations

import threading
import time

import pytest

from heliodor.utils.prefetch import prefetch


def ours():
    """Return the threads that look ahead."""
    return [t for t in threading.enumerate() if t.name.startswith("heliodor-ahead")]


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("number", [0, 1, 2, 7])
def test_results_come_in_the_order_of_the_items(threads, number):
    def slow_first(item):
        time.sleep(0.002 * (number - item))
        return item * item

    with prefetch(slow_first, range(number), threads) as results:
        got = [(item, future.result()) for item, future in results]
    assert got == [(item, item * item) for item in range(number)]
    assert not ours()


def test_an_error_comes_when_its_item_does_and_spoils_no_other():
    def odd(item):
        if item % 2:
            raise ValueError(f"item {item}")
        return item

    said = []
    with prefetch(odd, range(5), 3) as results:
        for _item, future in results:
            try:
                said.append(future.result())
            except ValueError as error:
                said.append(str(error))
    assert said == [0, "item 1", 2, "item 3", 4]


@pytest.mark.parametrize("threads", [1, 3])
def test_it_is_ahead_by_as_many_items_as_there_are_threads(threads):
    begun = []
    with prefetch(begun.append, range(100), threads) as results:
        for done, (_item, future) in enumerate(results):
            future.result()
            time.sleep(0.002)
            assert len(begun) <= done + 1 + threads
            if done == 5:
                break
    assert len(begun) <= 6 + threads


def test_the_next_item_is_worked_on_while_this_one_is_used():
    second = threading.Event()

    def work(item):
        if item == 1:
            second.set()

    with prefetch(work, range(2)) as results:
        _, first = next(results)
        first.result()
        assert second.wait(60)


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_when_the_caller_stops_so_do_the_threads(error):
    begun = []

    def work(item):
        begun.append(item)
        time.sleep(0.01)

    def stop_at_once():
        with prefetch(work, range(1000), 2) as results:
            for _item, future in results:
                future.result()
                raise error

    with pytest.raises(error):
        stop_at_once()
    assert not ours()
    assert len(begun) <= 4
