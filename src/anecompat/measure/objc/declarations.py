"""Every framework, class, selector and C function that is used, with the types they are expected to have.

Public ones are Apple's documented Core ML; those of AppleNeuralEngine are private and come from public dumps of the
framework's headers (iOS 12 to 14), the interface that ANECompat linked on macOS 12, and decompilations of iOS 26.1.
Nothing here was ever compared with a real Mac by us; ``python -m anecompat.measure.selftest`` does so and lists every
difference. BOOL is written ``B``; offsets are left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

FRAMEWORKS = {
    "objc": "/usr/lib/libobjc.A.dylib",
    "System": "/usr/lib/libSystem.B.dylib",
    "Foundation": "/System/Library/Frameworks/Foundation.framework/Foundation",
    "CoreVideo": "/System/Library/Frameworks/CoreVideo.framework/CoreVideo",
    "IOSurface": "/System/Library/Frameworks/IOSurface.framework/IOSurface",
    "CoreML": "/System/Library/Frameworks/CoreML.framework/CoreML",
    "AppleNeuralEngine": "/System/Library/PrivateFrameworks/AppleNeuralEngine.framework/AppleNeuralEngine",
}
"""Loaded by path although no such files exist: the loader finds them in the shared cache."""

SELECTORS = {
    # Foundation
    "alloc": "@@:",
    "init": "@@:",
    "new": "@@:",
    "retain": "@@:",
    "release": "v@:",
    "drain": "v@:",
    "class": "#@:",
    "description": "@@:",
    "isKindOfClass:": "B@:#",
    "UTF8String": "*@:",
    "stringWithUTF8String:": "@@:*",
    "fileURLWithPath:": "@@:@",
    "path": "@@:",
    "count": "Q@:",
    "objectAtIndex:": "@@:Q",
    "objectForKey:": "@@:@",
    "allKeys": "@@:",
    "array": "@@:",
    "addObject:": "v@:@",
    "dictionary": "@@:",
    "setObject:forKey:": "v@:@@",
    "numberWithLongLong:": "@@:q",
    "numberWithDouble:": "@@:d",
    "longLongValue": "q@:",
    "doubleValue": "d@:",
    "rangeValue": "{_NSRange=QQ}@:",
    "domain": "@@:",
    "code": "q@:",
    "localizedDescription": "@@:",
    "name": "@@:",
    "reason": "@@:",
    # Core ML: model
    "compileModelAtURL:error:": "@@:@^@",
    "modelWithContentsOfURL:configuration:error:": "@@:@@^@",
    "setComputeUnits:": "v@:q",
    "setFunctionName:": "v@:@",
    "setProfilingOptions:": "v@:q",
    "modelDescription": "@@:",
    "inputDescriptionsByName": "@@:",
    "outputDescriptionsByName": "@@:",
    "stateDescriptionsByName": "@@:",
    "type": "q@:",
    "isOptional": "B@:",
    "multiArrayConstraint": "@@:",
    "imageConstraint": "@@:",
    "dictionaryConstraint": "@@:",
    "sequenceConstraint": "@@:",
    "stateConstraint": "@@:",
    "shape": "@@:",
    "dataType": "q@:",
    "shapeConstraint": "@@:",
    "enumeratedShapes": "@@:",
    "sizeRangeForDimension": "@@:",
    "pixelsWide": "q@:",
    "pixelsHigh": "q@:",
    "pixelFormatType": "I@:",
    "keyType": "q@:",
    "valueDescription": "@@:",
    "bufferShape": "@@:",
    # Core ML: values
    "initWithShape:dataType:error:": "@@:@q^@",
    "dataPointer": "^v@:",
    "strides": "@@:",
    "featureValueWithMultiArray:": "@@:@",
    "featureValueWithPixelBuffer:": "@@:^v",
    "featureValueWithInt64:": "@@:q",
    "featureValueWithDouble:": "@@:d",
    "featureValueWithString:": "@@:@",
    "featureValueWithDictionary:error:": "@@:@^@",
    "featureValueWithSequence:": "@@:@",
    "sequenceWithInt64Array:": "@@:@",
    "sequenceWithStringArray:": "@@:@",
    "initWithDictionary:error:": "@@:@^@",
    "newState": "@@:",
    "predictionFromFeatures:options:error:": "@@:@@^@",
    "predictionFromFeatures:usingState:options:error:": "@@:@@@^@",
    # Core ML: compute plan
    "loadContentsOfURL:configuration:completionHandler:": "v@:@@@",
    "modelStructure": "@@:",
    "program": "@@:",
    "neuralNetwork": "@@:",
    "pipeline": "@@:",
    "functions": "@@:",
    "block": "@@:",
    "blocks": "@@:",
    "operations": "@@:",
    "operatorName": "@@:",
    "outputs": "@@:",
    "layers": "@@:",
    "outputNames": "@@:",
    "subModelNames": "@@:",
    "subModels": "@@:",
    "computeDeviceUsageForMLProgramOperation:": "@@:@",
    "computeDeviceUsageForNeuralNetworkLayer:": "@@:@",
    "estimatedCostOfMLProgramOperation:": "@@:@",
    "supportedComputeDevices": "@@:",
    "preferredComputeDevice": "@@:",
    "weight": "d@:",
    # Core ML: segmentation analytics (private)
    "programLibrary": "@@:",
    "segmentationAnalyticsAndReturnError:": "@@:^@",
    # AppleNeuralEngine (private)
    "key": "@@:",
    "string_id": "Q@:",
    "modelAttributes": "@@:",
    "inputArray": "@@:",
    "outputArray": "@@:",
    "inputIndexArray": "@@:",
    "outputIndexArray": "@@:",
    "completionHandler": "@@:",
    "ioSurface": "^{__IOSurface=}@:",
}
"""Selector to type encoding, where every class that has it agrees."""

CLASSES = {
    "NSString": "+stringWithUTF8String: UTF8String",
    "NSURL": "+fileURLWithPath: path",
    "NSMutableArray": "+array addObject: count objectAtIndex:",
    "NSMutableDictionary": "+dictionary setObject:forKey: objectForKey: allKeys",
    "NSNumber": "+numberWithLongLong: +numberWithDouble: longLongValue doubleValue",
    "NSValue": "rangeValue",
    "NSError": "domain code localizedDescription",
    "NSException": "name reason",
    "MLModel": "+compileModelAtURL:error: +modelWithContentsOfURL:configuration:error: modelDescription newState"
    " predictionFromFeatures:options:error: predictionFromFeatures:usingState:options:error: program",
    "MLModelConfiguration": "setComputeUnits: setFunctionName: setProfilingOptions:",
    "MLModelDescription": "inputDescriptionsByName outputDescriptionsByName stateDescriptionsByName",
    "MLFeatureDescription": "type isOptional multiArrayConstraint imageConstraint dictionaryConstraint"
    " sequenceConstraint stateConstraint",
    "MLMultiArrayConstraint": "shape dataType shapeConstraint",
    "MLMultiArrayShapeConstraint": "enumeratedShapes sizeRangeForDimension",
    "MLImageConstraint": "pixelsWide pixelsHigh pixelFormatType",
    "MLDictionaryConstraint": "keyType",
    "MLSequenceConstraint": "valueDescription",
    "MLStateConstraint": "bufferShape dataType",
    "MLMultiArray": "initWithShape:dataType:error: dataPointer strides",
    "MLFeatureValue": "+featureValueWithMultiArray: +featureValueWithPixelBuffer: +featureValueWithInt64:"
    " +featureValueWithDouble: +featureValueWithString: +featureValueWithDictionary:error: +featureValueWithSequence:",
    "MLSequence": "+sequenceWithInt64Array: +sequenceWithStringArray:",
    "MLDictionaryFeatureProvider": "initWithDictionary:error:",
    "MLComputePlan": "+loadContentsOfURL:configuration:completionHandler: modelStructure"
    " computeDeviceUsageForMLProgramOperation: computeDeviceUsageForNeuralNetworkLayer:"
    " estimatedCostOfMLProgramOperation:",
    "MLComputePlanDeviceUsage": "supportedComputeDevices preferredComputeDevice",
    "MLComputePlanCost": "weight",
    "MLModelStructure": "program neuralNetwork pipeline",
    "MLModelStructureProgram": "functions",
    "MLModelStructureProgramFunction": "block",
    "MLModelStructureProgramBlock": "operations",
    "MLModelStructureProgramOperation": "operatorName outputs blocks",
    "MLModelStructureProgramNamedValueType": "name",
    "MLModelStructureNeuralNetwork": "layers",
    "MLModelStructureNeuralNetworkLayer": "name outputNames",
    "MLModelStructurePipeline": "subModelNames subModels",
    "_ANEModel": "key string_id modelAttributes program",
    "_ANERequest": "inputArray outputArray inputIndexArray outputIndexArray completionHandler",
    "_ANEIOSurfaceObject": "ioSurface",
}
"""Which class has which of them, for comparing with a real system; ``+`` marks class methods."""

LAYER_TYPE = "@@:"
"""``MLModelStructureNeuralNetworkLayer type`` is a string, unlike every other ``type`` of Core ML."""

C_FUNCTIONS = {
    "System": {"sysctlbyname": "i*^v^Q^vQ"},
    "objc": {"objc_setExceptionPreprocessor": "^v^v"},
    "CoreVideo": {
        "CVPixelBufferCreate": "i^vQQI^v^^v",
        "CVPixelBufferRelease": "v^v",
        "CVPixelBufferLockBaseAddress": "i^vQ",
        "CVPixelBufferUnlockBaseAddress": "i^vQ",
        "CVPixelBufferGetBaseAddress": "^v^v",
        "CVPixelBufferGetBytesPerRow": "Q^v",
        "CVPixelBufferGetPlaneCount": "Q^v",
        "CVPixelBufferGetBaseAddressOfPlane": "^v^vQ",
        "CVPixelBufferGetBytesPerRowOfPlane": "Q^vQ",
        "CVPixelBufferGetHeightOfPlane": "Q^vQ",
    },
    "IOSurface": {
        "IOSurfaceLock": "i^vI^I",
        "IOSurfaceUnlock": "i^vI^I",
        "IOSurfaceGetID": "I^v",
        "IOSurfaceGetBaseAddress": "^v^v",
        "IOSurfaceGetAllocSize": "Q^v",
        "IOSurfaceGetWidth": "Q^v",
        "IOSurfaceGetHeight": "Q^v",
        "IOSurfaceGetBytesPerElement": "Q^v",
        "IOSurfaceGetBytesPerRow": "Q^v",
        "IOSurfaceGetPixelFormat": "I^v",
        "IOSurfaceGetPlaneCount": "Q^v",
        "IOSurfaceGetWidthOfPlane": "Q^vQ",
        "IOSurfaceGetHeightOfPlane": "Q^vQ",
        "IOSurfaceGetBytesPerElementOfPlane": "Q^vQ",
        "IOSurfaceGetBytesPerRowOfPlane": "Q^vQ",
        "IOSurfaceGetBaseAddressOfPlane": "^v^vQ",
    },
}


class Role(StrEnum):
    """What a hooked method does."""

    EVALUATE = "evaluate"
    LOAD = "load"
    COMPILE = "compile"


@dataclass(frozen=True, slots=True)
class HookedMethod:
    """A method to listen to. The numbers say where its arguments lie, the receiver being 0 and the selector 1."""

    class_name: str
    selector: str
    encoding: str
    role: Role
    model: int | None
    request: int | None = None
    qos: int | None = None
    error: int | None = None

    @property
    def label(self) -> str:
        return f"-[{self.class_name} {self.selector}]"


def _client(selector: str, encoding: str, role: Role, **where: int) -> HookedMethod:
    return HookedMethod("_ANEClient", selector, encoding, role, 2, **where)


HOOKED_METHODS = (
    # macOS 11 to 26 (iOS 14 to 26.1): the method that ANECompat hooked
    _client(
        "doEvaluateDirectWithModel:options:request:qos:error:",
        "B@:@@@I^@",
        Role.EVALUATE,
        request=4,
        qos=5,
        error=6,
    ),
    # iOS 12 and 13: the same without options
    _client("doEvaluateDirectWithModel:request:qos:error:", "B@:@@I^@", Role.EVALUATE, request=3, qos=4, error=5),
    _client("evaluateWithModel:options:request:qos:error:", "B@:@@@I^@", Role.EVALUATE, request=4, qos=5, error=6),
    _client("evaluateRealTimeWithModel:options:request:error:", "B@:@@@^@", Role.EVALUATE, request=4, error=5),
    # seen in one probing tool only, macOS 15 and later
    _client(
        "doEvaluateWithModel:options:request:qos:completionEvent:error:",
        "B@:@@@I@^@",
        Role.EVALUATE,
        request=4,
        qos=5,
        error=7,
    ),
    # one level below the client: sees every evaluation, whoever asked for it
    HookedMethod(
        "_ANEProgramForEvaluation",
        "processRequest:model:qos:qIndex:modelStringID:options:returnValue:error:",
        "B@:@@IQQ@^I^@",
        Role.EVALUATE,
        model=3,
        request=2,
        qos=4,
        error=9,
    ),
    HookedMethod(
        "_ANEProgramForEvaluation",
        "processRequest:model:qos:qIndex:modelStringID:options:error:",
        "B@:@@IQQ@^@",
        Role.EVALUATE,
        model=3,
        request=2,
        qos=4,
        error=8,
    ),
    # the guest of a virtual machine
    HookedMethod(
        "_ANEVirtualClient",
        "evaluateWithModel:options:request:qos:error:",
        "B@:@@@I^@",
        Role.EVALUATE,
        model=2,
        request=4,
        qos=5,
        error=6,
    ),
    _client("loadModel:options:qos:error:", "B@:@@I^@", Role.LOAD, qos=4, error=5),
    _client("doLoadModel:options:qos:error:", "B@:@@I^@", Role.LOAD, qos=4, error=5),
    _client("compileModel:options:qos:error:", "B@:@@I^@", Role.COMPILE, qos=4, error=5),
)
