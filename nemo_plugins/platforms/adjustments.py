"""What an adjustment of a library is: one small function with a name, the place that makes it necessary, and a way out."""

import inspect
from collections.abc import Callable, Collection
from dataclasses import dataclass
from types import CodeType, FunctionType


@dataclass(frozen=True)
class Adjustment:
    """One thing put right in a library.

    Attributes:
        name: what tests and `Platform.adjustments` call it.
        because: the place in the library that takes the missing thing for granted.
        apply: does it, once per process, for good.
    """

    name: str
    because: str
    apply: Callable[[], None]


class Adjustments:
    """The adjustments for one missing thing, in the order in which they are applied."""

    def __init__(self) -> None:
        self.all: list[Adjustment] = []

    def __call__(self, name: str, because: str) -> Callable[[Callable[[], None]], Callable[[], None]]:
        """Decorator that registers a function as an adjustment."""

        def register(function: Callable[[], None]) -> Callable[[], None]:
            self.all.append(Adjustment(name, because, function))
            return function

        return register

    def apply(self, without: Collection[str] = ()) -> tuple[str, ...]:
        """Apply all adjustments but those named in `without` (the tests leave one out to show that it is needed).

        Returns: the names of those applied.
        Raises: ValueError for a name that is not registered.
        """
        names = [adjustment.name for adjustment in self.all]
        if unknown := set(without) - set(names):
            raise ValueError(f"expected names among {names}, got {sorted(unknown)}: nothing of that name to leave out")
        chosen = [adjustment for adjustment in self.all if adjustment.name not in without]
        for adjustment in chosen:
            adjustment.apply()
        return tuple(adjustment.name for adjustment in chosen)


def reword(function: FunctionType, new: Callable[[str], str]) -> None:
    """Rewrite the string constants of one function of a library, in place.

    `torch.zeros(1, device="cuda")` inside a function of Megatron cannot be reached from outside, except by standing in for
    `torch.zeros` on every call of every library. Its constant can: nothing else notices, and nothing costs any time.

    Args:
        function: possibly decorated; the innermost one is rewritten, so that every name bound to it sees the change.
        new: text → the text to put in its place.
    Raises: RuntimeError when no constant changes, that is, when the library is not the version that this was written for.
    """
    inner = inspect.unwrap(getattr(function, "__func__", function))

    def constant(value: object) -> object:
        if isinstance(value, str):
            return new(value)
        if isinstance(value, tuple):
            return tuple(map(constant, value))
        return code(value) if isinstance(value, CodeType) else value

    def code(old: CodeType) -> CodeType:
        return old.replace(co_consts=tuple(map(constant, old.co_consts)))

    changed = code(inner.__code__)
    if changed == inner.__code__:
        raise RuntimeError(
            f"expected {inner.__module__}.{inner.__qualname__} to name a device, but it does not: this version of the library "
            "is not the one that nemo_plugins/platforms was written for; install the locked versions"
        )
    inner.__code__ = changed
