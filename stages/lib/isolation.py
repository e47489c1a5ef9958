"""Runs a function where a crash, a hang or a hunger for memory costs one item: in a child process.

A decoder of a damaged file may do anything to its process. So whoever works through files owns a
child, which imports no more than the function needs; the kernel ends it where it takes too long.
The owner learns of the death, tries the item once more in a fresh child, and goes on.
"""

import contextlib
import os
import pickle
import resource
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")
R = TypeVar("R")

MEGABYTE = 1 << 20
FLUSH_AFTER = 0.02  # seconds that results may wait for others to travel with
IDLE_SECONDS = 60.0  # a child that nobody asks anything ends by itself
START = "import sys; sys.path[:] = {path!r}; from stages.lib.isolation import serve; serve({pipe})"
DONE, FAILED, STARVED = "done", "failed", "starved"


@dataclass(frozen=True)
class Limits:
    """What one item may cost.

    seconds: of time. megabytes: of address space, on top of what the libraries take.
    """

    seconds: float
    megabytes: int


@dataclass(frozen=True)
class Lost:
    """Stands for the result of an item on which the child died twice.

    reason: decoder_crash, timeout or out_of_memory.
    """

    reason: str


class _Died(Exception):
    """The child is gone; `reason` is that of a Lost item."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Sandbox:
    """Owns one child process at a time in which the function of a task runs."""

    def __init__(self, task: bytes) -> None:
        self.task = task
        self._process: subprocess.Popen[bytes] | None = None
        self._pipe: Connection[Any, Any] | None = None
        self.ended = False

    def run(self, items: Sequence[Any]) -> Iterator[Any]:
        """Yield for each item in order the function's result, or Lost; raise what it raises."""
        done = 0
        while done < len(items):
            try:
                for result in self._answers(items[done:], at_once=False):
                    done += 1
                    yield result
            except _Died:
                # The dead child may have had results that it had not sent. From here on each is
                # sent at once, up to the item that it dies on; that one gets a child of its own.
                for result in self._careful(items[done:]):
                    done += 1
                    yield result

    def _careful(self, items: Sequence[Any]) -> Iterator[Any]:
        done = 0
        try:
            for result in self._answers(items, at_once=True):
                done += 1
                yield result
        except _Died as death:
            # The first item of a fresh child has had its second chance already.
            yield self._alone(items[done]) if done else Lost(death.reason)

    def _alone(self, item: Any) -> Any:
        try:
            return next(self._answers([item], at_once=True))
        except _Died as death:
            return Lost(death.reason)

    def _answers(self, items: Sequence[Any], at_once: bool) -> Iterator[Any]:
        """Yield results from the child as they come. Raises _Died where it ends before the last."""
        left = len(items)
        try:
            pipe = self._pipe or self._start()
            pipe.send((items, at_once))
            while left:
                for outcome, value in pipe.recv():
                    if outcome == FAILED:
                        raise value
                    if outcome == STARVED:
                        raise _Died("out_of_memory")
                    left -= 1
                    yield value
        except (EOFError, ConnectionError) as error:
            raise _Died(self._cause_of_death()) from error
        finally:
            if left:  # dead, starved, failed or no longer wanted: what it still sends is stale
                self.close()

    def _start(self) -> "Connection[Any, Any]":
        ours, theirs = Pipe()
        code = START.format(path=sys.path, pipe=theirs.fileno())
        with theirs, _lock:
            if self.ended:
                raise RuntimeError("the work has been stopped")
            self._process = subprocess.Popen(
                [sys.executable, "-c", code],
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                env=os.environ | ONE_THREAD,
            )
            self._pipe = ours
            _open.add(self)
        try:
            ours.send((self.task, str(Path.cwd())))
            outcome, error = ours.recv()
        except (EOFError, ConnectionError) as end:
            self.close()
            raise RuntimeError("the child process ended before any work") from end
        if outcome == FAILED:
            self.close()
            raise error
        return ours

    def _cause_of_death(self) -> str:
        status = self._process.wait() if self._process else 0
        return "timeout" if status == -signal.SIGALRM else "decoder_crash"

    def close(self) -> None:
        """End the child at once; the next item gets another one."""
        with _lock:
            process, pipe = self._process, self._pipe
            self._process = self._pipe = None
            _open.discard(self)
        if process:
            process.kill()
            process.wait()
        if pipe:
            pipe.close()

    def end(self) -> None:
        """End the child, for good and from any thread: who waits for its answer gets an error."""
        with _lock:
            self.ended = True
            process = self._process
            _open.discard(self)
        if process:
            process.kill()
            process.wait()


