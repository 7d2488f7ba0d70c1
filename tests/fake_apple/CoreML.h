#import "AppleNeuralEngine.h"

NSString *StandinTypeOf(id object);
NSDictionary *StandinScript(NSURL *url);
NSURL *StandinModelURL(NSURL *url);
void StandinReceived(NSString *name, NSDictionary *summary);
id StandinCheck(NSDictionary *description, id value, NSDictionary **summary);   /* nil, or what is wrong with the value */

@interface MLModelConfiguration : NSObject { @public NSInteger computeUnits, profilingOptions; NSString *functionName; }
- (void)setComputeUnits:(NSInteger)units;
- (void)setProfilingOptions:(NSInteger)options;
- (void)setFunctionName:(NSString *)name;
@end

@interface MLFeatureDescription : NSObject { NSString *_name; NSDictionary *_d; }
- (id)initWithName:(NSString *)name script:(NSDictionary *)script;
- (NSInteger)type;
@end
