"""The sockets that the arbiter holds for its worker processes.

A listener is bound once and kept for as long as some generation declares it, so that the kernel's
queue of connections that wait to be accepted survives every reload and every crash. With
`reuse_port` each slot has a socket of its own, held here as well: its successor inherits the same
one.
"""

from __future__ import annotations

import _socket
import logging
import os
from collections.abc import Collection
from dataclasses import dataclass, replace

from gworker.errors import ConfigError
from gworker.master.broker_socket import BrokerSocket
from gworker.master.plan import Key, Place, Plan
from gworker.master.socket_activation import Activated, shown
from gworker.system import unix_socket
from gworker.system.address import Address
from gworker.system.bind import DEFAULT_FILE, InUseError, bind_all, bound_address
from gworker.system.socket_options import tune
from gworker.system.unix_socket import UnixFile

log = logging.getLogger("gworker")


@dataclass(slots=True)
class Listener:
    sockets: list[_socket.socket]  # one; at `localhost` one for each family
    key: Key
    port: int  # the port that the kernel has chosen, if the address has port 0
    # The file of a unix socket that this instance has made; None: there is none to remove.
    inode: os.stat_result | None
    address: Address | None = None  # where it is bound, if a service manager has passed it
    file: UnixFile | None = None  # mode and owner that it was given; None: not known

    @property
    def descriptors(self) -> tuple[int, ...]:
        return tuple(socket.fileno() for socket in self.sockets)

    def close(self) -> None:
        """Close it; a unix socket's file goes too, unless another program has put its own there
        meanwhile."""
        for socket in self.sockets:
            socket.close()
        unix_socket.remove(self.key.path, self.inode)


class Listeners:
    def __init__(
        self, activated: Activated | None = None, broker: UnixFile = unix_socket.PRIVATE
    ) -> None:
        self.held: dict[Key, Listener] = {}
        self.broker = BrokerSocket(broker)
        # What a service manager has bound; it goes before binding.
        self.activated = activated or Activated()

    def open(
        self,
        key: Key,
        address: Address,
        backlog: int,
        worker: str,
        file: UnixFile = DEFAULT_FILE,
    ) -> Listener:
        """The listener for `key`, bound to `address` now if it is not yet. Raises ConfigError."""
        if key not in self.held:
            self.held[key] = self._adopt(key, address, worker) or self._bind(
                key, address, backlog, worker, file
            )
        return self.held[key]

    def _adopt(self, key: Key, address: Address, worker: str) -> Listener | None:
        # The activated socket that Worker `worker` is to serve, if there is one. Its path is not
        # ours to unlink.
        socket = self.activated.find(worker, address)
        if socket is None:
            return None
        bound = shown(socket, address)
        if bound.transport == "tcp":
            tune(socket)
        socket.setblocking(False)
        return Listener([socket], key, bound.port, None, bound)

    def _bind(
        self, key: Key, address: Address, backlog: int, worker: str, file: UnixFile
    ) -> Listener:
        address = address.with_port(self._shared_port(key))
        try:
            sockets = bind_all(address, backlog=backlog, shared=key.slot is not None, file=file)
        except ConfigError as error:
            why = str(error)
            ports = [(each.key.transport, each.port) for each in self.held.values()]
            if isinstance(error, InUseError) and key.port and (key.transport, key.port) in ports:
                why = (
                    f"cannot listen on {address.url}: this instance holds the port in another way "
                    "(another host, or reuse_port was changed); that takes a restart"
                )
            raise ConfigError(f"Worker {worker!r}: {why}") from None
        inode = os.lstat(key.path) if key.path and not address.is_abstract else None
        return Listener(sockets, key, bound_address(sockets[0], address).port, inode, file=file)

    def _shared_port(self, key: Key) -> int:
        # Port 0 with reuse_port: the slots share the port that the first of them was given.
        shared = (
            listener.port
            for other, listener in self.held.items()
            if None not in (key.slot, other.slot) and replace(other, slot=key.slot) == key
        )
        return next(shared, key.port)

    def open_for(self, plan: Plan) -> None:
        """Bind everything that `plan` needs. Raises ConfigError; then nothing was added."""
        before = set(self.held)
        self.activated.warn_of_unwanted(
            (name, address)
            for name, each in plan.declarations.items()
            if (address := each.address()) is not None
        )
        try:
            for place in plan.places():
                key, declaration = plan.key(place), plan.declarations[place[0]]
                address = declaration.address()
                if key is not None and address is not None:
                    file = UnixFile.of(declaration.unix_file)
                    file.check()
                    self.open(key, address, declaration.backlog, place[0], file)
        except ConfigError:
            self.keep_only(before)
            raise

    def apply_files(self, plan: Plan) -> None:
        """Give the files of our unix sockets the mode and owner that `plan` says, where that has
        changed."""
        for place in plan.places():
            held = self.held.get(key) if (key := plan.key(place)) is not None else None
            file = UnixFile.of(plan.declarations[place[0]].unix_file)
            if held is None or held.inode is None or held.file == file:
                continue
            try:
                if os.path.samestat(held.inode, os.lstat(held.key.path)):
                    file.apply(held.key.path)
                held.file = file
            except (OSError, ConfigError) as error:
                log.error("%s: mode and owner stay as they are: %s", held.key.path, error)

    def keep_only(self, keys: set[Key]) -> None:
        for key in set(self.held) - keys:
            self.held.pop(key).close()

    def adopt(self, key: Key, port: int, descriptors: list[int], address: Address | None) -> None:
        """Hold sockets that were bound before an exec. address: of one that was passed by a service
        manager."""
        ours = key.path.startswith("/") and address is None and os.path.exists(key.path)
        inode = os.lstat(key.path) if ours else None
        self.held[key] = Listener(
            [_socket.socket(fileno=each) for each in descriptors], key, port, inode, address
        )

    def close(self) -> None:
        self.keep_only(set())
        self.activated.close()

    def url(self, plan: Plan, place: Place) -> str | None:
        """Where the process in `place` of `plan` listens, with the port that was chosen."""
        declaration = plan.declarations.get(place[0])
        address = declaration.address() if declaration is not None else None
        if address is None or (key := plan.key(place)) is None or key not in self.held:
            return None
        listener = self.held[key]
        return (listener.address or address.with_port(listener.port)).url

    def close_in_child(self, but: Collection[int] = ()) -> None:
        """In a worker process: close all copies but the descriptors that it serves."""
        self.activated.close()
        self.broker.close_in_child()
        for listener in self.held.values():
            for socket in listener.sockets:
                if socket.fileno() not in but:
                    socket.close()
