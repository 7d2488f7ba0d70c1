#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

static const struct { const char *name, *value; } texts[] = {
  {"machdep.cpu.brand_string", "Apple M1"},
  {"hw.model", "MacBookAir10,1"},
  {"kern.osversion", "23F79"},
  {"kern.osproductversion", "14.5"},
};

int sysctlbyname(const char *name, void *out, size_t *size, void *fresh, size_t fresh_size) {
  (void)fresh; (void)fresh_size;
  for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
    if (strcmp(name, texts[i].name)) continue;
    size_t needed = strlen(texts[i].value) + 1;
    if (out && *size < needed) { errno = ENOMEM; return -1; }
    if (out) memcpy(out, texts[i].value, needed);
    *size = needed;
    return 0;
  }
  errno = ENOENT;
  return -1;
}
