"""Generate the example models under examples/ with coremltools' MIL builder. Their weights are random and small.

    python tools/make_examples.py

Run it again only to change the examples; they are kept in the repository so that nobody needs coremltools to try them.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import coremltools as ct
import numpy as np
from coremltools.converters.mil import Builder as mb
from coremltools.converters.mil.mil import types

HERE = Path(__file__).resolve().parent.parent / "examples"
RANDOM = np.random.default_rng(7)


def weights(*shape: int) -> np.ndarray:
    return (RANDOM.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float16)


def vision() -> object:
    """A convolutional classifier body, wholly in fp16: what the engine is made for."""

    @mb.program(input_specs=[mb.TensorSpec(shape=(1, 3, 224, 224), dtype=types.fp16)], opset_version=ct.target.iOS16)
    def program(image):
        x = mb.conv(x=image, weight=weights(16, 3, 3, 3), strides=[2, 2], pad_type="same", name="stem")
        x = mb.relu(x=x, name="stem_relu")
        for block in range(4):
            channels = 16 * (block + 1)
            y = mb.conv(
                x=x, weight=weights(channels, 1, 3, 3), groups=channels, pad_type="same", name=f"depthwise_{block}"
            )
            y = mb.relu(x=y, name=f"depthwise_relu_{block}")
            y = mb.conv(x=y, weight=weights(channels, channels, 1, 1), name=f"pointwise_{block}")
            x = mb.add(x=x, y=y, name=f"residual_{block}")
            x = mb.conv(
                x=x,
                weight=weights(channels + 16, channels, 3, 3),
                strides=[2, 2],
                pad_type="same",
                name=f"down_{block}",
            )
            x = mb.relu(x=x, name=f"down_relu_{block}")
        x = mb.reduce_mean(x=x, axes=[2, 3], keep_dims=False, name="pooled")
        x = mb.linear(x=x, weight=weights(10, 80), bias=np.zeros(10, np.float16), name="logits")
        return mb.softmax(x=x, axis=-1, name="probabilities")

    return program


def text() -> object:
    """A small text encoder: integer ids, an embedding, two attention layers, the position of the best score."""
    width, heads, length, vocabulary = 64, 4, 32, 500

    @mb.program(input_specs=[mb.TensorSpec(shape=(1, length), dtype=types.int32)], opset_version=ct.target.iOS17)
    def program(input_ids):
        table = weights(vocabulary, width)
        x = mb.gather(x=table, indices=input_ids, axis=0, name="embedded")
        for layer in range(2):
            q, k, v = (
                mb.transpose(
                    x=mb.reshape(
                        x=mb.linear(x=x, weight=weights(width, width), name=f"{name}_{layer}"),
                        shape=[1, length, heads, width // heads],
                    ),
                    perm=[0, 2, 1, 3],
                )
                for name in ("query", "key", "value")
            )
            scores = mb.matmul(x=mb.mul(x=q, y=np.float16(0.25)), y=k, transpose_y=True, name=f"scores_{layer}")
            mixed = mb.matmul(x=mb.softmax(x=scores, axis=-1), y=v, name=f"mixed_{layer}")
            mixed = mb.reshape(x=mb.transpose(x=mixed, perm=[0, 2, 1, 3]), shape=[1, length, width])
            x = mb.add(x=x, y=mb.linear(x=mixed, weight=weights(width, width), name=f"joined_{layer}"))
            x = mb.layer_norm(
                x=x,
                axes=[-1],
                gamma=np.ones(width, np.float16),
                beta=np.zeros(width, np.float16),
                epsilon=np.float16(1e-4),
            )
            y = mb.gelu(x=mb.linear(x=x, weight=weights(2 * width, width), name=f"up_{layer}"), mode="EXACT")
            x = mb.add(x=x, y=mb.linear(x=y, weight=weights(width, 2 * width), name=f"down_{layer}"))
        scores = mb.linear(x=x, weight=weights(vocabulary, width), name="scores")
        return scores, mb.reduce_argmax(x=scores, axis=-1, name="best")

    return program


def audio() -> object:
    """A vocoder block in fp32: a wide kernel, a sine, a dilation of five, a running sum."""

    @mb.program(input_specs=[mb.TensorSpec(shape=(1, 32, 1024), dtype=types.fp16)], opset_version=ct.target.iOS16)
    def program(signal):
        x = mb.conv(x=signal, weight=weights(32, 32, 31), pad_type="same", name="wide")
        x = mb.add(x=x, y=mb.square(x=mb.sin(x=x, name="snake_sin")), name="snake")
        x = mb.conv(x=x, weight=weights(32, 32, 11), dilations=[5], pad_type="same", name="dilated")
        x = mb.cumsum(x=x, axis=2, name="running")
        return mb.tanh(x=mb.conv(x=x, weight=weights(1, 32, 7), pad_type="same", name="last"), name="wave")

    return program


def main() -> None:
    HERE.mkdir(exist_ok=True)
    for name, program, target in (
        ("VisionBody", vision(), ct.target.iOS16),
        ("TextEncoder", text(), ct.target.iOS17),
        ("Vocoder", audio(), ct.target.iOS16),
    ):
        model = ct.convert(
            program,
            convert_to="mlprogram",
            minimum_deployment_target=target,
            compute_precision=ct.precision.FLOAT16,
            skip_model_load=True,
        )
        place = HERE / f"{name}.mlpackage"
        shutil.rmtree(place, ignore_errors=True)
        model.save(str(place))


if __name__ == "__main__":
    main()
