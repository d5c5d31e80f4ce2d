/*
 * tide_oidmap.h
 *		From a number (an OID) to a pointer.
 *
 * Owns: the table.  Does not own: what the pointers point to.
 */
#ifndef TIDE_OIDMAP_H
#define TIDE_OIDMAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct TideOidSlot
{
	uint32_t oid;
	void *value; /* NULL: free */
} TideOidSlot;

/* All zeroes: empty. */
typedef struct TideOidMap
{
	TideOidSlot *slots;
	size_t cap; /* 0 or a power of two */
	size_t n;
} TideOidMap;

extern void *tide_oidmap_get(const TideOidMap *map, uint32_t oid); /* NULL: not there */

/* Adds a number that is not there yet; value is not NULL.  false: out of memory. */
extern bool tide_oidmap_add(TideOidMap *map, uint32_t oid, void *value);

/* Frees the table, and each value by release unless that is NULL. */
extern void tide_oidmap_free(TideOidMap *map, void (*release)(void *));

#endif /* TIDE_OIDMAP_H */
