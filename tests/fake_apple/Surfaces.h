#include <stddef.h>
#include <stdint.h>
#include <stdbool.h>

typedef struct standin_surface *IOSurfaceRef;
IOSurfaceRef StandinSurfaceCreate(size_t width, size_t height, size_t bytesPerElement, size_t bytesPerRow, size_t planes);
void StandinSurfaceRelease(IOSurfaceRef surface);
void *IOSurfaceGetBaseAddress(IOSurfaceRef surface);
size_t IOSurfaceGetAllocSize(IOSurfaceRef surface);

typedef struct standin_buffer *CVPixelBufferRef;
int CVPixelBufferCreate(void *allocator, size_t width, size_t height, uint32_t format, void *attributes, CVPixelBufferRef *out);
void CVPixelBufferRetain(CVPixelBufferRef buffer);
void CVPixelBufferRelease(CVPixelBufferRef buffer);
uint32_t CVPixelBufferGetPixelFormatType(CVPixelBufferRef buffer);
size_t CVPixelBufferGetWidth(CVPixelBufferRef buffer);
size_t CVPixelBufferGetHeight(CVPixelBufferRef buffer);
bool StandinBufferIsLocked(CVPixelBufferRef buffer);
size_t StandinBufferSize(CVPixelBufferRef buffer);
void *StandinBufferBytes(CVPixelBufferRef buffer);
