"""Readers: any Core ML model as a typed graph. ``read`` is the way in.

The format is told by content, not by the file's name. Weights are never loaded, nothing is written.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Mapping

from anecompat.errors import ReadError
from anecompat.ir import Model
from anecompat.readers.options import Options, Pins

__all__ = ["read"]


def read(
    path: str | os.PathLike[str],
    *,
    function: str | None = None,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    verify_weights: bool = False,
) -> Model:
    """The model at a path: a .mlpackage, .mlmodel, .mlmodelc, .mil, a zip archive or a folder that holds one of them.

    ``function`` keeps one of several functions. ``shapes`` fixes flexible inputs, by name, as the input has its
    dimensions: ``{"image": (1, 3, 640, 640)}``. ``verify_weights`` checks every blob's bounds in the weight file and
    adds a warning where one is wrong; weights that are missing or too short give a warning in any case.

    ReadError: the path is not there, or is no Core ML model that can be read; the sentence says where, what was found
    and what to do. UsageError: no such function or input, or a shape that the model does not take.
    """
    from anecompat.readers.locate import read_source
    from anecompat.readers.source import open_source

    if not os.fspath(path):
        raise ReadError("the path is empty; give the path of a model")
    collecting = gc.isenabled()
    gc.disable()  # tens of thousands of live objects and no garbage among them: a collection only costs
    try:
        source = open_source(path)
        options = Options(function, Pins(shapes), verify_weights)
        try:
            model = options.finish(read_source(source, os.fspath(path), options))
            model.bytes_read = source.bytes_read
        finally:
            source.close()
    finally:
        if collecting:
            gc.enable()
    return model
