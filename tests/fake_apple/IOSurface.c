#include "Surfaces.h"
#include <stdlib.h>

struct standin_surface { uint32_t id; size_t width, height, element, row, planes, bytes; int locks; void *base; };
static uint32_t last;

IOSurfaceRef StandinSurfaceCreate(size_t width, size_t height, size_t element, size_t row, size_t planes) {
  IOSurfaceRef s = calloc(1, sizeof *s);
  s->id = __atomic_add_fetch(&last, 1, __ATOMIC_SEQ_CST);
  s->width = width; s->height = height; s->element = element;
  s->row = row ? row : width * element;
  s->planes = planes;
  s->bytes = s->row * height * (planes ? planes : 1);
  s->base = calloc(1, s->bytes ? s->bytes : 1);
  return s;
}
void StandinSurfaceRelease(IOSurfaceRef s) { if (s) { free(s->base); free(s); } }
int IOSurfaceLock(IOSurfaceRef s, uint32_t options, uint32_t *seed) { (void)options; if (seed) *seed = 7; s->locks++; return 0; }
int IOSurfaceUnlock(IOSurfaceRef s, uint32_t options, uint32_t *seed) { (void)options; (void)seed; s->locks--; return 0; }
uint32_t IOSurfaceGetID(IOSurfaceRef s) { return s->id; }
void *IOSurfaceGetBaseAddress(IOSurfaceRef s) { return s->base; }
size_t IOSurfaceGetAllocSize(IOSurfaceRef s) { return s->bytes; }
size_t IOSurfaceGetWidth(IOSurfaceRef s) { return s->width; }
size_t IOSurfaceGetHeight(IOSurfaceRef s) { return s->height; }
size_t IOSurfaceGetBytesPerElement(IOSurfaceRef s) { return s->element; }
size_t IOSurfaceGetBytesPerRow(IOSurfaceRef s) { return s->row; }
uint32_t IOSurfaceGetPixelFormat(IOSurfaceRef s) { (void)s; return 0; }
size_t IOSurfaceGetPlaneCount(IOSurfaceRef s) { return s->planes; }
size_t IOSurfaceGetWidthOfPlane(IOSurfaceRef s, size_t p) { (void)p; return s->width; }
size_t IOSurfaceGetHeightOfPlane(IOSurfaceRef s, size_t p) { (void)p; return s->height; }
size_t IOSurfaceGetBytesPerElementOfPlane(IOSurfaceRef s, size_t p) { (void)p; return s->element; }
size_t IOSurfaceGetBytesPerRowOfPlane(IOSurfaceRef s, size_t p) { (void)p; return s->row; }
void *IOSurfaceGetBaseAddressOfPlane(IOSurfaceRef s, size_t p) { return (char *)s->base + p * s->row * s->height; }
