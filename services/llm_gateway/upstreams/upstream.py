"""One model server: its configuration and its present state."""

from __future__ import annotations

from yarl import URL

from zhiwen.llm_gateway.config import UpstreamConfig
from zhiwen.llm_gateway.upstreams import breaker
from zhiwen.llm_gateway.upstreams.breaker import Breaker
from zhiwen.llm_gateway.upstreams.http import Timeouts
from zhiwen.llm_gateway.upstreams.routing import CandidateState

LONGEST_PAUSE = 300.0  # seconds; a longer `Retry-After` is cut to this


class Upstream:
    """A model server. All times are seconds on the pool's clock."""

    def __init__(self, config: UpstreamConfig, defaults: Timeouts) -> None:
        self.breaker = Breaker()
        self.pending = 0
        self.healthy = True
        self.cooling_until = 0.0
        self.listed: tuple[str, ...] = ()
        self.refuses_usage = False
        self.configure(config, defaults)

    def configure(self, config: UpstreamConfig, defaults: Timeouts) -> None:
        """Use a new configuration and keep the state. `defaults` are for timeouts that the file does not set."""
        self.config = config
        self.name = config.name
        key = config.api_key.get_secret_value()
        self.headers = {"Content-Type": "application/json", **config.headers}
        if key:
            self.headers["Authorization"] = f"Bearer {key}"
        self._urls: dict[str, URL] = {}
        own = config.timeouts
        self.timeouts = Timeouts(
            own.connect or defaults.connect, own.first_byte or defaults.first_byte, own.idle or defaults.idle
        )

    @property
    def asks_usage(self) -> bool:
        """True when streams may be asked for their usage, a field that some servers refuse."""
        return self.config.ask_usage and not self.refuses_usage

    def url(self, path: str) -> URL:
        """Return the address of an endpoint such as `/chat/completions`."""
        if path not in self._urls:
            self._urls[path] = URL(self.config.root + path)
        return self._urls[path]

    def state(self, now: float, *, tried: bool) -> CandidateState:
        """Return the state for `routing.choose`. `tried` is True when this upstream has failed the request already."""
        return CandidateState(
            self.config.priority,
            self.config.weight,
            self.pending,
            self.config.max_concurrent,
            self.healthy,
            breaker.allows(self.breaker, now),
            now < self.cooling_until,
            tried,
        )

    def may_be_asked(self, now: float) -> bool:
        """Return True when a call is allowed now or as soon as a slot is free."""
        return breaker.allows(self.breaker, now) and now >= self.cooling_until

    def cool_down(self, now: float, seconds: float) -> None:
        """Send the server no request for `seconds`, but at most five minutes, as its `Retry-After` asks."""
        self.cooling_until = max(self.cooling_until, now + min(seconds, LONGEST_PAUSE))
