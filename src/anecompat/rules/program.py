"""Rules on a whole function: states, weights, flexible inputs. Each yields (rule id, reason, operations)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from anecompat import knowledge
from anecompat.costs import bytes_of
from anecompat.findings import Certainty, Effect, Reason
from anecompat.ir import UNDESCRIBED, StateType
from anecompat.outline import Part
from anecompat.rules.scope import Scope

Said = tuple[str, Reason, tuple[int, ...]]
_GIB = 2**30


def program_reasons(part: Part, scope: Scope, eligible: Sequence[bool | None]) -> Iterator[Said]:
    """What is known of the function as a whole."""
    yield from _states(part)
    yield from _weights(part, scope)
    yield from _shapes(part, scope, eligible)
    yield from _description(part)
    yield from _system(part, scope)


def _states(part: Part) -> Iterator[Said]:
    states = [value for value in part.function.inputs if isinstance(value.type, StateType)]
    if len(states) >= 3:
        yield (
            "ANE501",
            Reason(
                f"it keeps {len(states)} states; three were planned on the engine and failed when run",
                Certainty.REPORTED,
                ("coreml-llm",),
                effect=Effect.BLOCKS,
            ),
            (),
        )
    elif len(states) == 2:
        yield (
            "ANE501",
            Reason(
                "it keeps 2 states; two or three were reported to fail when run",
                Certainty.REPORTED,
                ("coreml-llm",),
                effect=Effect.RISK,
            ),
            (),
        )
    for value in states:
        shape = value.tensor.shape
        if shape and shape[-1] and shape[-1] % 32:
            yield (
                "ANE501",
                Reason(
                    f"a state is {shape[-1]} wide; widths that are no multiple of 32 were reported to fail",
                    Certainty.REPORTED,
                    ("coremltools-2631",),
                    effect=Effect.RISK,
                ),
                (),
            )
            break


def _weights(part: Part, scope: Scope) -> Iterator[Said]:
    seen: set[int] = set()
    total = 0.0
    for operation in part.function.body.walk():
        for bound in operation.inputs.values():
            for value in bound:
                if value.const is not None and value.const.blob is not None and id(value) not in seen:
                    seen.add(id(value))
                    length = value.const.blob.length
                    total += length if length is not None else bytes_of(value)
    gib = total / _GIB
    if gib > 3 and scope.generation <= 13:
        yield (
            "ANE502",
            Reason(
                f"its weights take {gib:.1f} GiB; about 3 stayed off an M1's engine",
                Certainty.REPORTED,
                ("smpanaro",),
                effect=Effect.BLOCKS,
            ),
            (),
        )
    elif gib > 2:
        yield (
            "ANE502",
            Reason(
                f"its weights take {gib:.1f} GiB; around 2 is reported as the limit of one engine program",
                Certainty.REPORTED,
                ("aneforge",),
                effect=Effect.BLOCKS,
            ),
            (),
        )
    elif scope.handheld and total > (limit := scope.limit("weights_bytes_phone")).value:
        yield (
            "ANE502",
            Reason(
                f"its weights take {gib:.1f} GiB; {limit.value / _GIB:g} is the limit on an iPhone's or iPad's engine",
                limit.certainty,
                limit.sources,
                effect=Effect.BLOCKS,
            ),
            (),
        )


def _shapes(part: Part, scope: Scope, eligible: Sequence[bool | None]) -> Iterator[Said]:
    flexible = [feature for feature in part.model.inputs if feature.is_flexible]
    if not flexible:
        return
    names = ", ".join(feature.name for feature in flexible[:3])
    if any(len(feature.choices) < 2 for feature in flexible):
        yield (
            "ANE902",
            Reason(
                f"{names} takes a range of shapes; judged at the default one",
                Certainty.REPORTED,
                ("coremltools-flexible", "mobius-supertonic", "coremltools-2370"),
                effect=Effect.UNKNOWN,
                core_ml_code=110,
                core_ml_text="ANECompiler does not support range shape flexibility",
            ),
            tuple(index for index in part.indexes if eligible[index]),
        )
    else:
        count = max(len(feature.choices) for feature in flexible)
        yield (
            "ANE903",
            Reason(
                f"{names} takes {count} enumerated shapes",
                Certainty.REPORTED,
                ("coremltools-flexible", "coremltools-2370"),
                effect=Effect.RISK,
            ),
            (),
        )


# The release, as iOS counts, that each version of the format came with (coremltools, "Availability of features").
_FIRST_RELEASE = {1: 11, 2: 11, 3: 12, 4: 13, 5: 14, 6: 15, 7: 16, 8: 17, 9: 18, 10: 26}


def _system(part: Part, scope: Scope) -> Iterator[Said]:
    opset = part.function.opset.removeprefix("ios")
    needed = max(_FIRST_RELEASE.get(part.model.spec_version, 0), int(opset) if opset.isdigit() else 0)
    if needed > scope.major:
        yield (
            "ANE504",
            Reason(
                f"it needs {knowledge.release_text((needed,))} or later, and {scope.system} is asked about",
                Certainty.DOCUMENTED,
                ("core-ml-format",),
                effect=Effect.BLOCKS,
            ),
            (),
        )


def _description(part: Part) -> Iterator[Said]:
    if part.model.metadata.get(UNDESCRIBED):
        yield (
            "ANE804",
            Reason(
                "its description is missing, so whether it looks up a class label is not known",
                Certainty.INFERRED,
                ("core-ml-format",),
                effect=Effect.BLOCKS,
            ),
            (),
        )
