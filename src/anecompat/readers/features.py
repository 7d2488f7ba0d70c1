"""A model's description as the app sees it: FeatureDescription messages as features, flexible shapes included."""

from __future__ import annotations

from typing import Any

from anecompat.ir import Feature

# FeatureTypes.proto: ArrayFeatureType.ArrayDataType and ImageFeatureType.ColorSpace.
ARRAY_TYPES = {65552: "fp16", 65568: "fp32", 65600: "fp64", 131104: "int32", 131080: "int8"}
COLORS = {10: "GRAYSCALE", 20: "RGB", 30: "BGR", 40: "GRAYSCALE_FLOAT16"}
CHANNELS = {"GRAYSCALE": 1, "RGB": 3, "BGR": 3, "GRAYSCALE_FLOAT16": 1}

Range = tuple[int, int | None]


def features(descriptions: Any) -> tuple[Feature, ...]:
    """The features of a repeated FeatureDescription, in file order."""
    return tuple(feature(each) for each in descriptions)


def feature(description: Any) -> Feature:
    """One input, output or state. A type that the file leaves out has the kind "unknown"."""
    name, text = description.name, description.shortDescription
    optional = bool(description.type.isOptional)
    which = description.type.WhichOneof("Type")
    match which:
        case "multiArrayType":
            return _array(description.type.multiArrayType, "multiArray", name, optional, text)
        case "stateType":
            return _array(description.type.stateType.arrayType, "state", name, optional, text)
        case "imageType":
            return _image(description.type.imageType, name, optional, text)
        case "dictionaryType":
            key = description.type.dictionaryType.WhichOneof("KeyType") or ""
            return Feature(name, "dictionary", key.removesuffix("KeyType"), optional=optional, description=text)
        case "sequenceType":
            element = description.type.sequenceType.WhichOneof("Type") or ""
            return Feature(name, "sequence", element.removesuffix("Type"), optional=optional, description=text)
    return Feature(name, (which or "unknown").removesuffix("Type"), optional=optional, description=text)


def _range(size: Any) -> Range:
    """(least, most); the format writes -1 for "no limit"."""
    return size.lowerBound, size.upperBound if size.upperBound >= 0 else None


def _array(array: Any, kind: str, name: str, optional: bool, text: str) -> Feature:
    flexibility = array.WhichOneof("ShapeFlexibility")
    choices: tuple[tuple[int, ...], ...] = ()
    ranges: tuple[Range, ...] = ()
    if flexibility == "enumeratedShapes":
        choices = tuple(tuple(each.shape) for each in array.enumeratedShapes.shapes)
    elif flexibility == "shapeRange":
        ranges = tuple(_range(each) for each in array.shapeRange.sizeRanges)
    shape: tuple[int, ...] | None = tuple(array.shape)
    if not shape:
        shape = choices[0] if choices else None
    dtype = ARRAY_TYPES.get(array.dataType, "")
    return Feature(name, kind, dtype, shape, choices, ranges, optional=optional, description=text)


def _image(image: Any, name: str, optional: bool, text: str) -> Feature:
    color = COLORS.get(image.colorSpace, "")
    channels = CHANNELS.get(color, 0)
    choices: tuple[tuple[int, ...], ...] = ()
    ranges: tuple[Range, ...] = ()
    flexibility = image.WhichOneof("SizeFlexibility")
    if flexibility == "enumeratedSizes":
        choices = tuple((channels, size.height, size.width) for size in image.enumeratedSizes.sizes)
    elif flexibility == "imageSizeRange":
        sizes = image.imageSizeRange
        ranges = ((channels, channels), _range(sizes.heightRange), _range(sizes.widthRange))
    shape: tuple[int, ...] | None = (channels, image.height, image.width)
    if not image.height and not image.width:
        shape = choices[0] if choices else None
    return Feature(name, "image", "", shape, choices, ranges, color, optional, text)