# Libraries that would start threads in every child, which has one core for itself.
ONE_THREAD = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")

_lock = threading.Lock()
_open: set[Sandbox] = set()
_mine = threading.local()


def pack(function: Callable[[T], R], limits: Limits) -> bytes:
    """Return a task for `run_isolated`: bytes, so that who only passes it on need not import what
    the function needs.

    function: a top-level function of a module, or a `functools.partial` of one.
    """
    return pickle.dumps((function, limits))


def run_isolated(task: bytes, items: Sequence[Any]) -> list[Any]:
    """Return for each item the result of the task's function, or Lost, from a child that this
    thread owns.

    The child stays for the next call; `end_all` ends it. Raises what the function raises.
    """
    sandbox: Sandbox | None = getattr(_mine, "sandbox", None)
    if sandbox is None or sandbox.ended or sandbox.task != task:
        if sandbox is not None:
            sandbox.close()
        sandbox = _mine.sandbox = Sandbox(task)
    return list(sandbox.run(items))


def end_all() -> None:
    """End the children of all threads of this process."""
    with _lock:
        sandboxes = list(_open)
    for sandbox in sandboxes:
        sandbox.end()


def serve(descriptor: int) -> None:
    """Be the child: take items from the pipe until it closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the owner decides when to stop
    signal.signal(signal.SIGALRM, signal.SIG_DFL)  # ends the process, even inside a decoder
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGALRM])
    pipe: Connection[Any, Any] = Connection(descriptor)
    with contextlib.suppress(EOFError, ConnectionError):
        task, folder = pipe.recv()
        os.chdir(folder)
        try:
            function, limits = pickle.loads(task)
        except Exception as error:
            pipe.send((FAILED, _portable(error)))
            return
        pipe.send((DONE, None))
        _keep_quiet()
        _limit_memory(limits.megabytes)
        while pipe.poll(IDLE_SECONDS):
            items, at_once = pipe.recv()
            _work(function, items, limits.seconds, 0.0 if at_once else FLUSH_AFTER, pipe)


def _work(
    function: Callable[[Any], Any],
    items: Sequence[Any],
    seconds: float,
    flush_after: float,
    pipe: "Connection[Any, Any]",
) -> None:
    waiting: list[tuple[str, Any]] = []
    flushed = time.monotonic()
    for position, item in enumerate(items, start=1):
        signal.setitimer(signal.ITIMER_REAL, seconds)
        try:
            waiting.append((DONE, function(item)))
        except MemoryError:
            waiting.append((STARVED, None))
        except Exception as error:
            waiting.append((FAILED, _portable(error)))
        signal.setitimer(signal.ITIMER_REAL, 0)
        if position == len(items) or time.monotonic() - flushed >= flush_after:
            pipe.send(waiting)
            waiting, flushed = [], time.monotonic()


def _portable(error: Exception) -> Exception:
    """Return an exception that survives the journey, with a note of where it was raised."""
    where = "".join(traceback.format_exception(error))
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        error = RuntimeError(repr(error))
    error.add_note(f"In the child process:\n{where}")
    return error


def _keep_quiet() -> None:
    """Send to nowhere what C libraries write to the terminal: thousands of lines on a bad set."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)


def _limit_memory(megabytes: int) -> None:
    taken = Path("/proc/self/statm")
    pages = int(taken.read_text().split()[0]) if taken.exists() else 0
    size = pages * resource.getpagesize() + megabytes * MEGABYTE
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    if hard != resource.RLIM_INFINITY:
        size = min(size, hard)
    with contextlib.suppress(OSError, ValueError):  # a system that knows no such limit
        resource.setrlimit(resource.RLIMIT_AS, (size, hard))
