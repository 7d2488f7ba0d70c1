/* Feature values. A prediction checks each as strictly as a script describes it and, where $STANDIN_RECEIVED names a
   file, writes there what it was given, one JSON object a line. */
#import "CoreML.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static size_t width_of(NSInteger type) { return (type & 0xff) / 8; }
static bool known(NSInteger type) { return type == 65552 || type == 65568 || type == 65600 || type == 131104 || type == 131080; }

@interface MLMultiArray : NSObject { NSArray *_shape; NSInteger _type; size_t _count; void *_data; }
- (NSArray *)shape; - (NSInteger)dataType; - (void *)dataPointer; - (size_t)count;
@end
@implementation MLMultiArray
- (id)initWithShape:(NSArray *)shape dataType:(NSInteger)type error:(NSError **)error {
  if (!(self = [super init])) return nil;
  NSUInteger i;
  _count = 1;
  for (i = 0; i < [shape count]; i++) _count *= [[shape objectAtIndex:i] integerValue];
  if (!known(type)) { if (error) *error = StandinError(0, @"unsupported data type"); [self release]; return nil; }
  _shape = [shape copy]; _type = type; _data = malloc(_count * width_of(type) + 1);
  memset(_data, 0xff, _count * width_of(type));
  return self;
}
- (void)dealloc { free(_data); [_shape release]; [super dealloc]; }
- (NSArray *)shape { return _shape; }
- (NSInteger)dataType { return _type; }
- (size_t)count { return _count; }
- (void *)dataPointer { return _data; }
- (NSArray *)strides {
  NSMutableArray *made = [NSMutableArray array];
  NSInteger step = 1, i;
  for (i = [_shape count] - 1; i >= 0; i--) { [made insertObject:[NSNumber numberWithInteger:step] atIndex:0]; step *= [[_shape objectAtIndex:i] integerValue]; }
  return made;
}
@end

@interface MLSequence : NSObject { NSArray *_values; NSInteger _type; }
- (NSArray *)values; - (NSInteger)type;
@end
@implementation MLSequence
+ (id)make:(NSArray *)values type:(NSInteger)type { MLSequence *s = [[[self alloc] init] autorelease]; s->_values = [values copy]; s->_type = type; return s; }
+ (id)sequenceWithInt64Array:(NSArray *)values { return [self make:values type:1]; }
+ (id)sequenceWithStringArray:(NSArray *)values { return [self make:values type:3]; }
- (void)dealloc { [_values release]; [super dealloc]; }
- (NSArray *)values { return _values; }
- (NSInteger)type { return _type; }
@end

@interface MLFeatureValue : NSObject { @public id _value; NSInteger _type; CVPixelBufferRef _buffer; }
@end
@implementation MLFeatureValue
+ (id)make:(id)value type:(NSInteger)type { MLFeatureValue *f = [[[self alloc] init] autorelease]; f->_value = [value retain]; f->_type = type; return f; }
+ (id)featureValueWithInt64:(int64_t)v { return [self make:[NSNumber numberWithLongLong:v] type:1]; }
+ (id)featureValueWithDouble:(double)v { return [self make:[NSNumber numberWithDouble:v] type:2]; }
+ (id)featureValueWithString:(NSString *)v { return [self make:v type:3]; }
+ (id)featureValueWithMultiArray:(MLMultiArray *)v { return [self make:v type:5]; }
+ (id)featureValueWithSequence:(MLSequence *)v { return [self make:v type:7]; }
+ (id)featureValueWithDictionary:(NSDictionary *)v error:(NSError **)error {
  NSEnumerator *all = [v objectEnumerator];
  id item;
  while ((item = [all nextObject])) if (![item isKindOfClass:[NSNumber class]]) { if (error) *error = StandinError(0, @"values must be numbers"); return nil; }
  return [self make:v type:6];
}
+ (id)featureValueWithPixelBuffer:(CVPixelBufferRef)b { MLFeatureValue *f = [self make:nil type:4]; CVPixelBufferRetain(b); f->_buffer = b; return f; }
- (void)dealloc { [_value release]; CVPixelBufferRelease(_buffer); [super dealloc]; }
@end

static double half(uint16_t h) {
  int e = h >> 10 & 31, m = h & 1023;
  double v = e == 0 ? ldexp(m, -24) : e == 31 ? (m ? NAN : INFINITY) : ldexp(m + 1024, e - 25);
  return h >> 15 ? -v : v;
}
static double element(MLMultiArray *a, size_t i) {
  void *d = [a dataPointer];
  switch ([a dataType]) {
    case 65552: return half(((uint16_t *)d)[i]);
    case 65568: return ((float *)d)[i];
    case 65600: return ((double *)d)[i];
    case 131104: return ((int32_t *)d)[i];
    default: return ((int8_t *)d)[i];
  }
}

