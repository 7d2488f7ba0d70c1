/* The client of the Neural Engine, as far as it is hooked. Options of the build:
   STANDIN_OLD      the methods of iOS 12: no options: argument, nothing but the direct evaluation
   STANDIN_CHANGED  the client's methods take their QoS as a double: another signature under the same name
   STANDIN_EMPTY    no method of the hook table exists */
#import "AppleNeuralEngine.h"
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static unsigned long evaluations;
unsigned long standin_evaluations(void) { return __atomic_load_n(&evaluations, __ATOMIC_SEQ_CST); }

NSError *StandinError(NSInteger code, NSString *text) {
  return [NSError errorWithDomain:@"com.apple.appleneuralengine" code:code userInfo:[NSDictionary dictionaryWithObject:text forKey:NSLocalizedDescriptionKey]];
}

bool StandinPerform(NSDictionary *step, NSError **error) {
  id value;
  if ((value = [step objectForKey:@"sleep"])) usleep((useconds_t)([value doubleValue] * 1e6));
  if ((value = [step objectForKey:@"allocate"])) {
    size_t size = (size_t)[value integerValue] << 20;
    memset(malloc(size), 1, size);
    sleep(60);
  }
  if ([[step objectForKey:@"hang"] boolValue]) for (;;) pause();
  if ((value = [step objectForKey:@"crash"])) { signal([value intValue], SIG_DFL); kill(getpid(), [value intValue]); for (;;) pause(); }
  if ((value = [step objectForKey:@"exit"])) _exit([value intValue]);
  if ((value = [step objectForKey:@"swallowed"])) {
    @try { [NSException raise:@"StandinSwallowed" format:@"%@", value]; }
    @catch (NSException *caught) { }
  }
  if ((value = [step objectForKey:@"raise"]))
    [NSException raise:[value objectForKey:@"name"] format:@"%@", [value objectForKey:@"reason"]];
  if ((value = [step objectForKey:@"fail"])) { if (error) *error = StandinError(-14, value); return false; }
  return true;
}

@implementation _ANEIOSurfaceObject
+ (id)objectWithDescription:(NSDictionary *)d {
  _ANEIOSurfaceObject *o = [[[self alloc] init] autorelease];
  o->_surface = StandinSurfaceCreate([[d objectForKey:@"width"] integerValue], [[d objectForKey:@"height"] integerValue],
    [[d objectForKey:@"element"] integerValue], [[d objectForKey:@"row"] integerValue], [[d objectForKey:@"planes"] integerValue]);
  memset(IOSurfaceGetBaseAddress(o->_surface), [[d objectForKey:@"fill"] intValue], IOSurfaceGetAllocSize(o->_surface));
  return o;
}
- (void)dealloc { StandinSurfaceRelease(_surface); [super dealloc]; }
- (IOSurfaceRef)ioSurface { return _surface; }
@end

@implementation _ANEModel
+ (id)modelAtURL:(NSURL *)url key:(NSString *)key {
  _ANEModel *m = [[[self alloc] init] autorelease];
  m->_key = [key copy];
  return m;
}
+ (id)modelWithStep:(NSDictionary *)step {
  id key = [step objectForKey:@"ane"];
  if (key == [NSNull null]) key = nil;
  else if ([key isKindOfClass:[NSDictionary class]])
    key = [[[NSString alloc] initWithData:[NSJSONSerialization dataWithJSONObject:key options:0 error:NULL] encoding:NSUTF8StringEncoding] autorelease];
  _ANEModel *m = [self modelAtURL:nil key:key];
  m->_step = [step retain];
  m->_identifier = 4711;
  return m;
}
- (void)dealloc { [_key release]; [_step release]; [super dealloc]; }
- (NSString *)key { return _key; }
- (uint64_t)string_id { return _identifier; }
- (NSDictionary *)modelAttributes { return [_step objectForKey:@"attributes"]; }
- (NSDictionary *)step { return _step; }
- (id)program { return [[[_ANEProgramForEvaluation alloc] init] autorelease]; }
@end

static NSArray *objects(NSArray *descriptions) {
  NSMutableArray *made = [NSMutableArray array];
  NSUInteger i;
  for (i = 0; i < [descriptions count]; i++) [made addObject:[_ANEIOSurfaceObject objectWithDescription:[descriptions objectAtIndex:i]]];
  return made;
}
static NSArray *symbols(NSArray *descriptions) {
  NSMutableArray *made = [NSMutableArray array];
  NSUInteger i;
  for (i = 0; i < [descriptions count]; i++) {
    id symbol = [[descriptions objectAtIndex:i] objectForKey:@"symbol"];
    [made addObject:symbol ? symbol : [NSNumber numberWithUnsignedInteger:i]];
  }
  return made;
}
@implementation _ANERequest
+ (id)requestWithStep:(NSDictionary *)step {
  _ANERequest *r = [[[self alloc] init] autorelease];
  NSArray *inputs = [step objectForKey:@"surfaces_in"], *outputs = [step objectForKey:@"surfaces_out"];
  r->_inputs = [objects(inputs) retain]; r->_outputs = [objects(outputs) retain];
  r->_inputIndices = [symbols(inputs) retain]; r->_outputIndices = [symbols(outputs) retain];
  r->_completion = [[step objectForKey:@"asynchronous"] boolValue] ? [step retain] : nil;
  return r;
}
- (void)dealloc { [_inputs release]; [_outputs release]; [_inputIndices release]; [_outputIndices release]; [_completion release]; [super dealloc]; }
- (NSArray *)inputArray { return _inputs; }
- (NSArray *)outputArray { return _outputs; }
- (NSArray *)inputIndexArray { return _inputIndices; }
- (NSArray *)outputIndexArray { return _outputIndices; }
- (id)completionHandler { return _completion; }
@end

