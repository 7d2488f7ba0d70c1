"""Every layer kind of the format: the MIL operation it becomes, its arguments, and its exact output shapes.

Shapes marked "doc" are the examples of NeuralNetwork.proto itself.
"""

from __future__ import annotations

from typing import Any

import pytest

from anecompat import proto
from anecompat.ir import TensorType, Unknown
from anecompat.readers.neural_network.network import LOWERINGS, OWN
from neural_networks import Dims, lower_layer, shapes

Shapes = list[Dims]
X = (2, 6, 8, 10)  # (N, C, H, W)

# parameters | input shapes | MIL type | output shapes | some of the arguments
Case = tuple[str, Shapes, str, Shapes, dict[str, Any]]
CASES: list[Case] = [
    # windows
    ("convolution { outputChannels: 4 kernelChannels: 6 valid {} }", [X], "conv", [(2, 4, 6, 8)],
     {"strides": (1, 1), "pad_type": "valid", "pad": (0, 0, 0, 0), "dilations": (1, 1), "groups": 1}),
    ("convolution { outputChannels: 4 kernelChannels: 3 nGroups: 2 kernelSize: [5, 3] stride: [2, 3] same {} }", [X],
     "conv", [(2, 4, 4, 4)], {"groups": 2, "strides": (2, 3), "pad_type": "same"}),
    ("convolution { outputChannels: 4 kernelChannels: 6 kernelSize: [3, 3] dilationFactor: [2, 4] valid {"
     " paddingAmounts { borderAmounts { startEdgeSize: 1 endEdgeSize: 2 } borderAmounts { endEdgeSize: 1 } } } }", [X],
     "conv", [(2, 4, 7, 3)], {"pad_type": "custom", "pad": (1, 2, 0, 1), "dilations": (2, 4)}),
    ("convolution { outputChannels: 4 kernelChannels: 6 same { asymmetryMode: TOP_LEFT_HEAVY } }", [X], "conv",
     [(2, 4, 8, 10)], {"pad_type": "same_lower"}),
    ("convolution { outputChannels: 4 kernelChannels: 6 kernelSize: [3, 3] valid {} }", [X, (4, 6, 3, 3)], "conv",
     [(2, 4, 6, 8)], {}),
    ("convolution { outputChannels: 4 kernelChannels: 6 kernelSize: [4, 4] stride: [2, 2] isDeconvolution: true valid {"
     " paddingAmounts { borderAmounts { startEdgeSize: 1 endEdgeSize: 1 } borderAmounts { startEdgeSize: 3 } } } }",
     [X], "conv_transpose", [(2, 4, 16, 19)], {"pad": (1, 1, 3, 0), "strides": (2, 2)}),
    ("convolution { outputChannels: 4 kernelChannels: 6 stride: [3, 2] isDeconvolution: true same {} }", [X],
     "conv_transpose", [(2, 4, 24, 20)], {"pad_type": "same"}),
    ("convolution { outputChannels: 4 kernelChannels: 6 stride: [2, 2] isDeconvolution: true same {} outputShape: [17,"
     " 21] }", [X], "conv_transpose", [(2, 4, 17, 21)], {"output_shape": (2, 4, 17, 21)}),
    ("convolution { outputChannels: 4 kernelChannels: 6 valid {} }", [(3, *X)], "conv", [(3, 2, 4, 6, 8)], {}),
    ("convolution3d { outputChannels: 2 inputChannels: 3 nGroups: 1 kernelDepth: 3 kernelHeight: 3 kernelWidth: 3"
     " strideDepth: 2 strideHeight: 2 strideWidth: 2 dilationDepth: 1 dilationHeight: 1 dilationWidth: 1"
     " paddingType: SAME }", [(1, 3, 3, 8, 8)], "conv", [(1, 2, 2, 4, 4)], {"strides": (2, 2, 2)}),  # doc
    ("convolution3d { outputChannels: 2 inputChannels: 3 kernelDepth: 2 kernelHeight: 3 kernelWidth: 4 strideDepth: 1"
     " strideHeight: 1 strideWidth: 1 dilationDepth: 1 dilationHeight: 2 dilationWidth: 1 customPaddingFront: 1"
     " customPaddingRight: 2 }", [(1, 3, 3, 8, 8)], "conv", [(1, 2, 3, 4, 7)],
     {"pad_type": "custom", "pad": (1, 0, 0, 0, 0, 2)}),
    ("convolution3d { outputChannels: 2 inputChannels: 3 kernelDepth: 2 kernelHeight: 2 kernelWidth: 2 strideDepth: 2"
     " strideHeight: 2 strideWidth: 2 dilationDepth: 1 dilationHeight: 1 dilationWidth: 1 paddingType: VALID"
     " isDeconvolution: true }", [(1, 3, 3, 8, 8)], "conv_transpose", [(1, 2, 6, 16, 16)], {"pad_type": "valid"}),
    ("pooling { type: MAX valid {} }", [X], "max_pool", [(2, 6, 6, 8)],
     {"kernel_sizes": (3, 3), "strides": (1, 1), "pad_type": "valid", "ceil_mode": False}),
    ("pooling { type: AVERAGE kernelSize: [2, 2] stride: [2, 2] same {} avgPoolExcludePadding: true }", [(1, 3, 5, 7)],
     "avg_pool", [(1, 3, 3, 4)], {"pad_type": "same", "exclude_padding_from_average": True}),
    ("pooling { type: L2 kernelSize: [2, 3] stride: [3, 2] valid {} }", [X], "l2_pool", [(2, 6, 3, 4)], {}),
    ("pooling { kernelSize: [3, 3] stride: [2, 2] includeLastPixel {} }", [(1, 3, 112, 112)], "max_pool",
     [(1, 3, 56, 56)], {"ceil_mode": True, "pad_type": "custom"}),
    ("pooling { kernelSize: [2, 2] stride: [2, 2] includeLastPixel { paddingAmounts: [1, 1] } }", [(1, 3, 5, 6)],
     "max_pool", [(1, 3, 3, 4)], {"pad": (1, 1, 1, 1)}),
    ("pooling { type: AVERAGE globalPooling: true }", [X], "avg_pool", [(2, 6, 1, 1)], {"kernel_sizes": (8, 10)}),
    ("pooling3d { type: MAX kernelDepth: 2 kernelHeight: 2 kernelWidth: 2 strideDepth: 1 strideHeight: 1 strideWidth: 1"
     " paddingType: VALID }", [(1, 1, 2, 3, 3)], "max_pool", [(1, 1, 1, 2, 2)], {"kernel_sizes": (2, 2, 2)}),  # doc
    ("pooling3d { type: AVERAGE kernelDepth: 2 kernelHeight: 2 kernelWidth: 2 strideDepth: 2 strideHeight: 2"
     " strideWidth: 2 paddingType: SAME countExcludePadding: true }", [(1, 4, 3, 5, 6)], "avg_pool", [(1, 4, 2, 3, 3)],
     {"exclude_padding_from_average": True}),
    ("globalPooling3d { type: MAX }", [(1, 1, 2, 3, 3)], "max_pool", [(1, 1, 1, 1, 1)], {"kernel_sizes": (2, 3, 3)}),
    # pad, crop, resize
    ("padding { reflection {} paddingAmounts { borderAmounts { startEdgeSize: 2 } borderAmounts { startEdgeSize: 2 } }"
     " }", [(1, 3, 4)], "pad", [(1, 5, 6)], {"mode": "reflect", "pad": (2, 0, 2, 0)}),  # doc
    ("padding { constant { value: 2.5 } }", [X], "pad", [X], {"mode": "constant", "constant_val": 2.5}),
    ("padding { replication {} paddingAmounts { borderAmounts { endEdgeSize: 1 } borderAmounts { endEdgeSize: 3 } } }",
     [(4, 5)], "pad", [(5, 8)], {"mode": "replicate"}),
    ("constantPad { padAmounts: [0, 1, 4, 0] }", [(20, 10)], "pad", [(21, 14)], {"pad": (0, 1, 4, 0)}),  # doc
    ("constantPad { padAmounts: [0, 0, 17, 0, 0, 14] padToGivenOutputSizeMode: true }", [(20, 10, 5)], "pad",
     [(20, 17, 14)], {"pad": (0, 0, 7, 0, 0, 9)}),  # doc
    ("crop { cropAmounts { borderAmounts { startEdgeSize: 1 endEdgeSize: 2 } borderAmounts { endEdgeSize: 3 } } }", [X],
     "crop", [(2, 6, 5, 7)], {"crop_height": (1, 2), "crop_width": (0, 3)}),
    ("crop { offset: [2, 1] }", [X, (2, 1, 5, 6)], "crop", [(2, 6, 5, 6)],
     {"crop_height": (2, 1), "crop_width": (1, 3)}),
    ("upsample { scalingFactor: [2, 3] }", [X], "upsample_nearest_neighbor", [(2, 6, 16, 30)],
     {"scale_factor_height": 2, "scale_factor_width": 3}),
    ("upsample { scalingFactor: [2, 2] mode: BILINEAR linearUpsampleMode: ALIGN_CORNERS_TRUE }", [X],
     "upsample_bilinear", [(2, 6, 16, 20)], {"align_corners": True}),
    ("upsample { fractionalScalingFactor: [1.5, 0.5] mode: BILINEAR }", [X], "upsample_bilinear", [(2, 6, 12, 5)],
     {"align_corners": False}),
    ("resizeBilinear { targetSize: [513, 7] mode { samplingMethod: UPSAMPLE_MODE } }", [X], "resize_bilinear",
     [(2, 6, 513, 7)], {"target_size_height": 513, "target_size_width": 7, "sampling_mode": "DEFAULT"}),
    ("cropResize { targetSize: [14, 15] normalizedCoordinates: true spatialScale: 0.5 }",
     [(1, 2, 3, 40, 50), (9, 1, 4, 1, 1)], "crop_resize", [(9, 2, 3, 14, 15)],
     {"target_height": 14, "box_coordinate_mode": "CORNERS_HEIGHT_FIRST", "sampling_mode": "STRICT_ALIGN_CORNERS"}),
    ("cropResize { targetSize: [14, 15] }", [(1, 2, 3, 40, 50), (9, 1, 5, 1, 1)], "crop_resize", [(9, 1, 3, 14, 15)],
     {}),
    ("reorganizeData { mode: SPACE_TO_DEPTH blockSize: 2 }", [X], "space_to_depth", [(2, 24, 4, 5)], {"block_size": 2}),
    ("reorganizeData { mode: DEPTH_TO_SPACE blockSize: 2 }", [(8, 1, 2)], "depth_to_space", [(2, 2, 4)], {}),  # doc
    ("reorganizeData { mode: PIXEL_SHUFFLE blockSize: 2 }", [(8, 1, 2)], "pixel_shuffle", [(2, 2, 4)],
     {"upscale_factor": 2}),  # doc
    # activations and unary functions
    ("activation { ReLU {} }", [X], "relu", [X], {}),
    ("activation { linear { alpha: 2 beta: -1 } }", [X], "linear_activation", [X], {"alpha": 2.0, "beta": -1.0}),
    ("activation { leakyReLU { alpha: 0.5 } }", [X], "leaky_relu", [X], {"alpha": 0.5}),
    ("activation { thresholdedReLU { alpha: 1 } }", [X], "thresholded_relu", [X], {"alpha": 1.0}),
    ("activation { PReLU {} }", [X], "prelu", [X], {}),
    ("activation { tanh {} }", [X], "tanh", [X], {}),
    ("activation { scaledTanh { alpha: 2 beta: 3 } }", [X], "scaled_tanh", [X], {"alpha": 2.0, "beta": 3.0}),
    ("activation { sigmoid {} }", [X], "sigmoid", [X], {}),
    ("activation { sigmoidHard { alpha: 0.25 beta: 0.5 } }", [X], "sigmoid_hard", [X], {"alpha": 0.25, "beta": 0.5}),
    ("activation { ELU { alpha: 1 } }", [X], "elu", [X], {"alpha": 1.0}),
    ("activation { softsign {} }", [X], "softsign", [X], {}),
    ("activation { softplus {} }", [X], "softplus", [X], {}),
    ("activation { parametricSoftplus {} }", [X], "softplus_parametric", [X], {}),
    ("unary { type: SQRT }", [X], "sqrt", [X], {}),
    ("unary { type: RSQRT epsilon: 0.5 }", [X], "rsqrt", [X], {"epsilon": 0.5}),
    ("unary { type: INVERSE }", [X], "inverse", [X], {"epsilon": 1e-6}),
    ("unary { type: POWER alpha: 2 scale: 3 shift: 1 }", [X], "pow", [X], {"y": 2.0, "scale": 3.0, "shift": 1.0}),
    ("unary { type: EXP }", [X], "exp", [X], {}),
    ("unary { type: LOG }", [X], "log", [X], {}),
    ("unary { type: ABS }", [X], "abs", [X], {}),
    ("unary { type: THRESHOLD alpha: 0.5 }", [X], "threshold", [X], {"alpha": 0.5}),
    *((f"{kind} {{}}", [X], mil, [X], {}) for kind, mil in [
        ("copy", "identity"), ("ceil", "ceil"), ("floor", "floor"), ("sign", "sign"), ("round", "round"),
        ("exp2", "exp2"), ("sin", "sin"), ("cos", "cos"), ("tan", "tan"), ("asin", "asin"), ("acos", "acos"),
        ("atan", "atan"), ("sinh", "sinh"), ("cosh", "cosh"), ("tanh", "tanh"), ("asinh", "asinh"), ("acosh", "acosh"),
        ("atanh", "atanh"), ("erf", "erf"), ("logicalNot", "logical_not")]),
    ("clip { minVal: -1 maxVal: 6 }", [X], "clip", [X], {"alpha": -1.0, "beta": 6.0}),
    ("clampedReLU { alpha: 0.5 beta: 6 }", [X], "clamped_relu", [X], {"alpha": 0.5, "beta": 6.0}),
    ("gelu { mode: TANH_APPROXIMATION }", [X], "gelu", [X], {"mode": "TANH_APPROXIMATION"}),
    # arithmetic
    ("add {}", [X, (2, 6, 1, 1)], "add", [X], {}),
    ("add { alpha: 1.5 }", [X], "add", [X], {"y": 1.5}),
    ("add {}", [X, X, (1, 6, 1, 1)], "add", [X], {}),
    ("multiply { alpha: 2 }", [X], "mul", [X], {"y": 2.0}),
    ("multiply {}", [(2, 1, 8, 10), X], "mul", [X], {}),
    ("average {}", [X, X], "average", [X], {}),
    ("max {}", [X, X], "maximum", [X], {}),
    ("min {}", [X, (2, 6, 1, 1)], "minimum", [X], {}),
    ("dot { cosineSimilarity: true }", [(2, 9, 1, 1), (2, 9, 1, 1)], "dot", [(2, 1, 1, 1)],
     {"cosine_similarity": True}),
    ("scale { shapeScale: 6 hasBias: true shapeBias: [6, 8, 10] }", [X], "mul", [X], {}),
    ("bias { shape: [1, 8, 10] }", [X], "add", [X], {}),
    *((f"{kind} {{}}", [(4, 1, 5), (3, 1)], mil, [(4, 3, 5)], {}) for kind, mil in [
        ("logicalOr", "logical_or"), ("logicalXor", "logical_xor"), ("logicalAnd", "logical_and"),
        ("modBroadcastable", "mod"), ("minBroadcastable", "minimum"), ("maxBroadcastable", "maximum"),
        ("addBroadcastable", "add"), ("powBroadcastable", "pow"), ("divideBroadcastable", "real_div"),
        ("floorDivBroadcastable", "floor_div"), ("multiplyBroadcastable", "mul"), ("subtractBroadcastable", "sub"),
        ("equal", "equal"), ("notEqual", "not_equal"), ("lessThan", "less"), ("lessEqual", "less_equal"),
        ("greaterThan", "greater"), ("greaterEqual", "greater_equal")]),
    ("greaterThan { alpha: 0.5 }", [X], "greater", [X], {"y": 0.5}),
    ("whereBroadcastable {}", [(1, 5), (4, 1, 5), (3, 1)], "select", [(4, 3, 5)], {}),
    # normalization, reduction, order
    ("batchnorm { channels: 6 epsilon: 0.5 }", [X], "batch_norm", [X], {"epsilon": 0.5}),
    ("batchnorm { channels: 6 computeMeanVar: true instanceNormalization: true }", [X], "instance_norm", [X],
     {"epsilon": 1e-5}),
    ("batchnorm { channels: 6 computeMeanVar: true }", [X], "batch_norm", [X], {"mean": None, "variance": None}),
    ("mvn { acrossChannels: true }", [X], "layer_norm", [X], {"axes": (-3, -2, -1), "epsilon": 1e-6}),
    ("mvn { normalizeVariance: true }", [X], "instance_norm", [X], {}),
    ("l2normalize { epsilon: 0.5 }", [X], "l2_norm", [X], {"epsilon": 0.5}),
    ("lrn { alpha: 1 beta: 0.75 localSize: 5 k: 2 }", [X], "local_response_norm", [X],
     {"size": 5, "alpha": 1.0, "beta": 0.75, "k": 2.0}),
    ("layerNormalization { normalizedShape: [8, 10] eps: 0.5 }", [X], "layer_norm", [X],
     {"axes": (-2, -1), "epsilon": 0.5}),
    ("softmax {}", [X], "softmax", [X], {"axis": -3}),
    ("softmaxND { axis: 1 }", [X], "softmax", [X], {"axis": 1}),
    ("reduce { mode: SUM axis: CHW }", [X], "reduce_sum", [(2, 1, 1, 1)], {"axes": (-3, -2, -1), "keep_dims": True}),
    ("reduce { mode: AVG axis: HW }", [X], "reduce_mean", [(2, 6, 1, 1)], {"axes": (-2, -1)}),
    ("reduce { mode: PROD axis: C }", [X], "reduce_prod", [(2, 1, 8, 10)], {}),
    ("reduce { mode: LOGSUM axis: H }", [X], "reduce_log_sum", [(2, 6, 1, 10)], {}),
    ("reduce { mode: SUMSQUARE axis: W }", [X], "reduce_sum_square", [(2, 6, 8, 1)], {}),
    ("reduce { mode: L1 axis: W }", [X], "reduce_l1_norm", [(2, 6, 8, 1)], {}),
    ("reduce { mode: L2 axis: W }", [X], "reduce_l2_norm", [(2, 6, 8, 1)], {}),
    ("reduce { mode: MAX axis: W }", [X], "reduce_max", [(2, 6, 8, 1)], {}),
    ("reduce { mode: MIN axis: W }", [X], "reduce_min", [(2, 6, 8, 1)], {}),
    ("reduce { mode: ARGMAX axis: C }", [X], "reduce_argmax", [(2, 1, 8, 10)], {"axis": -3}),
    *((f"{kind} {{ axes: [0, -1] keepDims: true }}", [X], mil, [(1, 6, 8, 1)], {"axes": (0, -1), "keep_dims": True})
      for kind, mil in [
        ("reduceL1", "reduce_l1_norm"), ("reduceL2", "reduce_l2_norm"), ("reduceMax", "reduce_max"),
        ("reduceMin", "reduce_min"), ("reduceSum", "reduce_sum"), ("reduceProd", "reduce_prod"),
        ("reduceMean", "reduce_mean"), ("reduceLogSum", "reduce_log_sum"),
        ("reduceSumSquare", "reduce_sum_square"), ("reduceLogSumExp", "reduce_log_sum_exp")]),
    ("reduceMax { axes: [1, 2] }", [X], "reduce_max", [(2, 10)], {"keep_dims": False}),
    ("reduceSum { reduceAll: true }", [X], "reduce_sum", [(1,)], {"axes": None}),
    ("argMax { axis: -2 }", [(45, 34, 10, 5)], "reduce_argmax", [(45, 34, 1, 5)], {"axis": -2, "keep_dims": True}),
    ("argMax { axis: -2 removeDim: true }", [(45, 34, 10, 5)], "reduce_argmax", [(45, 34, 5)], {"keep_dims": False}),
    ("argMin { axis: 0 removeDim: true }", [(5,)], "reduce_argmin", [(1,)], {}),  # doc
    ("topK { axis: 1 K: 7 useBottomK: true }", [(45, 34, 10, 5)], "topk", [(45, 7, 10, 5), (45, 7, 10, 5)],
     {"k": 7, "axis": 1, "ascending": True}),
    ("argSort { axis: 1 descending: true }", [(2, 3)], "argsort", [(2, 3)], {"axis": 1, "ascending": False}),
    ("cumSum { axis: -1 excludeFinalSum: true reverse: true }", [(2, 3)], "cumsum", [(2, 3)],
     {"axis": -1, "exclusive": True, "reverse": True}),
    ("reverse { reverseDim: [true, false, true, false] }", [X], "reverse", [X], {"axes": (0, 2)}),
    ("reverseSeq { batchAxis: 0 sequenceAxis: 1 }", [(4, 7), (4,)], "reverse_sequence", [(4, 7)],
     {"seq_axis": 1, "batch_axis": 0}),
    ("matrixBandPart { numLower: 1 numUpper: -1 }", [(5, 5)], "band_part", [(5, 5)], {"lower": 1, "upper": -1}),
    ("lowerTriangular { k: 1 }", [(5, 5)], "band_part", [(5, 5)], {"lower": -1, "upper": 1}),
    ("lowerTriangular { k: -2 }", [(5, 5)], "band_part", [(5, 5)], {"k": -2, "lower": None, "upper": None}),
    ("upperTriangular { k: -1 }", [(5, 5)], "band_part", [(5, 5)], {"lower": 1, "upper": -1}),
    ("getShape {}", [X], "shape", [(4,)], {}),
    # matrices and recurrence
    ("innerProduct { inputChannels: 5 outputChannels: 3 hasBias: true }", [(5,)], "linear", [(3,)], {}),
    ("innerProduct { inputChannels: 5 outputChannels: 3 }", [(4, 7, 5)], "linear", [(4, 7, 3)], {"bias": None}),
    ("innerProduct { inputChannels: 20 outputChannels: 3 }", [(2, 5, 2, 2)], "linear", [(2, 3, 1, 1)], {}),
    ("innerProduct { inputChannels: 20 outputChannels: 3 }", [(7, 2, 5, 2, 2)], "linear", [(7, 2, 3, 1, 1)], {}),
    ("batchedMatmul { transposeB: true }", [(4, 1, 5, 6), (3, 7, 6)], "matmul", [(4, 3, 5, 7)],
     {"transpose_x": False, "transpose_y": True}),
    ("batchedMatmul {}", [(6,), (6, 2)], "matmul", [(1, 2)], {}),
    ("batchedMatmul {}", [(5, 6), (6,)], "matmul", [(5, 1)], {}),
    ("batchedMatmul { weightMatrixFirstDimension: 6 weightMatrixSecondDimension: 2 hasBias: true }", [(4, 5, 6)],
     "matmul", [(4, 5, 2)], {}),
    ("embedding { inputDim: 100 outputChannels: 16 }", [(7, 1, 1, 1)], "gather", [(7, 16, 1, 1)], {"axis": 0}),
    ("embeddingND { vocabSize: 100 embeddingSize: 16 }", [(7, 3, 1)], "gather", [(7, 3, 16)], {"axis": 0}),
    ("simpleRecurrent { inputVectorSize: 5 outputVectorSize: 4 activation { ReLU {} } sequenceOutput: true }",
     [(9, 2, 5, 1, 1)], "rnn", [(9, 2, 4, 1, 1), (1, 2, 4, 1, 1)],
     {"direction": "forward", "output_sequence": True, "activation": "relu"}),
    ("gru { inputVectorSize: 5 outputVectorSize: 4 activations { sigmoidHard {} } activations { tanh {} }"
     " reverseInput: true }", [(9, 2, 5, 1, 1), (1, 2, 4, 1, 1)], "gru", [(1, 2, 4, 1, 1), (1, 2, 4, 1, 1)],
     {"direction": "reverse", "output_sequence": False, "recurrent_activation": "sigmoid_hard", "activation": "tanh"}),
    ("uniDirectionalLSTM { inputVectorSize: 5 outputVectorSize: 4 params { sequenceOutput: true } }",
     [(9, 2, 5, 1, 1), (1, 2, 4, 1, 1), (1, 2, 4, 1, 1)], "lstm",
     [(9, 2, 4, 1, 1), (1, 2, 4, 1, 1), (1, 2, 4, 1, 1)],
     {"direction": "forward", "recurrent_activation": "sigmoid", "cell_activation": "tanh", "clip": 50.0}),
    ("biDirectionalLSTM { inputVectorSize: 5 outputVectorSize: 4 }", [(9, 2, 5, 1, 1)], "lstm",
     [(1, 2, 8, 1, 1), *[(1, 2, 4, 1, 1)] * 4], {"direction": "bidirectional", "output_sequence": False}),
    # arrangement
    ("reshape { targetShape: [6, 2, 5] }", [(1, 1, 60, 1, 1)], "reshape", [(1, 1, 6, 2, 5)], {}),
    ("reshape { targetShape: [75, 3, 1, 1] }", [(1, 1, 225, 1, 1)], "reshape", [(75, 1, 3, 1, 1)],
     {"shape": (75, 1, 3, 1, 1)}),
    ("reshapeStatic { targetShape: [3, -1, 2] }", [(6, 5)], "reshape", [(3, 5, 2)], {"shape": (3, -1, 2)}),
    ("rankPreservingReshape { targetShape: [25, 0, -1] }", [(10, 3, 5)], "reshape", [(25, 3, 2)], {}),  # doc
    ("reshapeLike {}", [(6, 5), (3, 10)], "reshape_like", [(3, 10)], {}),
    ("flatten { mode: CHANNEL_LAST }", [X], "reshape", [(2, 480, 1, 1)], {"shape": (2, 480, 1, 1)}),
    ("flattenTo2D { axis: -1 }", [(3,)], "flatten2d", [(1, 3)], {"axis": -1}),  # doc
    ("flattenTo2D { axis: 1 }", [(3,)], "flatten2d", [(3, 1)], {}),  # doc
    ("flattenTo2D { axis: -2 }", [(5, 5, 3)], "flatten2d", [(5, 15)], {}),  # doc
    ("permute { axis: [3, 1, 2, 0] }", [(7, 2, 3, 4, 5)], "transpose", [(5, 2, 3, 4, 7)],
     {"perm": (4, 1, 2, 3, 0)}),  # doc
    ("permute {}", [(7, 2, 3, 4, 5)], "transpose", [(7, 2, 3, 4, 5)], {}),
    ("transpose { axes: [3, 1, 2, 0] }", [(6, 7, 8, 9)], "transpose", [(9, 7, 8, 6)], {"perm": (3, 1, 2, 0)}),  # doc
    ("concat {}", [X, (2, 3, 8, 10)], "concat", [(2, 9, 8, 10)], {"axis": -3}),
    ("concat { sequenceConcat: true }", [(3, 2, 6, 1, 1), (4, 2, 6, 1, 1)], "concat", [(7, 2, 6, 1, 1)], {"axis": -5}),
    ("concatND { axis: -1 interleave: true }", [(4, 5), (4, 6)], "concat", [(4, 11)],
     {"axis": -1, "interleave": True}),
    ("stack { axis: -2 }", [(2, 4, 2)] * 5, "stack", [(2, 4, 5, 2)], {"axis": -2}),  # doc
    ("split { nOutputs: 3 }", [X], "split", [(2, 2, 8, 10)] * 3, {"num_splits": 3, "axis": -3}),
    ("splitND { axis: -3 splitSizes: [3, 2] }", [(5, 3, 4)], "split", [(3, 3, 4), (2, 3, 4)],
     {"split_sizes": (3, 2), "axis": -3}),  # doc
    ("splitND { axis: 1 numSplits: 2 }", [(5, 4)], "split", [(5, 2), (5, 2)], {"num_splits": 2}),
    ("sequenceRepeat { nRepetitions: 4 }", [(2, 1, 3, 1, 1)], "tile", [(8, 1, 3, 1, 1)], {"reps": (4, 1, 1, 1, 1)}),
    ("tile { reps: [1, 2, 6] }", [(2, 4, 2)], "tile", [(2, 8, 12)], {"reps": (1, 2, 6)}),  # doc
    ("tile { reps: 6 }", [(2, 4, 2)], "tile", [(2, 4, 12)], {}),  # doc
    ("broadcastToLike {}", [(5, 1), (4, 5, 3)], "tile", [(4, 5, 3)], {"reps": (4, 1, 3)}),
    ("broadcastToStatic { targetShape: [4, 5, 3] }", [(5, 1)], "tile", [(4, 5, 3)], {"reps": (4, 1, 3)}),
    ("squeeze { axes: [0, -1] }", [(1, 10, 5, 1)], "squeeze", [(10, 5)], {"axes": (0, -1)}),  # doc
    ("squeeze { axes: 0 }", [(1,)], "squeeze", [(1,)], {}),  # doc
    ("squeeze { squeezeAll: true }", [(1, 10, 1, 5)], "squeeze", [(10, 5)], {"axes": None}),
    ("expandDims { axes: [0, 2] }", [(10, 5)], "expand_dims", [(1, 10, 1, 5)], {"axes": (0, 2)}),  # doc
    ("expandDims { axes: [-2, -1] }", [(10, 5)], "expand_dims", [(10, 5, 1, 1)], {}),  # doc
    ("slice { startIndex: 1 endIndex: -1 stride: 2 axis: HEIGHT_AXIS }", [X], "slice_by_index", [(2, 6, 3, 10)],
     {"begin": (0, 0, 1, 0), "end": (0, 0, -1, 0), "stride": (1, 1, 2, 1), "end_mask": (True, True, False, True)}),
    ("slice { startIndex: -3 stride: 1 axis: CHANNEL_AXIS }", [X], "slice_by_index", [(2, 3, 8, 10)],
     {"end_mask": (True,) * 4}),
    ("sliceStatic { beginIds: [1, 2, 3] beginMasks: [true, false, true] endIds: [3, -3, 2] endMasks: [false, true,"
     " true] strides: [2, 2, 2] }", [(5, 5, 5)], "slice_by_index", [(2, 2, 3)], {"begin": (1, 2, 3)}),  # doc
    ("sliceStatic { beginIds: [1, 2, 3] beginMasks: [true, false, true] endIds: [3, -3, 2] endMasks: [false, true,"
     " true] strides: [2, 2, 2] squeezeMasks: [false, true, false] }", [(5, 5, 5)], "slice_by_index", [(2, 3)],
     {"squeeze_mask": (False, True, False)}),  # doc
    ("sliceStatic { beginIds: -1 beginMasks: false endIds: 0 endMasks: true strides: -2 }", [(6,)], "slice_by_index",
     [(3,)], {}),
    ("sliceBySize { size: 2 axis: 1 }", [(2, 3, 4), (1,)], "slice_by_size", [(2, 2, 4)], {"size": (2, 2, 4)}),
    ("slidingWindows { axis: 1 windowSize: 4 step: 3 }", [(2, 11, 5)], "sliding_windows", [(2, 3, 4, 5)],
     {"axis": 1, "size": 4, "stride": 3}),
    # picking and making
    ("gather { axis: 1 }", [(2, 3, 5), (6, 8)], "gather", [(2, 6, 8, 5)], {"axis": 1}),  # doc
    ("gatherND {}", [(5, 3, 2, 5), (2, 7, 3, 2)], "gather_nd", [(2, 7, 3, 2, 5)], {}),  # doc
    ("gatherND {}", [(3, 3, 3, 4, 7), (3, 5)], "gather_nd", [(3,)], {}),  # doc
    ("gatherAlongAxis { axis: 1 }", [(4, 4, 7), (4, 5, 7)], "gather_along_axis", [(4, 5, 7)], {"axis": 1}),  # doc
    ("scatter { axis: -2 mode: SCATTER_ADD }", [(4, 4, 3), (6,), (4, 6, 3)], "scatter", [(4, 4, 3)],
     {"axis": -2, "mode": "add"}),  # doc
    ("scatterND { mode: SCATTER_MAX }", [(3, 2), (4, 2), (4,)], "scatter_nd", [(3, 2)], {"mode": "max"}),  # doc
    ("scatterAlongAxis { axis: -2 }", [(2, 5, 6), (2, 2, 6), (2, 2, 6)], "scatter_along_axis", [(2, 5, 6)],
     {"mode": "update"}),  # doc
    ("oneHot { oneHotVectorSize: 32 axis: 1 onValue: 1 }", [(10, 23)], "one_hot", [(10, 32, 23)],
     {"one_hot_vector_size": 32, "on_value": 1.0, "off_value": 0.0}),  # doc
    ("NonMaximumSuppression { iouThreshold: 0.5 scoreThreshold: 0.25 maxBoxes: 10 perClassSuppression: true }",
     [(1, 100, 4), (1, 100, 80)], "non_maximum_suppression", [(1, 10, 4), (1, 10, 80), (1, 10), (1,)],
     {"iou_threshold": 0.5, "score_threshold": 0.25, "max_boxes": 10, "per_class_suppression": True}),
    ("fillLike { value: 2 }", [X], "fill_like", [X], {"value": 2.0}),
    ("fillStatic { value: 2 targetShape: [3, 4] }", [], "fill", [(3, 4)], {"shape": (3, 4), "value": 2.0}),
    ("randomNormalLike { mean: 1 stdDev: 2 seed: 7 }", [X], "random_normal", [X],
     {"mean": 1.0, "stddev": 2.0, "seed": 7}),
    ("randomNormalStatic { outputShape: [3, 4] }", [], "random_normal", [(3, 4)], {"shape": (3, 4)}),
    ("randomUniformLike { minVal: -1 maxVal: 1 }", [X], "random_uniform", [X], {"low": -1.0, "high": 1.0}),
    ("randomUniformStatic { outputShape: [3, 4] }", [], "random_uniform", [(3, 4)], {}),
    ("randomBernoulliLike { prob: 0.5 }", [X], "random_bernoulli", [X], {"prob": 0.5}),
    ("randomBernoulliStatic { outputShape: [3, 4] }", [], "random_bernoulli", [(3, 4)], {}),
    ("categoricalDistribution { numSamples: 5 isLogits: true }", [(2, 3)], "random_categorical", [(2, 5)],
     {"mode": "logits", "size": 5}),
    ("rangeStatic { startValue: 1 endValue: 10 stepSizeValue: 2 }", [], "range_1d", [(5,)],
     {"start": 1.0, "end": 10.0, "step": 2.0}),
]  # fmt: skip

