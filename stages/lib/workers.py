"""Which processes train together, by TF_CONFIG, and how they find each other before TensorFlow."""

import json
import socket
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from stages.lib.errors import InputError

JOBS = ("chief", "worker")  # the chief, where one is named, comes before the workers
RETRY = 0.2  # seconds between two attempts to reach the chief
EXAMPLE = '{"cluster": {"worker": ["host-a:2222", "host-b:2222"]}, "task": {"type": "worker", ' + (
    '"index": 0}}'
)


class Cluster(NamedTuple):
    """addresses: host:port of every process, the chief's first; rank: the place of this one."""

    addresses: tuple[str, ...]
    rank: int


def read_cluster(text: str | None) -> Cluster:
    """Return what TF_CONFIG says, in the form that Kubeflow and others give it.

    Raises InputError, naming the part, where it is missing or makes no sense.
    """
    if not text:
        raise _misconfigured("is not set")
    try:
        config = json.loads(text)
    except json.JSONDecodeError as error:
        raise _misconfigured(f"is no JSON ({error}): {text!r}") from error
    cluster, task = _section(config, "cluster"), _section(config, "task")
    addresses: list[str] = []
    starts = {}
    for job in JOBS:
        starts[job] = len(addresses)
        addresses += _addresses(cluster, job)
    others = sorted(set(cluster) - set(JOBS))
    if others or not addresses:
        raise _misconfigured(f"must list chief and worker in its cluster, got {sorted(cluster)}")
    if len(set(addresses)) < len(addresses):
        raise _misconfigured(f"names an address twice in its cluster: {', '.join(addresses)}")
    own, index = str(task.get("type")), str(task.get("index"))
    count = len(cluster.get(own, [])) if own in JOBS else 0
    if not count:
        raise _misconfigured(f"must name a job of its cluster as task.type, got {own!r}")
    if not index.isdecimal() or int(index) >= count:
        raise _misconfigured(
            f"must give task.index of {own} from 0 to {count - 1}, got {task.get('index')!r}"
        )
    return Cluster(tuple(addresses), starts[own] + int(index))


def meet(cluster: Cluster, key: str, limit: float) -> None:
    """Return when every process of the cluster is there and has the same key.

    key: names what is to be done; equal only for the same data, params, code and software. limit:
    seconds to wait. Only the chief listens, at its own address, which is free again afterwards.
    Raises InputError in every process, where one never comes or has another key.
    """
    if cluster.rank == 0:
        _gather(cluster, key, time.monotonic() + limit, limit)
    else:
        _report(cluster, key, time.monotonic() + limit, limit)


def unreachable(cluster: Cluster, patience: float = 2.0) -> list[str]:
    """Return the addresses of the other processes at which nothing listens any more."""
    silent = []
    for rank, address in enumerate(cluster.addresses):
        if rank == cluster.rank:
            continue
        try:
            socket.create_connection(split_address(address), patience).close()
        except OSError:
            silent.append(address)
    return silent


def split_address(address: str) -> tuple[str, int]:
    """Return host and port; an IPv6 host stands in brackets."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def _gather(cluster: Cluster, key: str, deadline: float, limit: float) -> None:
    """Wait as the chief for a word from all others, then tell them to go on, or why not."""
    awaited = set(range(1, len(cluster.addresses)))
    words: dict[int, tuple[socket.socket, str]] = {}
    with _listen(cluster.addresses[0]) as server:
        while awaited - set(words):
            server.settimeout(max(deadline - time.monotonic(), 0.01))
            try:
                rank, connection, word = _accept(server)
            except TimeoutError:
                missing = [cluster.addresses[rank] for rank in sorted(awaited - set(words))]
                raise _answer(words, _absent(missing, limit)) from None
            if rank in awaited:
                words[rank] = connection, word  # a process that was started anew takes its place
    others = [cluster.addresses[rank] for rank, (_, word) in sorted(words.items()) if word != key]
    if others:
        raise _answer(
            words,
            f"{', '.join(others)} has other data, params, code or library versions than the chief "
            f"{cluster.addresses[0]}; give all workers the same commit and the same data/dataset",
        )
    _answer(words, "")


def _accept(server: socket.socket) -> tuple[int, socket.socket, str]:
    """Return who has come, on which connection, and the key; rank -1 for a stranger."""
    connection, _ = server.accept()
    connection.settimeout(5)
    try:
        said = json.loads(_read_line(connection))
        return int(said["rank"]), connection, str(said["key"])
    except (OSError, ValueError, KeyError, TypeError):
        connection.close()
        return -1, connection, ""


def _answer(words: dict[int, tuple[socket.socket, str]], problem: str) -> InputError:
    """Tell all that have come what is wrong, or nothing; return it as the chief's own error."""
    for connection, _ in words.values():
        with suppress(OSError), connection:
            connection.sendall(json.dumps(problem).encode() + b"\n")
    return InputError(problem)


def _report(cluster: Cluster, key: str, deadline: float, limit: float) -> None:
    """Give the chief the key and wait for its answer, from the start again where it goes away."""
    chief = cluster.addresses[0]
    while (left := deadline - time.monotonic()) > 0:
        try:
            with socket.create_connection(split_address(chief), left) as connection:
                word = {"rank": cluster.rank, "key": key}
                connection.sendall(json.dumps(word).encode() + b"\n")
                # The chief gives up first and then says who is missing.
                connection.settimeout(left + 5)
                problem = json.loads(_read_line(connection))
        except (OSError, ValueError):
            time.sleep(RETRY)
            continue
        if problem:
            raise InputError(problem)
        return
    raise InputError(_absent([chief], limit))


def _listen(address: str) -> socket.socket:
    host, port = split_address(address)
    try:
        return socket.create_server(("", port), backlog=128)
    except OSError as error:
        raise InputError(
            f"the chief cannot listen at port {port} of {host} ({error.strerror}); name a free "
            "port in TF_CONFIG, the same one for all workers"
        ) from error


def _read_line(connection: socket.socket) -> bytes:
    """Return what comes up to the end of the line; raises ValueError where it ends before."""
    said = b""
    while not said.endswith(b"\n"):
        part = connection.recv(4096)
        if not part or len(said) > 2**16:
            raise ValueError("the other side has said nothing that is a line")
        said += part
    return said


def _absent(addresses: Sequence[str], limit: float) -> str:
    return (
        f"{', '.join(addresses)} of TF_CONFIG did not come up within {limit:g} seconds; start one "
        "process for each address, all with the same cluster"
    )


def _section(config: Any, name: str) -> dict[str, Any]:
    section = config.get(name) if isinstance(config, dict) else None
    if not isinstance(section, dict):
        raise _misconfigured(f"lacks the mapping {name!r}: {config!r}")
    return section


def _addresses(cluster: dict[str, Any], job: str) -> list[str]:
    addresses = cluster.get(job, [])
    if not isinstance(addresses, list):
        raise _misconfigured(f"must list the addresses of {job}, got {addresses!r}")
    for address in addresses:
        host, _, port = str(address).rpartition(":")
        if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
            raise _misconfigured(f"must give addresses as host:port, got {address!r}")
    return addresses


def _misconfigured(problem: str) -> InputError:
    return InputError(
        f"train.strategy multiworker: the environment variable TF_CONFIG {problem}; it looks like "
        f"{EXAMPLE}"
    )
