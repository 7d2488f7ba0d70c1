#include "Surfaces.h"
#include <stdlib.h>
#include <string.h>

/* A row is padded to 64 bytes, as the real thing pads it, so that code which ignores the row length is found out. */
struct plane { size_t width, height, row; char *base; };
struct standin_buffer { int references, locks; uint32_t format; size_t width, height, planes, bytes; struct plane plane[3]; char *base; };

static void add(CVPixelBufferRef b, size_t width, size_t height, size_t element) {
  struct plane *p = &b->plane[b->planes++];
  p->width = width; p->height = height; p->row = (width * element + 63) / 64 * 64;
  b->bytes += p->row * height;
}
static uint32_t code(const char *text) { return (uint32_t)text[0] << 24 | text[1] << 16 | text[2] << 8 | text[3]; }

int CVPixelBufferCreate(void *allocator, size_t width, size_t height, uint32_t format, void *attributes, CVPixelBufferRef *out) {
  (void)allocator; (void)attributes;
  CVPixelBufferRef b = calloc(1, sizeof *b);
  b->references = 1; b->format = format; b->width = width; b->height = height;
  if (format == code("BGRA") || format == code("RGBA") || format == 32) add(b, width, height, 4);
  else if (format == code("L008")) add(b, width, height, 1);
  else if (format == code("L00h")) add(b, width, height, 2);
  else if (format == code("L00f")) add(b, width, height, 4);
  else if (format == code("RGhA")) add(b, width, height, 8);
  else if (format == code("420v")) { add(b, width, height, 1); add(b, (width + 1) / 2, (height + 1) / 2, 2); }
  else { free(b); return -6680; }
  b->base = calloc(1, b->bytes ? b->bytes : 1);
  char *at = b->base;
  for (size_t i = 0; i < b->planes; i++) { b->plane[i].base = at; at += b->plane[i].row * b->plane[i].height; }
  *out = b;
  return 0;
}
void CVPixelBufferRetain(CVPixelBufferRef b) { if (b) b->references++; }
void CVPixelBufferRelease(CVPixelBufferRef b) { if (b && --b->references == 0) { free(b->base); free(b); } }
int CVPixelBufferLockBaseAddress(CVPixelBufferRef b, uint64_t flags) { (void)flags; b->locks++; return 0; }
int CVPixelBufferUnlockBaseAddress(CVPixelBufferRef b, uint64_t flags) { (void)flags; b->locks--; return 0; }
void *CVPixelBufferGetBaseAddress(CVPixelBufferRef b) { return b->locks && b->planes == 1 ? b->base : NULL; }
size_t CVPixelBufferGetBytesPerRow(CVPixelBufferRef b) { return b->planes == 1 ? b->plane[0].row : 0; }
size_t CVPixelBufferGetPlaneCount(CVPixelBufferRef b) { return b->planes == 1 ? 0 : b->planes; }
void *CVPixelBufferGetBaseAddressOfPlane(CVPixelBufferRef b, size_t p) { return b->locks && p < b->planes ? b->plane[p].base : NULL; }
size_t CVPixelBufferGetBytesPerRowOfPlane(CVPixelBufferRef b, size_t p) { return p < b->planes ? b->plane[p].row : 0; }
size_t CVPixelBufferGetHeightOfPlane(CVPixelBufferRef b, size_t p) { return p < b->planes ? b->plane[p].height : 0; }
uint32_t CVPixelBufferGetPixelFormatType(CVPixelBufferRef b) { return b->format; }
size_t CVPixelBufferGetWidth(CVPixelBufferRef b) { return b->width; }
size_t CVPixelBufferGetHeight(CVPixelBufferRef b) { return b->height; }
bool StandinBufferIsLocked(CVPixelBufferRef b) { return b->locks != 0; }
size_t StandinBufferSize(CVPixelBufferRef b) { return b->bytes; }
void *StandinBufferBytes(CVPixelBufferRef b) { return b->base; }
