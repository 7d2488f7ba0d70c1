#import <Foundation/Foundation.h>
#include "Surfaces.h"

/* What a step of a script does besides being a step: "sleep", "allocate" (MB), "hang", "crash" (a signal's number),
   "exit", "raise" ({"name", "reason"}), "swallowed" (raised and caught inside), "fail" (the text of an NSError); and
   "rescued": the client itself catches what its own direct evaluation raises. */
bool StandinPerform(NSDictionary *step, NSError **error);
NSError *StandinError(NSInteger code, NSString *text);

@interface _ANEIOSurfaceObject : NSObject { IOSurfaceRef _surface; }
+ (id)objectWithDescription:(NSDictionary *)description;
- (IOSurfaceRef)ioSurface;
@end

@interface _ANEModel : NSObject { NSString *_key; NSDictionary *_step; uint64_t _identifier; }
+ (id)modelAtURL:(NSURL *)url key:(NSString *)key;
+ (id)modelWithStep:(NSDictionary *)step;
- (NSString *)key;
- (uint64_t)string_id;
- (NSDictionary *)modelAttributes;
- (NSDictionary *)step;
- (id)program;
@end

@interface _ANERequest : NSObject { NSArray *_inputs, *_outputs, *_inputIndices, *_outputIndices; id _completion; }
+ (id)requestWithStep:(NSDictionary *)step;
- (NSArray *)inputArray;
- (NSArray *)outputArray;
- (NSArray *)inputIndexArray;
- (NSArray *)outputIndexArray;
- (id)completionHandler;
@end

@interface _ANEProgramForEvaluation : NSObject
#ifndef STANDIN_EMPTY
- (bool)processRequest:(_ANERequest *)request model:(_ANEModel *)model qos:(unsigned int)qos qIndex:(unsigned long long)index modelStringID:(unsigned long long)identifier options:(NSDictionary *)options returnValue:(unsigned int *)value error:(NSError **)error;
#endif
@end

@interface _ANEVirtualClient : NSObject
#ifndef STANDIN_EMPTY
- (bool)evaluateWithModel:(_ANEModel *)model options:(NSDictionary *)options request:(_ANERequest *)request qos:(unsigned int)qos error:(NSError **)error;
#endif
@end

#ifdef STANDIN_CHANGED
typedef double standin_qos;
#else
typedef unsigned int standin_qos;
#endif

@interface _ANEClient : NSObject
+ (id)sharedConnection;
- (bool)evaluateStep:(NSDictionary *)step error:(NSError **)error;
- (bool)loadStep:(NSDictionary *)step error:(NSError **)error;
@end
