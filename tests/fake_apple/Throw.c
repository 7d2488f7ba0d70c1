/* Apple's objc_exception_throw asks a preprocessor first. GCC's and GNUstep's do not, so this library, loaded before
   everything else, stands in front of theirs. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>

typedef void *(*preprocessor)(void *);
static preprocessor current;

preprocessor objc_setExceptionPreprocessor(preprocessor fresh) {
  preprocessor previous = current;
  current = fresh;
  return previous;
}

void objc_exception_throw(void *exception) {
  static void (*real)(void *);
  if (!real) real = (void (*)(void *))dlsym(RTLD_NEXT, "objc_exception_throw");
  if (current) exception = current(exception);
  real(exception);
  abort();
}