# Kinds whose shape depends on the numbers of an input that the file does not hold: what is known is still told.
COMPUTED: list[tuple[str, Shapes, str, list[tuple[int | None, ...] | None]]] = [
    ("reshapeDynamic {}", [(6, 5), (3,)], "reshape", [(None, None, None)]),
    ("broadcastToDynamic {}", [(1, 5), (3,)], "tile", [(None, None, None)]),
    ("fillDynamic { value: 1 }", [(2,)], "fill", [(None, None)]),
    ("randomNormalDynamic {}", [(2,)], "random_normal", [(None, None)]),
    ("randomUniformDynamic {}", [(2,)], "random_uniform", [(None, None)]),
    ("randomBernoulliDynamic {}", [(2,)], "random_bernoulli", [(None, None)]),
    ("rangeDynamic { stepSizeValue: 1 }", [(1,)], "range_1d", [(None,)]),
    ("whereNonZero {}", [(4, 5, 6)], "non_zero", [(None, 3)]),
    ("tile {}", [(2, 4), (2,)], "tile", [(None, None)]),
    ("topK { axis: 0 }", [(9, 4), (1,)], "topk", [(None, 4), (None, 4)]),
    ("oneHot { axis: -1 }", [(7,), (1,)], "one_hot", [(7, None)]),
    ("NonMaximumSuppression {}", [(1, 9, 4), (1, 9, 2), (1,), (1,), (1,)], "non_maximum_suppression",
     [(1, None, 4), (1, None, 2), (1, None), (1,)]),
    ("sliceDynamic { endIds: [0, 0, 0] beginMasks: [true, false, true] endMasks: [true, true, true] strides: [2, 1, 1]"
     " squeezeMasks: [false, false, true] }", [(5, 6, 7), (3,)], "slice_by_index", [(3, None)]),
    ("constantPad {}", [(5, 6), (4,)], "pad", [None]),
    ("custom { className: 'Mine' }", [X], "custom", [None]),
]  # fmt: skip

