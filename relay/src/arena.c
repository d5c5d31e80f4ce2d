/*
 * arena.c
 *		One arena per batch: allocate freely, free once.
 *
 * Blocks grow from 64 kB to 1 MB.  An allocation that would waste much of a
 * block gets one of its own, which is put behind the current block so that the
 * room left there is still used.
 */
#include "arena.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mem.h"

#define FIRST_BLOCK_SIZE ((size_t) 64 * 1024)
#define MAX_BLOCK_SIZE ((size_t) 1024 * 1024)
#define ALIGNMENT ((size_t) 16)

typedef struct Block
{
	struct Block *next;
	size_t size; /* usable bytes behind the header */
	size_t used;
	_Alignas(16) unsigned char data[];
} Block;

struct TideArena
{
	Block *current; /* head of the list; small allocations come from here */
	size_t next_size;
	size_t bytes;
};

static Block *
block_new(TideArena *arena, size_t size)
{
	Block *block;

	if (size > SIZE_MAX - sizeof(Block))
		tide_out_of_memory(size);
	block = tide_malloc(sizeof(Block) + size);
	block->size = size;
	block->used = 0;
	arena->bytes += sizeof(Block) + size;
	return block;
}

/* The arena itself is allocated at once with nothing in it: empty batches are common. */
TideArena *
tide_arena_new(void)
{
	TideArena *arena = tide_zalloc(sizeof(TideArena));

	arena->next_size = FIRST_BLOCK_SIZE;
	return arena;
}

static void
free_list(Block *block)
{
	while (block != NULL)
	{
		Block *next = block->next;

		free(block);
		block = next;
	}
}

void
tide_arena_free(TideArena *arena)
{
	if (arena == NULL)
		return;
	free_list(arena->current);
	free(arena);
}

void
tide_arena_reset(TideArena *arena)
{
	Block *keep = arena->current;

	arena->bytes = 0;
	arena->next_size = FIRST_BLOCK_SIZE;
	if (keep == NULL)
		return;
	free_list(keep->next);
	if (keep->size > MAX_BLOCK_SIZE)
	{
		/* One huge event must not make the relay big for ever. */
		free(keep);
		arena->current = NULL;
		return;
	}
	keep->next = NULL;
	keep->used = 0;
	arena->bytes = sizeof(Block) + keep->size;
}

static void *
alloc_alone(TideArena *arena, size_t size)
{
	Block *block = block_new(arena, size);

	block->used = size;
	if (arena->current == NULL)
	{
		block->next = NULL;
		arena->current = block;
	}
	else
	{
		block->next = arena->current->next;
		arena->current->next = block;
	}
	return block->data;
}

void *
tide_arena_alloc(TideArena *arena, size_t size)
{
	Block *block = arena->current;
	void *p;

	if (size > SIZE_MAX - ALIGNMENT)
		tide_out_of_memory(size);
	size = (size + ALIGNMENT - 1) & ~(ALIGNMENT - 1);

	if (block == NULL || block->size - block->used < size)
	{
		if (size > arena->next_size / 4)
			return alloc_alone(arena, size);
		block = block_new(arena, arena->next_size);
		block->next = arena->current;
		arena->current = block;
		if (arena->next_size < MAX_BLOCK_SIZE)
			arena->next_size *= 2;
	}
	p = block->data + block->used;
	block->used += size;
	return p;
}

void *
tide_arena_zalloc(TideArena *arena, size_t size)
{
	void *p = tide_arena_alloc(arena, size);

	memset(p, 0, size);
	return p;
}

char *
tide_arena_memdup(TideArena *arena, const void *data, size_t len)
{
	char *copy;

	if (len == SIZE_MAX)
		tide_out_of_memory(len);
	copy = tide_arena_alloc(arena, len + 1);
	if (len > 0)
		memcpy(copy, data, len);
	copy[len] = '\0';
	return copy;
}

char *
tide_arena_strdup(TideArena *arena, const char *s)
{
	return tide_arena_memdup(arena, s, strlen(s));
}

char *
tide_arena_printf(TideArena *arena, const char *fmt, ...)
{
	va_list args;
	int len;
	char *text;

	va_start(args, fmt);
	len = vsnprintf(NULL, 0, fmt, args);
	va_end(args);
	if (len < 0)
		tide_out_of_memory(strlen(fmt));

	text = tide_arena_alloc(arena, (size_t) len + 1);
	va_start(args, fmt);
	vsnprintf(text, (size_t) len + 1, fmt, args);
	va_end(args);
	return text;
}

size_t
tide_arena_bytes(const TideArena *arena)
{
	return arena->bytes;
}
