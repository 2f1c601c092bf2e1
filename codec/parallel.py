"""Maps over threads with results in a fixed order and bounded memory.

Threads pay off where the work releases the GIL: the C core, NumPy and file reading do.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from typing import TypeVar

from .errors import NnbitsError, ReasonCode

__all__ = ["default_threads", "largest_first_map", "ordered_map"]

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def default_threads() -> int:
    """Number of processors that this process may use, at least 1."""
    if hasattr(os, "process_cpu_count"):  # Python 3.13
        return max(1, os.process_cpu_count() or 1)
    if hasattr(os, "sched_getaffinity"):
        return max(1, len(os.sched_getaffinity(0)))
    return max(1, os.cpu_count() or 1)


def ordered_map(
    function: Callable[[_Item], _Result],
    items: Iterable[_Item],
    *,
    threads: int,
    window: int | None = None,
    weight: Callable[[_Item], int] | None = None,
) -> Generator[_Result, None, None]:
    """``map(function, items)`` over threads: results in the order of ``items``, only so many at once.

    ``items`` is consumed by the calling thread, not further ahead than needed. With one thread everything runs inline,
    one item at each step. Closing the generator early waits for the calls that run and drops the others.

    Args:
        threads: calls that run at the same time, at most.
        window: bound on the items that are begun and not yet consumed, the one last yielded included: their number, or
            their total weight. An item heavier than the window runs alone. Default: ``2 * threads`` items.
        weight: what an item takes of the window, such as the bytes of its result; needs ``window``.

    Raises:
        NnbitsError: BAD_OPTION if ``threads`` or ``window`` is below 1, or ``weight`` comes without ``window``.
        Exception: what ``function`` or ``items`` raised, in the place of that result; nothing more is started then.
    """
    _check_threads(threads)
    if window is None:
        if weight is not None:
            raise NnbitsError(ReasonCode.BAD_OPTION, "weight needs a window", path="window")
        window = 2 * threads
    if window < 1:
        raise NnbitsError(ReasonCode.BAD_OPTION, f"window must be at least 1, not {window}", path="window")
    if threads == 1:
        return _map_inline(function, items)
    return _map_pooled(function, items, threads, window, weight)


def _map_inline(function: Callable[[_Item], _Result], items: Iterable[_Item]) -> Generator[_Result, None, None]:
    for item in items:
        yield function(item)


def _map_pooled(
    function: Callable[[_Item], _Result],
    items: Iterable[_Item],
    threads: int,
    window: int,
    weight: Callable[[_Item], int] | None,
) -> Generator[_Result, None, None]:
    source = _weighed(items, weight)
    begun: deque[Future[_Result]] = deque()
    costs: deque[int] = deque()
    load = 0
    held: tuple[_Item, int] | None = None
    failure: Exception | None = None
    more = True
    pool = ThreadPoolExecutor(threads, thread_name_prefix="nnbits")
    try:
        while True:
            while more:
                if held is None:
                    try:
                        held = next(source)
                    except StopIteration:
                        more = False
                        break
                    except Exception as error:
                        failure, more = error, False
                        break
                item, cost = held
                if begun and load + cost > window:
                    break
                begun.append(pool.submit(function, item))
                costs.append(cost)
                load += cost
                held = None
            if not begun:
                break
            # No local name for the future or its result: the consumer decides how long the result lives.
            yield begun.popleft().result()
            load -= costs.popleft()
        if failure is not None:
            raise failure
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _weighed(items: Iterable[_Item], weight: Callable[[_Item], int] | None) -> Generator[tuple[_Item, int], None, None]:
    for item in items:
        yield item, 1 if weight is None else max(1, weight(item))


def largest_first_map(
    function: Callable[[_Item], _Result],
    items: Iterable[_Item],
    *,
    threads: int,
    size: Callable[[_Item], int],
) -> list[_Result]:
    """``list(map(function, items))`` over threads, largest items first, so that a large one does not run last, alone.

    All results are in memory together. With one thread the items run inline, in their own order.

    Args:
        threads: calls that run at the same time, at most.
        size: how much work an item is, in any unit.

    Raises:
        NnbitsError: BAD_OPTION if ``threads`` is below 1.
        Exception: what ``function`` raised; with several, that of the first such item. Nothing more is started then.
    """
    _check_threads(threads)
    work = list(items)
    if threads == 1 or len(work) < 2:
        return [function(item) for item in work]
    order = sorted(range(len(work)), key=lambda index: size(work[index]), reverse=True)
    pool = ThreadPoolExecutor(min(threads, len(work)), thread_name_prefix="nnbits")
    try:
        futures = {index: pool.submit(function, work[index]) for index in order}
        wait(futures.values(), return_when=FIRST_EXCEPTION)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    for index in range(len(work)):
        if not futures[index].cancelled() and (error := futures[index].exception()) is not None:
            raise error
    return [futures[index].result() for index in range(len(work))]


def _check_threads(threads: int) -> None:
    if threads < 1:
        raise NnbitsError(ReasonCode.BAD_OPTION, f"threads must be at least 1, not {threads}", path="threads")
