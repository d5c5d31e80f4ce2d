/*
 * mem.h
 *		Memory outside arenas: allocation that never returns NULL.
 *
 * Owns: the one way to end when memory is exhausted.  The relay keeps no
 * state, so ending at once and being restarted loses nothing, and no caller
 * has to be correct on a path that is never run.
 */
#ifndef TIDE_MEM_H
#define TIDE_MEM_H

#include <stddef.h>

/* Logs and ends the process with TIDE_EXIT_NO_MEMORY. */
extern void tide_out_of_memory(size_t wanted) __attribute__((noreturn));

/* As in the C library, but these end the process instead of failing.  free() frees. */
extern void *tide_malloc(size_t size);
extern void *tide_zalloc(size_t size);
extern void *tide_realloc(void *old, size_t size);
extern char *tide_strdup(const char *s);
extern char *tide_printf(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

#endif /* TIDE_MEM_H */
