from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from gyrus.errors import ConfigError, UnusableImageError
from gyrus.memory import MemoryBudget, available_memory


def test_threads_never_hold_more_than_the_budget() -> None:
    budget, lock = MemoryBudget(100), threading.Lock()
    held: list[int] = []
    most = []

    def work(size: int) -> None:
        with budget.reserve(size, "pixels"):
            with lock:
                held.append(size)
                most.append(sum(held))
            with lock:
                held.remove(size)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, [30, 60, 100, 10, 45] * 40))

    assert max(most) <= 100
    assert not held


def test_a_large_image_is_not_overtaken() -> None:
    budget, order = MemoryBudget(100), list[int]()
    queued = threading.Event()

    def work(size: int) -> None:
        queued.set()
        with budget.reserve(size, "pixels"):
            order.append(size)

    with budget.reserve(60, "pixels"):
        threads = []
        for size in (90, 20):  # 20 would fit at once
            queued.clear()
            threads.append(threading.Thread(target=work, args=(size,)))
            threads[-1].start()
            queued.wait()
            while len(budget._waiting) < len(threads):
                pass
    for thread in threads:
        thread.join()

    assert order == [90, 20]


def test_a_task_keeps_its_memory_and_never_waits_for_itself() -> None:
    budget = MemoryBudget(100)

    with budget.task():
        with budget.reserve(40, "pixels"):
            pass
        assert budget._used == 40
        with budget.reserve(90, "pixels"), budget.reserve(20, "pixels"):
            assert budget._used == 90
    assert budget._used == 0


def test_what_needs_more_than_the_budget_is_refused_in_words() -> None:
    budget = MemoryBudget(100 << 20)

    with (
        pytest.raises(UnusableImageError, match=r"9400 x 9400 pixels need about 1\.4 GiB .* 100 MiB .* to 2G") as error,
        budget.reserve(1_500_000_000, "9400 x 9400 pixels"),
    ):
        pass

    assert error.value.kind == "too large"
    assert budget._used == 0


def test_the_budget_can_be_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for text, size in (("2G", 2 << 30), ("0.5 GiB", 1 << 29), ("100m", 100 << 20), ("134217728", 1 << 27)):
        monkeypatch.setenv("GYRUS_MEMORY", text)
        assert MemoryBudget().total == size
    for text in ("much", "-1G", "1K"):
        monkeypatch.setenv("GYRUS_MEMORY", text)
        with pytest.raises(ConfigError, match="GYRUS_MEMORY"):
            _ = MemoryBudget().total
    monkeypatch.delenv("GYRUS_MEMORY")
    assert MemoryBudget().total > 0


def test_a_container_may_have_less_memory_than_its_machine(tmp_path: Path) -> None:
    assert 0 < available_memory(tmp_path) <= psutil.virtual_memory().total

    (tmp_path / "memory.max").write_text("1000\n")
    (tmp_path / "memory.current").write_text("900\n")
    (tmp_path / "memory.stat").write_text("anon 700\ninactive_file 50\n")
    assert available_memory(tmp_path) == 150

    (tmp_path / "memory.max").write_text("max\n")
    assert available_memory(tmp_path) > 1000


def test_processes_share_a_budget(tmp_path: Path) -> None:
    """One of them at a time may use more than its part, so the same images are too large as for one process."""
    budgets = [MemoryBudget(), MemoryBudget()]
    for budget in budgets:
        budget.share(100, 2, tmp_path / "turn")
    order: list[str] = []

    def work() -> None:
        with budgets[1].reserve(40, "pixels"):
            order.append("a small one")
        with budgets[1].reserve(80, "pixels"):
            order.append("a large one")

    with budgets[0].task():
        with budgets[0].reserve(90, "pixels"):
            thread = threading.Thread(target=work)
            thread.start()
            while not order:
                pass
        thread.join(0.1)
        assert order == ["a small one"]
        order.append("the turn ends with the task")
    thread.join()
    assert order == ["a small one", "the turn ends with the task", "a large one"]
    with pytest.raises(UnusableImageError, match="too large"), budgets[0].reserve(101, "pixels"):
        pass
