/* MLComputePlan and the segmentation analytics. The words of a script:
   "plan": {"functions": {name: [operation]}} | {"layers": [layer]} | {"stages": [[name, plan]]}, or what goes wrong
   operation: {"op", "outputs", "preferred", "supported", "cost", "blocks": [[operation]]}
   layer: {"name", "type", "outputs", "preferred", "supported"}
   "analytics": {key: {...}} as Core ML answers it, where the configuration asks for profiling */
#import "CoreML.h"
#import <pthread.h>
#include <stdlib.h>

@interface MLCPUComputeDevice : NSObject @end
@implementation MLCPUComputeDevice @end
@interface MLGPUComputeDevice : NSObject @end
@implementation MLGPUComputeDevice @end
@interface MLNeuralEngineComputeDevice : NSObject @end
@implementation MLNeuralEngineComputeDevice @end

static id device(NSString *name) {
  Class kind = [name isEqual:@"ANE"] ? [MLNeuralEngineComputeDevice class] : [name isEqual:@"GPU"] ? [MLGPUComputeDevice class] : [MLCPUComputeDevice class];
  return [[[kind alloc] init] autorelease];
}

/* One class answers for every part of a model's structure: it is a script that knows its own children. */
@interface StandinNode : NSObject { @public id _d; }
@end
static id node(Class kind, id script) { StandinNode *n = [[[kind alloc] init] autorelease]; n->_d = [script retain]; return n; }
static NSArray *nodes(Class kind, NSArray *scripts) {
  NSMutableArray *made = [NSMutableArray array];
  NSUInteger i;
  for (i = 0; i < [scripts count]; i++) [made addObject:node(kind, [scripts objectAtIndex:i])];
  return made;
}
@implementation StandinNode
- (void)dealloc { [_d release]; [super dealloc]; }
@end

@interface MLModelStructureProgramNamedValueType : StandinNode @end
@implementation MLModelStructureProgramNamedValueType
- (NSString *)name { return _d; }
@end
@interface MLModelStructureProgramBlock : StandinNode @end
@interface MLModelStructureProgramOperation : StandinNode @end
@implementation MLModelStructureProgramOperation
- (NSString *)operatorName { return [_d objectForKey:@"op"]; }
- (NSArray *)outputs { return nodes([MLModelStructureProgramNamedValueType class], [_d objectForKey:@"outputs"]); }
- (NSArray *)blocks { return nodes([MLModelStructureProgramBlock class], [_d objectForKey:@"blocks"]); }
@end
@implementation MLModelStructureProgramBlock
- (NSArray *)operations { return nodes([MLModelStructureProgramOperation class], _d); }
@end
@interface MLModelStructureProgramFunction : StandinNode @end
@implementation MLModelStructureProgramFunction
- (id)block { return node([MLModelStructureProgramBlock class], _d); }
@end
@interface MLModelStructureProgram : StandinNode @end
@implementation MLModelStructureProgram
- (NSDictionary *)functions {
  NSMutableDictionary *made = [NSMutableDictionary dictionary];
  NSEnumerator *names = [_d keyEnumerator];
  NSString *name;
  while ((name = [names nextObject])) [made setObject:node([MLModelStructureProgramFunction class], [_d objectForKey:name]) forKey:name];
  return made;
}
@end
@interface MLModelStructureNeuralNetworkLayer : StandinNode @end
@implementation MLModelStructureNeuralNetworkLayer
- (NSString *)name { return [_d objectForKey:@"name"]; }
- (NSString *)type { return [_d objectForKey:@"type"]; }
- (NSArray *)outputNames { return [_d objectForKey:@"outputs"]; }
@end
@interface MLModelStructureNeuralNetwork : StandinNode @end
@implementation MLModelStructureNeuralNetwork
- (NSArray *)layers { return nodes([MLModelStructureNeuralNetworkLayer class], _d); }
@end
@interface MLModelStructure : StandinNode @end
@interface MLModelStructurePipeline : StandinNode @end
@implementation MLModelStructurePipeline
- (NSArray *)subModelNames { NSMutableArray *m = [NSMutableArray array]; NSUInteger i; for (i = 0; i < [_d count]; i++) [m addObject:[[_d objectAtIndex:i] objectAtIndex:0]]; return m; }
- (NSArray *)subModels { NSMutableArray *m = [NSMutableArray array]; NSUInteger i; for (i = 0; i < [_d count]; i++) [m addObject:node([MLModelStructure class], [[_d objectAtIndex:i] objectAtIndex:1])]; return m; }
@end
@implementation MLModelStructure
- (id)part:(NSString *)name as:(Class)kind { id found = [_d objectForKey:name]; return found ? node(kind, found) : nil; }
- (id)program { return [self part:@"functions" as:[MLModelStructureProgram class]]; }
- (id)neuralNetwork { return [self part:@"layers" as:[MLModelStructureNeuralNetwork class]]; }
- (id)pipeline { return [self part:@"stages" as:[MLModelStructurePipeline class]]; }
@end