static bool run(_ANEModel *model, NSError **error) {
  __atomic_add_fetch(&evaluations, 1, __ATOMIC_SEQ_CST);
  return StandinPerform([model step], error);
}

@implementation _ANEProgramForEvaluation
#ifndef STANDIN_EMPTY
- (bool)processRequest:(_ANERequest *)request model:(_ANEModel *)model qos:(unsigned int)qos qIndex:(unsigned long long)index modelStringID:(unsigned long long)identifier options:(NSDictionary *)options returnValue:(unsigned int *)value error:(NSError **)error {
  return run(model, error);
}
#endif
@end

@implementation _ANEVirtualClient
#ifndef STANDIN_EMPTY
- (bool)evaluateWithModel:(_ANEModel *)model options:(NSDictionary *)options request:(_ANERequest *)request qos:(unsigned int)qos error:(NSError **)error {
  return run(model, error);
}
#endif
@end

@implementation _ANEClient
+ (id)sharedConnection {
  static _ANEClient *shared;
  @synchronized (self) { if (!shared) shared = [[self alloc] init]; }
  return shared;
}

#if defined(STANDIN_EMPTY)
- (bool)evaluateStep:(NSDictionary *)step error:(NSError **)error { return run([_ANEModel modelWithStep:step], error); }
- (bool)loadStep:(NSDictionary *)step error:(NSError **)error { return true; }
#elif defined(STANDIN_OLD)
- (bool)doEvaluateDirectWithModel:(_ANEModel *)model request:(_ANERequest *)request qos:(unsigned int)qos error:(NSError **)error {
  return run(model, error);
}
- (bool)evaluateStep:(NSDictionary *)step error:(NSError **)error {
  return [self doEvaluateDirectWithModel:[_ANEModel modelWithStep:step] request:[_ANERequest requestWithStep:step] qos:33 error:error];
}
- (bool)loadStep:(NSDictionary *)step error:(NSError **)error { return true; }
#else
- (bool)doEvaluateDirectWithModel:(_ANEModel *)model options:(NSDictionary *)options request:(_ANERequest *)request qos:(standin_qos)qos error:(NSError **)error {
  unsigned int value = 0;
  return [[model program] processRequest:request model:model qos:(unsigned int)qos qIndex:2 modelStringID:[model string_id] options:options returnValue:&value error:error];
}
- (bool)evaluateWithModel:(_ANEModel *)model options:(NSDictionary *)options request:(_ANERequest *)request qos:(standin_qos)qos error:(NSError **)error {
  if (![[[model step] objectForKey:@"rescued"] boolValue])
    return [self doEvaluateDirectWithModel:model options:options request:request qos:qos error:error];
  @try { return [self doEvaluateDirectWithModel:model options:options request:request qos:qos error:error]; }
  @catch (NSException *caught) { return true; }
}
- (bool)evaluateRealTimeWithModel:(_ANEModel *)model options:(NSDictionary *)options request:(_ANERequest *)request error:(NSError **)error {
  return [self doEvaluateDirectWithModel:model options:options request:request qos:64 error:error];
}
- (bool)doLoadModel:(_ANEModel *)model options:(NSDictionary *)options qos:(unsigned int)qos error:(NSError **)error {
  usleep(1000);
  return true;
}
- (bool)loadModel:(_ANEModel *)model options:(NSDictionary *)options qos:(unsigned int)qos error:(NSError **)error {
  return [self doLoadModel:model options:options qos:qos error:error];
}
- (bool)loadStep:(NSDictionary *)step error:(NSError **)error {
  return [self loadModel:[_ANEModel modelWithStep:step] options:nil qos:33 error:error];
}
/* "via": which door Core ML uses */
- (bool)evaluateStep:(NSDictionary *)step error:(NSError **)error {
  NSString *via = [step objectForKey:@"via"];
  _ANEModel *model = [_ANEModel modelWithStep:step];
  _ANERequest *request = [_ANERequest requestWithStep:step];
  if ([via isEqual:@"unseen"]) return run(model, error);
  if ([via isEqual:@"direct"]) return [self doEvaluateDirectWithModel:model options:nil request:request qos:33 error:error];
  if ([via isEqual:@"realtime"]) return [self evaluateRealTimeWithModel:model options:nil request:request error:error];
  if ([via isEqual:@"program"]) return [[model program] processRequest:request model:model qos:21 qIndex:0 modelStringID:1 options:nil returnValue:NULL error:error];
  if ([via isEqual:@"virtual"]) return [[[[_ANEVirtualClient alloc] init] autorelease] evaluateWithModel:model options:nil request:request qos:9 error:error];
  return [self evaluateWithModel:model options:nil request:request qos:33 error:error];
}
#endif
@end
