/* Models. The words of a script:
   "inputs", "outputs", "states": {name: {"type": 1..8, "optional", "shape", "dataType", "choices", "ranges", "width",
       "height", "format", "keyType", "element": {...}}}
   "compile", "load": what goes wrong there (see StandinPerform)
   "steps": [{"ane": key or text or null, ...} | {"cpu": name, ...}], each with "thread": "foreign", "times", "caught"
   "functions": {name: {"inputs", "outputs", "steps"}} instead, for a model with several
   "plan", "analytics", "analytics_mil": see Plan.m */
#import "CoreML.h"
#import <pthread.h>
#include <stdlib.h>

static NSData *scriptData(NSString *path) {
  NSString *inside = [path stringByAppendingPathComponent:@"standin.json"];
  NSString *beside = [path stringByAppendingString:@".standin.json"];
  NSData *data = [NSData dataWithContentsOfFile:inside];
  if (!data) data = [NSData dataWithContentsOfFile:beside];
  if (!data && getenv("STANDIN_SCRIPT")) data = [NSData dataWithContentsOfFile:[NSString stringWithUTF8String:getenv("STANDIN_SCRIPT")]];
  return data;
}
NSDictionary *StandinScript(NSURL *url) {
  NSData *data = scriptData([url path]);
  return data ? [NSJSONSerialization JSONObjectWithData:data options:0 error:NULL] : nil;
}

@implementation MLModelConfiguration
- (id)init { if ((self = [super init])) computeUnits = 2; return self; }
- (void)dealloc { [functionName release]; [super dealloc]; }
- (void)setComputeUnits:(NSInteger)units { computeUnits = units; }
- (void)setProfilingOptions:(NSInteger)options { profilingOptions = options; }
- (void)setFunctionName:(NSString *)name { functionName = [name copy]; }
@end

/* ---- Descriptions: one object answers for the feature and for its constraint ---- */
@implementation MLFeatureDescription
- (id)initWithName:(NSString *)name script:(NSDictionary *)script { if ((self = [super init])) { _name = [name copy]; _d = [script retain]; } return self; }
- (void)dealloc { [_name release]; [_d release]; [super dealloc]; }
- (NSDictionary *)script { return _d; }
- (NSString *)name { return _name; }
- (NSInteger)type { return [[_d objectForKey:@"type"] integerValue]; }
- (BOOL)isOptional { return [[_d objectForKey:@"optional"] boolValue]; }
- (id)when:(NSInteger)type { return [self type] == type ? self : nil; }
- (id)multiArrayConstraint { return [self when:5]; }
- (id)imageConstraint { return [self when:4]; }
- (id)dictionaryConstraint { return [self when:6]; }
- (id)sequenceConstraint { return [self when:7]; }
- (id)stateConstraint { return [self when:8]; }
- (NSArray *)shape { id s = [_d objectForKey:@"shape"]; return s ? s : [NSArray array]; }
- (NSArray *)bufferShape { return [self shape]; }
- (NSInteger)dataType { return [[_d objectForKey:@"dataType"] integerValue]; }
- (id)shapeConstraint { return self; }
- (NSArray *)enumeratedShapes { id s = [_d objectForKey:@"choices"]; return s ? s : [NSArray array]; }
- (NSArray *)sizeRangeForDimension {
  NSMutableArray *made = [NSMutableArray array];
  NSArray *ranges = [_d objectForKey:@"ranges"];
  NSUInteger i;
  for (i = 0; i < [ranges count]; i++) {
    NSArray *r = [ranges objectAtIndex:i];
    NSInteger least = [[r objectAtIndex:0] integerValue], most = [[r objectAtIndex:1] integerValue];
    [made addObject:[NSValue valueWithRange:NSMakeRange(least, most < 0 ? NSIntegerMax : most - least + 1)]];
  }
  return made;
}
- (NSInteger)pixelsWide { return [[_d objectForKey:@"width"] integerValue]; }
- (NSInteger)pixelsHigh { return [[_d objectForKey:@"height"] integerValue]; }
- (unsigned int)pixelFormatType {
  const char *t = [[_d objectForKey:@"format"] UTF8String];
  return (unsigned char)t[0] << 24 | (unsigned char)t[1] << 16 | (unsigned char)t[2] << 8 | (unsigned char)t[3];
}
- (NSInteger)keyType { return [[_d objectForKey:@"keyType"] integerValue]; }
- (id)valueDescription { return [[[MLFeatureDescription alloc] initWithName:_name script:[_d objectForKey:@"element"]] autorelease]; }
@end