@interface MLComputePlanDeviceUsage : StandinNode @end
@implementation MLComputePlanDeviceUsage
- (NSArray *)supportedComputeDevices { NSMutableArray *m = [NSMutableArray array]; NSArray *s = [_d objectForKey:@"supported"]; NSUInteger i; for (i = 0; i < [s count]; i++) [m addObject:device([s objectAtIndex:i])]; return m; }
- (id)preferredComputeDevice { return device([_d objectForKey:@"preferred"]); }
@end
@interface MLComputePlanCost : StandinNode @end
@implementation MLComputePlanCost
- (double)weight { return [_d doubleValue]; }
@end

/* the layout of a block, because GCC has no syntax for them */
struct block { void *isa; int flags, reserved; void (*invoke)(struct block *, id, id); void *descriptor; };
struct asked { struct block *block; NSURL *url; };

@interface MLComputePlan : StandinNode @end
static void *answer(void *argument) {
  struct asked *asked = argument;
#ifndef __OBJC2__
  GSRegisterCurrentThread();
#endif
  NSAutoreleasePool *pool = [[NSAutoreleasePool alloc] init];
  NSDictionary *plan = [StandinScript(asked->url) objectForKey:@"plan"];
  NSError *error = nil;
  if (!plan) asked->block->invoke(asked->block, nil, StandinError(0, @"no plan for this model"));
  else if (!StandinPerform(plan, &error)) asked->block->invoke(asked->block, nil, error);
  else asked->block->invoke(asked->block, node([MLComputePlan class], plan), nil);
  [asked->url release];
  free(asked);
  [pool release];
#ifndef __OBJC2__
  GSUnregisterCurrentThread();
#endif
  return NULL;
}
@implementation MLComputePlan
+ (void)loadContentsOfURL:(NSURL *)url configuration:(id)configuration completionHandler:(id)handler {
  struct asked *asked = malloc(sizeof *asked);
  asked->block = (struct block *)(void *)handler;
  asked->url = [url retain];
  pthread_t thread;
  pthread_create(&thread, NULL, answer, asked);
  pthread_detach(thread);
}
- (id)modelStructure { return node([MLModelStructure class], _d); }
- (id)usage:(StandinNode *)of { return [of->_d objectForKey:@"supported"] ? node([MLComputePlanDeviceUsage class], of->_d) : nil; }
- (id)computeDeviceUsageForMLProgramOperation:(StandinNode *)operation { return [self usage:operation]; }
- (id)computeDeviceUsageForNeuralNetworkLayer:(StandinNode *)layer { return [self usage:layer]; }
- (id)estimatedCostOfMLProgramOperation:(StandinNode *)operation { id cost = [operation->_d objectForKey:@"cost"]; return cost ? node([MLComputePlanCost class], cost) : nil; }
@end

@interface MLModel : NSObject
- (NSDictionary *)script;
- (NSInteger)profilingOptions;
@end
@interface StandinProgramLibrary : StandinNode @end
@implementation StandinProgramLibrary
- (id)programLibrary { return self; }
- (NSDictionary *)segmentationAnalyticsAndReturnError:(NSError **)error { return _d; }
@end
@implementation MLModel (Analytics)
- (id)program {
  NSDictionary *said = [[self script] objectForKey:@"analytics"];
  return said && [self profilingOptions] ? node([StandinProgramLibrary class], said) : nil;
}
@end
