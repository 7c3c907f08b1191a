"""How fast one rater, and one address on the internet, may ask: in this process's memory, gone when it ends.

Trials are limited, not votes: whoever was given a pair may always vote on it.  An address is what stands at the end of
``X-Forwarded-For`` as the trusted proxies wrote it; its beginning is whatever the client claims.
"""

from __future__ import annotations

import ipaddress
import math
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from starlette.requests import Request

from tdm_core.errors import TooManyRequestsError

MOST_KEYS = 20_000
NEIGHBOURS = 3  # raters of one network, from which on they are worth a look
ROUNDING = 1e-6  # seconds by which sums of intervals may be off


@dataclass(frozen=True, kw_only=True)
class Rate:
    """So many in so long, which may all come at once."""

    count: int
    seconds: float


class Limiter:
    """Token buckets of some rates for each key, kept as the time at which a bucket is full again (GCRA)."""

    def __init__(self, *rates: Rate, clock: Callable[[], float] = time.monotonic) -> None:
        self._rates, self._clock = rates, clock
        self._full_at: OrderedDict[str, list[float]] = OrderedDict()

    def check(self, key: str, what: str) -> None:
        """Take one, if there is one in each bucket.

        Raises:
            TooManyRequestsError: with the seconds until there is; nothing was taken.
        """
        if wait := self.wait(key):
            raise TooManyRequestsError(f"{what}: go on in {_spoken(wait)}.", seconds=wait)
        self.take(key)

    def wait(self, key: str) -> float:
        """Seconds until each bucket has one again; 0 if each has."""
        now, full_at = self._clock(), self._full_at.get(key)
        if full_at is None:
            return 0.0
        waits = [
            full - now - rate.seconds * (1 - 1 / rate.count) for full, rate in zip(full_at, self._rates, strict=True)
        ]
        return max(waits) if max(waits) > ROUNDING else 0.0

    def take(self, key: str) -> None:
        """Take one out of each bucket."""
        now = self._clock()
        full_at = self._full_at.pop(key, [now] * len(self._rates))
        self._full_at[key] = [
            max(full, now) + rate.seconds / rate.count for full, rate in zip(full_at, self._rates, strict=True)
        ]
        if len(self._full_at) > MOST_KEYS:  # whoever has not asked for longest is forgotten first
            self._full_at.popitem(last=False)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Of a study that anybody may reach; and who came from one network, which is kept nowhere else."""

    rater: Limiter
    """Trials that one rater is given."""
    address: Limiter
    """Trials and invitations that are asked for from one address."""
    newcomers: Limiter
    """Raters who are new, from one address."""
    proxies: int = 0
    """How many proxies stand in front of the server and write ``X-Forwarded-For``."""
    _raters_of: OrderedDict[str, set[str]] = field(default_factory=OrderedDict)

    @classmethod
    def usual(cls, *, proxies: int = 0, clock: Callable[[], float] = time.monotonic) -> Limits:
        """A rater needs about 10 s a pair; an address may be a whole classroom's."""
        return cls(
            rater=Limiter(
                Rate(count=10, seconds=10),
                Rate(count=400, seconds=3600),
                Rate(count=1000, seconds=24 * 3600),
                clock=clock,
            ),
            address=Limiter(Rate(count=300, seconds=60), clock=clock),
            newcomers=Limiter(Rate(count=60, seconds=3600), clock=clock),
            proxies=proxies,
        )

    def trial(self, request: Request, rater: str) -> None:
        """A known rater asks for a trial."""
        self._from_outside(self.address, request)
        self.rater.check(rater, "You have been given many pairs in a short time")
        if network := network_of(request, self.proxies):
            self._raters_of.setdefault(network, set()).add(rater)
            if len(self._raters_of) > MOST_KEYS:
                self._raters_of.popitem(last=False)

    def neighbours(self) -> set[str]:
        """Raters who share a network with others, in a classroom or on one desk: not all of them may be people."""
        return {rater for raters in self._raters_of.values() if len(raters) >= NEIGHBOURS for rater in raters}

    def newcomer(self, request: Request) -> None:
        """Somebody without a cookie asks for the first trial."""
        self._from_outside(self.address, request)
        self._from_outside(self.newcomers, request)

    def invitation(self, request: Request) -> None:
        """Somebody tries a code."""
        self._from_outside(self.address, request)

    def _from_outside(self, limiter: Limiter, request: Request) -> None:
        if network := network_of(request, self.proxies):
            limiter.check(network, "Many requests come from your network")


def network_of(request: Request, proxies: int) -> str | None:
    """The client's address, or its /64 in IPv6, which is one customer's; ``None`` for a private or an unknown one."""
    hops = [part.strip() for part in request.headers.get("x-forwarded-for", "").split(",")]
    host = hops[-proxies] if 0 < proxies <= len(hops) else request.client.host if request.client else ""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    if not address.is_global:
        return None
    return str(ipaddress.ip_network(f"{address}/64", strict=False)) if address.version == 6 else str(address)


def _spoken(seconds: float) -> str:
    minutes = math.ceil(seconds / 60)
    return f"{math.ceil(seconds)} s" if seconds < 60 else f"{minutes} minute{'s' if minutes > 1 else ''}"