@interface MLModelDescription : NSObject { NSDictionary *_d; }
@end
@implementation MLModelDescription
- (id)initWithScript:(NSDictionary *)script { if ((self = [super init])) _d = [script retain]; return self; }
- (void)dealloc { [_d release]; [super dealloc]; }
- (NSDictionary *)described:(NSString *)part {
  NSMutableDictionary *made = [NSMutableDictionary dictionary];
  NSDictionary *given = [_d objectForKey:part];
  NSEnumerator *names = [given keyEnumerator];
  NSString *name;
  while ((name = [names nextObject]))
    [made setObject:[[[MLFeatureDescription alloc] initWithName:name script:[given objectForKey:name]] autorelease] forKey:name];
  return made;
}
- (NSDictionary *)inputDescriptionsByName { return [self described:@"inputs"]; }
- (NSDictionary *)outputDescriptionsByName { return [self described:@"outputs"]; }
- (NSDictionary *)stateDescriptionsByName { return [self described:@"states"]; }
@end

@interface MLPredictionOptions : NSObject
@end
@implementation MLPredictionOptions
@end

@interface MLState : NSObject
@end
@implementation MLState
@end

@interface MLDictionaryFeatureProvider : NSObject { NSDictionary *_d; }
- (id)initWithDictionary:(NSDictionary *)d error:(NSError **)error;
- (NSDictionary *)dictionary;
@end
@implementation MLDictionaryFeatureProvider
- (id)initWithDictionary:(NSDictionary *)d error:(NSError **)error { if ((self = [super init])) _d = [d copy]; return self; }
- (void)dealloc { [_d release]; [super dealloc]; }
- (NSDictionary *)dictionary { return _d; }
@end

/* ---- Running a script ---- */
struct job { NSDictionary *step; NSError **error; bool ok; };

static bool perform(NSDictionary *step, NSError **error) {
  if (![step objectForKey:@"ane"]) return StandinPerform(step, error);
  NSUInteger i, times = [step objectForKey:@"times"] ? [[step objectForKey:@"times"] integerValue] : 1;
  for (i = 0; i < times; i++)
    if (![[_ANEClient sharedConnection] evaluateStep:step error:error]) return false;
  return true;
}
static bool guarded(NSDictionary *step, NSError **error) {
  if (![[step objectForKey:@"caught"] boolValue]) return perform(step, error);
  @try { return perform(step, error); }
  @catch (NSException *caught) { return true; }
}
static void *foreign(void *argument) {
  struct job *job = argument;
#ifndef __OBJC2__
  GSRegisterCurrentThread();
#endif
  NSAutoreleasePool *pool = [[NSAutoreleasePool alloc] init];
  NSError *error = nil;
  job->ok = guarded(job->step, &error);
  if (job->error) *job->error = [error retain];
  [pool release];
#ifndef __OBJC2__
  GSUnregisterCurrentThread();
#endif
  return NULL;
}

