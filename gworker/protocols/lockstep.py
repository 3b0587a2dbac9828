"""lockstep: a message is decoded only when the handler of the message before it has returned.

Otherwise all messages of a read are decoded at once and wait for the handler in a queue. That is
quicker, but another protocol can no longer read the rest. `Lockstep` before a protocol has the
connection ask for the next message only when the handler has returned; what follows the message in
hand is still bytes, and `connection.switch()` gives them to another protocol.

    class Mine(Lockstep, PackageProtocol): ...      # a protocol that always goes step by step
    lockstep(TextProtocol)                          # what `Worker(..., lockstep=True)` does
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar, SupportsIndex

from gworker.protocols.base import MORE, PAUSED, Control, Protocol


class Lockstep(Protocol):
    """Mixed in before a protocol: its connection takes one message at a time."""

    __slots__ = ()

    lockstep = True
    has_pending: Any = True  # what comes during the handler is for later: the driver has to look

    made_of: ClassVar[type[Protocol]]  # that of a class made by `lockstep`

    def __reduce_ex__(self, version: SupportsIndex) -> Any:
        # Pickle a class that was made here by the name of the one that it was made of.
        reduced = super().__reduce_ex__(version)
        cls = type(self)
        # pickle(3), too, knows by this name that there is nothing to call but `__new__`.
        is_plain = getattr(reduced[0], "__name__", "") == "__newobj__"
        if is_plain and "made_of" in vars(cls):
            return (_blank, (cls.made_of,), *reduced[2:])
        return reduced


def messages(protocol: Protocol) -> Iterator[Any]:
    """The messages of one datagram, which `protocol` was given whole, each when it is asked for.

    PAUSED after a message is no end. Raises what `next_event` raises.
    """
    before: Any = PAUSED
    while True:
        event = protocol.next_event()
        if not isinstance(event, Control):
            yield event
        elif event is not MORE and (event is not PAUSED or before is PAUSED):
            return
        before = event


def lockstep(protocol: type[Protocol]) -> type[Protocol]:
    """`protocol`, step by step. HTTP and WebSocket stay as they are."""
    from gworker.protocols.http.head import HeadProtocol  # a tcp server loads no HTTP parser

    if issubclass(protocol, Lockstep | HeadProtocol):
        return protocol
    if protocol not in _made:
        names = {"__slots__": (), "made_of": protocol}
        _made[protocol] = type(protocol.__name__, (Lockstep, protocol), names)
    return _made[protocol]


_made: dict[type[Protocol], type[Protocol]] = {}


def _blank(protocol: type[Protocol]) -> Protocol:
    cls = lockstep(protocol)
    return cls.__new__(cls)
