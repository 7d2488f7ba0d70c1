"""What a rule may know beside the operation: the engine generation, the system's release, the tables."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from anecompat import knowledge
from anecompat.ir import Operation
from anecompat.targets import Target


@dataclass(frozen=True)
class Scope:
    """One engine generation on one system, for one kind of program.

    ``release`` is the system's version as iOS counts it: macOS 14.5 is (17, 5). ``legacy`` says that the operation
    was lowered from an old neural-network layer, which Core ML hands to the engine by another path. ``handheld`` says
    that the system is that of an iPhone or iPad.
    """

    engine: str
    release: tuple[int, ...]
    legacy: bool = False
    handheld: bool = False

    @classmethod
    def of(cls, target: Target, *, legacy: bool = False) -> Scope:
        return cls(target.engine, target.system.release, legacy, handheld=target.system.platform != "macOS")

    @cached_property
    def generation(self) -> int:
        """The engine's number: 16 for H16."""
        return int(self.engine[1:])

    @property
    def major(self) -> int:
        return self.release[0]

    @property
    def system(self) -> str:
        """The release in words a reader of either platform knows."""
        return knowledge.release_text(self.release)

    def limit(self, name: str) -> knowledge.Limit:
        """A numeric limit of the engine. Raises ir.Unknown where no source gives one."""
        return knowledge.limit(name, self.engine, self.release)

    def entry(self, operation: Operation) -> knowledge.Support:
        """What the tables say of an operation's kind: of its old layer where it has one, else of the MIL operation."""
        if operation.layer:
            found = knowledge.layer(operation.layer, self.engine, self.release, operation.type)
            if found is not None:
                return found
        return knowledge.support(operation.type, self.engine, self.release)
