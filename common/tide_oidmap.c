/*
 * tide_oidmap.c
 *		From a number (an OID) to a pointer.
 *
 * Owns: the table, by open addressing, at most half full.  Does not own: what
 * the pointers point to.
 */
#include "tide_oidmap.h"

#include <stdlib.h>

#define FIRST_CAPACITY 64

/* The slot of oid, or the free one where it belongs.  There is always a free one. */
static TideOidSlot *
find(const TideOidMap *map, uint32_t oid)
{
	size_t i = (oid * UINT32_C(0x9E3779B1)) >> 7;

	for (;; i++)
	{
		TideOidSlot *slot = &map->slots[i & (map->cap - 1)];

		if (slot->value == NULL || slot->oid == oid)
			return slot;
	}
}

void *
tide_oidmap_get(const TideOidMap *map, uint32_t oid)
{
	return map->cap > 0 ? find(map, oid)->value : NULL;
}

static bool
grow(TideOidMap *map)
{
	TideOidMap larger = {.cap = map->cap > 0 ? map->cap * 2 : FIRST_CAPACITY, .n = map->n};

	larger.slots = calloc(larger.cap, sizeof(TideOidSlot));
	if (larger.slots == NULL)
		return false;
	for (size_t i = 0; i < map->cap; i++)
	{
		if (map->slots[i].value != NULL)
			*find(&larger, map->slots[i].oid) = map->slots[i];
	}
	free(map->slots);
	*map = larger;
	return true;
}

bool
tide_oidmap_add(TideOidMap *map, uint32_t oid, void *value)
{
	if (map->n >= map->cap / 2 && !grow(map))
		return false;
	*find(map, oid) = (TideOidSlot){.oid = oid, .value = value};
	map->n++;
	return true;
}

void
tide_oidmap_free(TideOidMap *map, void (*release)(void *))
{
	for (size_t i = 0; i < map->cap && release != NULL; i++)
	{
		if (map->slots[i].value != NULL)
			release(map->slots[i].value);
	}
	free(map->slots);
	*map = (TideOidMap){0};
}
