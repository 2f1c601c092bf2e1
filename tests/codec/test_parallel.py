"""codec.parallel: order, bounds, errors, and balance."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nnbits.codec.errors import NnbitsError, ReasonCode
from nnbits.codec.parallel import default_threads, largest_first_map, ordered_map


class Gauge:
    """Counts what runs, and the peak of it."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.started = 0
        self.running = 0
        self.peak = 0

    def __call__(self, item: int) -> int:
        with self.lock:
            self.started += 1
            self.running += 1
            self.peak = max(self.peak, self.running)
        time.sleep(0.002)
        with self.lock:
            self.running -= 1
        return -item


def workers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("nnbits")]


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(0, 50), max_size=40), st.integers(1, 4), st.none() | st.integers(1, 60), st.booleans())
def test_results_are_in_order(items: list[int], threads: int, window: int | None, weighted: bool) -> None:
    weight = (lambda item: item) if weighted and window is not None else None
    results = ordered_map(lambda item: item * 3, iter(items), threads=threads, window=window, weight=weight)
    assert list(results) == [item * 3 for item in items]
    assert largest_first_map(lambda item: item * 3, iter(items), threads=threads, size=lambda item: item) == [
        item * 3 for item in items
    ]
    assert workers() == []


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_not_more_run_than_allowed(threads: int) -> None:
    gauge = Gauge()
    assert list(ordered_map(gauge, range(40), threads=threads)) == [-item for item in range(40)]
    assert gauge.peak == threads
    gauge = Gauge()
    largest_first_map(gauge, range(40), threads=threads, size=int)
    assert gauge.peak == threads


@pytest.mark.parametrize(("threads", "window"), [(2, 2), (2, 5), (3, 1)])
def test_not_more_begin_than_the_window(threads: int, window: int) -> None:
    gauge = Gauge()
    with_pauses = ordered_map(gauge, range(30), threads=threads, window=window)
    for consumed, _ in enumerate(with_pauses):
        time.sleep(0.004)
        assert gauge.started <= consumed + window
    assert gauge.started == 30


def test_the_source_is_not_read_far_ahead() -> None:
    taken = 0

    def source() -> Iterator[int]:
        nonlocal taken
        for item in range(100):
            taken += 1
            yield item

    results = ordered_map(int, source(), threads=2, window=4)
    assert taken == 0
    next(results)
    assert taken <= 5
    results.close()


def test_the_window_bounds_weight() -> None:
    weights = [1, 9, 9, 2, 3, 100, 1, 1, 1, 50, 0, 0, 0]
    lock = threading.Lock()
    begun: set[int] = set()

    def begin(index: int) -> int:
        with lock:
            begun.add(index)
            load = sum(weights[item] for item in begun)
            assert load <= 12 or len(begun) == 1
        time.sleep(0.002)
        return index

    for index in ordered_map(begin, range(len(weights)), threads=2, window=12, weight=weights.__getitem__):
        time.sleep(0.004)
        with lock:
            begun.discard(index)
    assert begun == set()


class Thing:
    """Something that can be weakly referenced."""


@pytest.mark.parametrize("threads", [1, 2])
def test_a_result_is_not_kept_alive(threads: int) -> None:
    alive: weakref.WeakSet[Thing] = weakref.WeakSet()

    def make(_: int) -> Thing:
        thing = Thing()
        alive.add(thing)
        return thing

    results = ordered_map(make, range(20), threads=threads, window=3)
    gc.freeze()  # what is there already need not be looked at twenty times
    for _ in range(20):
        thing = next(results)
        reference = weakref.ref(thing)
        del thing
        gc.collect()
        deadline = time.monotonic() + 5  # the worker's frame may outlive the result for an instant
        while reference() is not None and time.monotonic() < deadline:
            time.sleep(0.001)
        assert reference() is None
        assert len(alive) <= 3
    gc.unfreeze()


def collect(results: Iterator[int], into: list[int]) -> None:
    for result in results:
        into.append(result)


def fail_at(bad: int) -> Callable[[int], int]:
    def function(item: int) -> int:
        if item == bad:
            raise LookupError(item)
        return item

    return function


@pytest.mark.parametrize("threads", [1, 2, 4])
@pytest.mark.parametrize("bad", [0, 5, 19])
def test_an_error_is_raised_in_its_place(threads: int, bad: int) -> None:
    results: list[int] = []
    with pytest.raises(LookupError, match=str(bad)):
        collect(ordered_map(fail_at(bad), range(20), threads=threads), results)
    assert results == list(range(bad))
    assert workers() == []


@pytest.mark.parametrize("threads", [1, 2])
def test_an_error_of_the_source_is_raised_in_its_place(threads: int) -> None:
    def source() -> Iterator[int]:
        yield from range(5)
        raise LookupError

    results: list[int] = []
    with pytest.raises(LookupError):
        collect(ordered_map(int, source(), threads=threads), results)
    assert results == list(range(5))


def test_an_error_cancels_what_has_not_started() -> None:
    gauge = Gauge()

    def function(item: int) -> int:
        if item == 0:
            raise LookupError
        return gauge(item)

    with pytest.raises(LookupError):
        list(ordered_map(function, range(1000), threads=2, window=1000))
    assert gauge.started < 900
    with pytest.raises(LookupError):
        largest_first_map(function, range(1000), threads=2, size=lambda item: 1000 - item)
    assert gauge.started < 900


@pytest.mark.parametrize("consumed", [0, 3])
def test_closing_early(consumed: int) -> None:
    gauge = Gauge()
    results = ordered_map(gauge, range(1000), threads=2, window=1000)
    for _ in range(consumed):
        next(results)
    results.close()
    assert gauge.running == 0
    assert gauge.started < 900
    assert workers() == []


def test_one_thread_means_no_thread() -> None:
    main = threading.get_ident()
    assert set(ordered_map(lambda _: threading.get_ident(), range(5), threads=1)) == {main}
    assert set(largest_first_map(lambda _: threading.get_ident(), range(5), threads=1, size=int)) == {main}


def test_one_thread_is_lazy() -> None:
    gauge = Gauge()
    results = ordered_map(gauge, range(5), threads=1)
    next(results)
    assert gauge.started == 1


def test_the_largest_starts_first() -> None:
    order: list[int] = []
    sizes = [3, 1, 7, 7, 100, 2]
    barrier = threading.Barrier(2)

    def function(index: int) -> int:
        if len(order) < 2:
            order.append(index)
            barrier.wait(5)
        return index

    assert largest_first_map(function, range(6), threads=2, size=sizes.__getitem__) == list(range(6))
    assert sorted(order[:2]) == [2, 4]


def test_of_several_errors_the_first_item_wins() -> None:
    barrier = threading.Barrier(3)

    def function(item: int) -> None:
        barrier.wait(5)
        raise LookupError(item)

    with pytest.raises(LookupError, match="0"):
        largest_first_map(function, range(3), threads=3, size=int)


@pytest.mark.parametrize("options", [{"threads": 0}, {"threads": -1}, {"threads": 2, "window": 0}])
def test_bad_options(options: dict[str, int]) -> None:
    with pytest.raises(NnbitsError) as caught:
        ordered_map(int, [], **options)
    assert caught.value.code is ReasonCode.BAD_OPTION


def test_weight_needs_a_window() -> None:
    with pytest.raises(NnbitsError) as caught:
        ordered_map(int, [1], threads=2, weight=int)
    assert caught.value.code is ReasonCode.BAD_OPTION


def test_default_threads() -> None:
    assert default_threads() >= 1