# Not lowered to one operation on its own: constants (test_neural_network_graph) and control flow.
ELSEWHERE = {"loadConstant", "loadConstantND", "branch", "loop", "loopBreak", "loopContinue"}


def kind_of(params: str) -> str:
    return params.split()[0]


@pytest.mark.parametrize(("params", "inputs", "mil", "expected", "arguments"), CASES)
def test_a_layer_becomes_one_operation_with_exact_shapes(
    params: str, inputs: Shapes, mil: str, expected: Shapes, arguments: dict[str, Any]
) -> None:
    operation, _, warnings = lower_layer(params, inputs, len(expected))
    assert (operation.type, operation.layer, operation.name) == (mil, kind_of(params), "l0")
    assert shapes(operation) == expected
    assert warnings == ()
    assert {value.tensor.dtype for value in operation.outputs} == {"fp16"}
    for name, wanted in arguments.items():
        bound = operation.input(name)
        if wanted is None:
            assert bound is None, name
        else:
            assert bound is not None, name
            assert bound.const is not None, name
            found = bound.const.values()
            assert found == (wanted if isinstance(wanted, tuple) else (pytest.approx(wanted),)), name


@pytest.mark.parametrize(("params", "inputs", "mil", "expected"), COMPUTED)
def test_what_the_model_computes_is_unknown_and_nothing_else(
    params: str, inputs: Shapes, mil: str, expected: list[tuple[int | None, ...] | None]
) -> None:
    operation, _, warnings = lower_layer(params, inputs, len(expected))
    assert (operation.type, shapes(operation)) == (mil, expected)
    assert len(warnings) == (expected == [None])


