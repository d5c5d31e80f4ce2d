/*
 * arena.h
 *		One arena per batch: allocate freely, free once.
 *
 * Owns: blocks of memory with one lifetime.  Does not own: anything that must
 * outlive a batch.  Not thread-safe: an arena belongs to one thread at a time.
 * Running out of memory ends the process (see tide_arena_alloc): the relay
 * keeps no state, so a clean death and a restart lose nothing.
 */
#ifndef TIDE_ARENA_H
#define TIDE_ARENA_H

#include <stddef.h>

typedef struct TideArena TideArena;

extern TideArena *tide_arena_new(void);
extern void tide_arena_free(TideArena *arena);
extern void tide_arena_reset(TideArena *arena);				  /* frees all but one block */
extern void *tide_arena_alloc(TideArena *arena, size_t size); /* 16-byte aligned, not zeroed */
extern void *tide_arena_zalloc(TideArena *arena, size_t size);
extern char *tide_arena_memdup(TideArena *arena, const void *data, size_t len); /* adds a NUL */
extern char *tide_arena_strdup(TideArena *arena, const char *s);
extern char *
tide_arena_printf(TideArena *arena, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
extern size_t tide_arena_bytes(const TideArena *arena); /* allocated from the system */

#endif /* TIDE_ARENA_H */