id StandinCheck(NSDictionary *described, id given, NSDictionary **summary) {
  NSInteger type = [[described objectForKey:@"type"] integerValue];
  MLFeatureValue *value = given;
  if (!value) return @"is required but not specified";
  if (value->_type != type) return [NSString stringWithFormat:@"is of type %ld, expected %ld", (long)value->_type, (long)type];
  NSMutableDictionary *said = [NSMutableDictionary dictionary];
  *summary = said;
  if (type <= 3) [said setObject:value->_value forKey:@"value"];
  if (type == 6) {
    NSMutableDictionary *plain = [NSMutableDictionary dictionary];
    NSEnumerator *keys = [value->_value keyEnumerator];
    id key;
    while ((key = [keys nextObject])) {
      if ([key isKindOfClass:[NSString class]] != ([[described objectForKey:@"keyType"] integerValue] == 3)) return @"has keys of the wrong type";
      [plain setObject:[value->_value objectForKey:key] forKey:[key description]];
    }
    [said setObject:plain forKey:@"value"];
  }
  if (type == 7) {
    if ([(MLSequence *)value->_value type] != [[[described objectForKey:@"element"] objectForKey:@"type"] integerValue]) return @"is a sequence of the wrong type";
    [said setObject:[value->_value values] forKey:@"value"];
  }
  if (type == 5) {
    MLMultiArray *a = value->_value;
    size_t i, all = [a count];
    double sum = 0;
    NSArray *choices = [described objectForKey:@"choices"], *ranges = [described objectForKey:@"ranges"];
    if (choices && ![choices containsObject:[a shape]]) return @"has a shape that is not among the choices";
    if (!choices && !ranges && ![[a shape] isEqual:[described objectForKey:@"shape"]]) return @"has the wrong shape";
    if ([a dataType] != [[described objectForKey:@"dataType"] integerValue]) return @"has the wrong data type";
    NSMutableArray *first = [NSMutableArray array];
    for (i = 0; i < all; i++) {
      double v = element(a, i);
      if (isnan(v)) return @"was not filled";
      sum += v;
      if (i < 8) [first addObject:[NSNumber numberWithDouble:v]];
    }
    [said setObject:[a shape] forKey:@"shape"];
    [said setObject:[NSNumber numberWithInteger:[a dataType]] forKey:@"dataType"];
    [said setObject:first forKey:@"first"];
    [said setObject:[NSNumber numberWithDouble:sum] forKey:@"sum"];
  }
  if (type == 4) {
    CVPixelBufferRef b = value->_buffer;
    const char *f = [[described objectForKey:@"format"] UTF8String];
    uint32_t expected = (uint32_t)(unsigned char)f[0] << 24 | (unsigned char)f[1] << 16 | (unsigned char)f[2] << 8 | (unsigned char)f[3];
    if (!b || CVPixelBufferGetPixelFormatType(b) != expected) return @"has the wrong pixel format";
    if ((NSInteger)CVPixelBufferGetWidth(b) != [[described objectForKey:@"width"] integerValue] || (NSInteger)CVPixelBufferGetHeight(b) != [[described objectForKey:@"height"] integerValue]) return @"has the wrong size";
    if (StandinBufferIsLocked(b)) return @"was left locked";
    size_t i, used = 0, size = StandinBufferSize(b);
    unsigned char *bytes = StandinBufferBytes(b);
    for (i = 0; i < size; i++) used += bytes[i] != 0;
    NSMutableArray *first = [NSMutableArray array];
    for (i = 0; i < 16 && i < size; i++) [first addObject:[NSNumber numberWithInt:bytes[i]]];
    [said setObject:first forKey:@"first"];
    [said setObject:[NSNumber numberWithUnsignedInteger:used] forKey:@"not_zero"];
  }
  return nil;
}

void StandinReceived(NSString *name, NSDictionary *summary) {
  const char *path = getenv("STANDIN_RECEIVED");
  if (!path) return;
  NSDictionary *line = [NSDictionary dictionaryWithObject:summary forKey:name];
  NSData *data = [NSJSONSerialization dataWithJSONObject:line options:0 error:NULL];
  FILE *file = fopen(path, "a");
  size_t i;
  for (i = 0; i < [data length]; i++) if (((const char *)[data bytes])[i] != '\n') fputc(((const char *)[data bytes])[i], file);
  fputc('\n', file);
  fclose(file);
}