def test_every_kind_of_the_format_is_lowered_and_tried_here() -> None:
    kinds = {field.name for field in proto.descriptor("NeuralNetworkLayer").oneofs_by_name["layer"].fields}
    assert len(kinds) == 158
    assert set(LOWERINGS) | set(OWN) == kinds
    assert {kind_of(case[0]) for case in [*CASES, *COMPUTED]} | ELSEWHERE == kinds


# Operations that MIL does not have, and arguments it does not have: what an old layer can do and MIL's cannot.
BEYOND_MIL_TYPES = {"asinh", "acosh", "average", "dot", "custom"}
BEYOND_MIL_ARGUMENTS = {
    ("pow", "scale"), ("pow", "shift"), ("mul", "bias"), ("matmul", "bias"), ("crop", "reference"),
    ("band_part", "k"), ("tile", "reference"),
}  # fmt: skip


@pytest.mark.parametrize(("params", "inputs", "outputs"), [(c[0], c[1], len(c[3])) for c in [*CASES, *COMPUTED]])
def test_operations_and_arguments_are_mils(params: str, inputs: Shapes, outputs: int) -> None:
    registry = pytest.importorskip("coremltools.converters.mil.mil.ops.registry").SSAOpRegistry
    operation, _, _ = lower_layer(params, inputs, outputs)
    versions = registry.core_ops.get(operation.type)
    if operation.type in BEYOND_MIL_TYPES:
        assert versions is None
        return
    known = {name for version in versions.values() for name in version.input_spec.input_types}
    foreign = {(operation.type, name) for name in operation.inputs if name not in known}
    assert foreign <= BEYOND_MIL_ARGUMENTS