@interface MLModel : NSObject { NSURL *_url; NSDictionary *_script; MLModelConfiguration *_configuration; }
- (NSDictionary *)script;
- (NSInteger)profilingOptions;
@end
@implementation MLModel
+ (NSURL *)compileModelAtURL:(NSURL *)url error:(NSError **)error {
  NSFileManager *files = [NSFileManager defaultManager];
  NSDictionary *script = StandinScript(url);
  if (![files fileExistsAtPath:[url path]] || !script) { if (error) *error = StandinError(3, [NSString stringWithFormat:@"Unable to read the model at %@", [url path]]); return nil; }
  if (!StandinPerform([script objectForKey:@"compile"], error)) return nil;
  NSString *name = [[[[url path] lastPathComponent] stringByDeletingPathExtension] stringByAppendingPathExtension:@"mlmodelc"];
  NSString *made = [NSTemporaryDirectory() stringByAppendingPathComponent:name];
  if (getenv("TMPDIR")) made = [[NSString stringWithUTF8String:getenv("TMPDIR")] stringByAppendingPathComponent:name];
  [files removeItemAtPath:made error:NULL];
  if (![files createDirectoryAtPath:made withIntermediateDirectories:YES attributes:nil error:error]) return nil;
  [scriptData([url path]) writeToFile:[made stringByAppendingPathComponent:@"standin.json"] atomically:NO];
  return [NSURL fileURLWithPath:made];
}
+ (id)modelWithContentsOfURL:(NSURL *)url configuration:(MLModelConfiguration *)configuration error:(NSError **)error {
  NSDictionary *script = [[url pathExtension] isEqual:@"mlmodelc"] ? StandinScript(url) : nil;
  if (!script) { if (error) *error = StandinError(0, [NSString stringWithFormat:@"%@ is no compiled model", [url path]]); return nil; }
  if (!StandinPerform([script objectForKey:@"load"], error)) return nil;
  NSDictionary *functions = [script objectForKey:@"functions"];
  if (functions) {
    NSString *name = configuration->functionName ? configuration->functionName : [script objectForKey:@"default"];
    script = [functions objectForKey:name];
    if (!script) { if (error) *error = StandinError(0, [NSString stringWithFormat:@"no function %@", name]); return nil; }
  }
  NSString *mil = [script objectForKey:@"analytics_mil"];
  if (mil && getenv("CFFIXED_USER_HOME")) {
    NSString *folder = [[NSString stringWithUTF8String:getenv("CFFIXED_USER_HOME")] stringByAppendingPathComponent:@"Library/Caches/python3/com.apple.e5rt.e5bundlecache/23F79/ABC/ABC.bundle/H13G.bundle"];
    [[NSFileManager defaultManager] createDirectoryAtPath:folder withIntermediateDirectories:YES attributes:nil error:NULL];
    [[mil dataUsingEncoding:NSUTF8StringEncoding] writeToFile:[folder stringByAppendingPathComponent:@"analytics.mil"] atomically:NO];
  }
  MLModel *m = [[[self alloc] init] autorelease];
  m->_url = [url retain]; m->_script = [script retain]; m->_configuration = [configuration retain];
  NSArray *steps = [script objectForKey:@"steps"];
  NSUInteger i;
  if (configuration->computeUnits >= 2)
    for (i = 0; i < [steps count]; i++)
      if ([[steps objectAtIndex:i] objectForKey:@"ane"]) [[_ANEClient sharedConnection] loadStep:[steps objectAtIndex:i] error:NULL];
  return m;
}
- (void)dealloc { [_url release]; [_script release]; [_configuration release]; [super dealloc]; }
- (NSDictionary *)script { return _script; }
- (NSInteger)profilingOptions { return _configuration->profilingOptions; }
- (id)modelDescription { return [[[MLModelDescription alloc] initWithScript:_script] autorelease]; }
- (id)newState { return [[MLState alloc] init]; }
- (id)predictionFromFeatures:(MLDictionaryFeatureProvider *)features usingState:(id)state options:(id)options error:(NSError **)error {
  if (![state isKindOfClass:[MLState class]]) { if (error) *error = StandinError(1, @"a state is required"); return nil; }
  StandinReceived(@"(state)", [NSDictionary dictionaryWithObject:@"fresh" forKey:@"state"]);
  return [self predict:features error:error];
}
- (id)predictionFromFeatures:(MLDictionaryFeatureProvider *)features options:(id)options error:(NSError **)error {
  if ([_script objectForKey:@"states"]) { if (error) *error = StandinError(1, @"a state is required"); return nil; }
  return [self predict:features error:error];
}
- (id)predict:(MLDictionaryFeatureProvider *)features error:(NSError **)error {
  NSDictionary *inputs = [_script objectForKey:@"inputs"];
  NSEnumerator *names = [inputs keyEnumerator];
  NSString *name;
  while ((name = [names nextObject])) {
    NSDictionary *described = [inputs objectForKey:name], *summary = nil;
    id value = [[features dictionary] objectForKey:name];
    if (!value && [[described objectForKey:@"optional"] boolValue]) continue;
    NSString *wrong = StandinCheck(described, value, &summary);
    if (wrong) { if (error) *error = StandinError(1, [NSString stringWithFormat:@"Feature %@: %@", name, wrong]); return nil; }
    StandinReceived(name, summary);
  }
  NSArray *steps = [_script objectForKey:@"steps"];
  NSUInteger i;
  for (i = 0; i < [steps count]; i++) {
    NSDictionary *step = [steps objectAtIndex:i];
    NSError *found = nil;
    struct job job = {step, &found, false};
    if ([step objectForKey:@"ane"] && _configuration->computeUnits < 2) continue;
    if ([[step objectForKey:@"thread"] isEqual:@"foreign"]) {
      pthread_t thread;
      pthread_create(&thread, NULL, foreign, &job);
      pthread_join(thread, NULL);
      [found autorelease];
    } else job.ok = guarded(step, &found);
    if (!job.ok) { if (error) *error = found; return nil; }
  }
  return [[[MLDictionaryFeatureProvider alloc] initWithDictionary:[NSDictionary dictionary] error:NULL] autorelease];
}
@end