@pytest.mark.parametrize(
    ("params", "inputs", "argument", "shape"),
    [
        ("convolution { outputChannels: 8 kernelChannels: 3 nGroups: 2 kernelSize: [5, 7] valid {} }",
         [(1, 6, 9, 9)], "weight", (8, 3, 5, 7)),
        ("convolution { outputChannels: 8 kernelChannels: 6 nGroups: 2 isDeconvolution: true valid {} }",
         [(1, 6, 9, 9)], "weight", (6, 4, 3, 3)),
        ("convolution { outputChannels: 8 kernelChannels: 6 hasBias: true valid {} }", [(1, 6, 9, 9)], "bias", (8,)),
        ("innerProduct { inputChannels: 5 outputChannels: 3 }", [(5,)], "weight", (3, 5)),
        ("embeddingND { vocabSize: 100 embeddingSize: 16 }", [(7, 1)], "x", (100, 16)),
        ("batchedMatmul { weightMatrixFirstDimension: 6 weightMatrixSecondDimension: 2 }", [(5, 6)], "y", (6, 2)),
        ("activation { PReLU {} }", [X], "alpha", (6,)),
        ("scale { shapeScale: 6 }", [X], "y", (6, 1, 1)),
        ("uniDirectionalLSTM { inputVectorSize: 5 outputVectorSize: 4 }", [(9, 2, 5, 1, 1)], "weight_ih", (16, 5)),
        ("gru { inputVectorSize: 5 outputVectorSize: 4 hasBiasVectors: true }", [(9, 2, 5, 1, 1)], "bias", (12,)),
    ],
)  # fmt: skip
def test_weights_are_constants_of_a_known_shape_whose_numbers_stay_in_the_file(
    params: str, inputs: Shapes, argument: str, shape: Dims
) -> None:
    operation, _, _ = lower_layer(params, inputs)
    bound = operation.input(argument)
    assert bound is not None
    assert bound.type == TensorType("fp16", shape)
    assert bound.const is not None
    with pytest.raises(Unknown, match="lies in the weights"):
        bound.const.values()


def test_several_inputs_stay_bound() -> None:
    operation, function, _ = lower_layer("concat {}", [X, X, X])
    assert operation.inputs["values"] == function.inputs
    operation, function, _ = lower_layer("add {}", [X, X, X])
    assert (operation.inputs["x"], operation.inputs["y"]) == (function.inputs[:1], function.inputs[1:])
    operation, function, _ = lower_layer("convolution { outputChannels: 4 kernelChannels: 6 valid {} }",
                                         [X, (4, 6, 3, 3)])  # fmt: skip
    assert operation.inputs["weight"] == (function.inputs[1],)
    operation, function, _ = lower_layer("biDirectionalLSTM { inputVectorSize: 5 outputVectorSize: 4 }",
                                         [(9, 2, 5, 1, 1), *[(1, 2, 4, 1, 1)] * 4], 5)  # fmt: skip
    states = [operation.inputs[name] for name in ("initial_h", "initial_c", "initial_h_back", "initial_c_back")]
    assert states == [(value,) for value in function.inputs[1:]]


def test_a_custom_layer_names_its_class() -> None:
    operation, _, warnings = lower_layer("custom { className: 'Mine' }", [X])
    assert operation.param("class_name") == "Mine"
    assert warnings == (
        "layer 0 'l0' (custom): the shape of its output is unknown: its code lies in the app, not in the model.",
    )
