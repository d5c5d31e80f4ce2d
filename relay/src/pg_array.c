/*
 * pg_array.c
 *		One-dimensional arrays in PostgreSQL's binary format.
 *
 * Layout, all big-endian 32 bit: number of dimensions, has-null flag, element
 * type, then per dimension length and lower bound, then per element its length
 * (-1: NULL) and bytes.  An empty array has no dimensions.
 */
#include <arpa/inet.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "mem.h"
#include "pg.h"

#define HEADER_SIZE 20
#define EMPTY_HEADER_SIZE 12

/* Type numbers are fixed for ever in the server's pg_type.dat. */
static const struct
{
	uint32_t oid;
	bool has_version_byte; /* jsonb's binary form begins with a version, 1 */
} element_types[] = {
	[TIDE_ARRAY_TEXT] = {25, false},
	[TIDE_ARRAY_JSONB] = {3802, true},
	[TIDE_ARRAY_INT8] = {20, false},
};

struct TideArray
{
	TideArrayType type;
	char *data;
	size_t len;
	size_t capacity;
	uint32_t n_elements;
	bool has_null;
};

static void
put_uint32(char *at, uint32_t value)
{
	uint32_t big_endian = htonl(value);

	memcpy(at, &big_endian, sizeof(big_endian));
}

TideArray *
tide_array_new(TideArrayType type, size_t expected)
{
	TideArray *array = tide_zalloc(sizeof(TideArray));

	array->type = type;
	array->capacity = HEADER_SIZE + expected * 16;
	array->data = tide_malloc(array->capacity);
	tide_array_reset(array);
	return array;
}

void
tide_array_free(TideArray *array)
{
	if (array == NULL)
		return;
	free(array->data);
	free(array);
}

void
tide_array_reset(TideArray *array)
{
	array->len = HEADER_SIZE;
	array->n_elements = 0;
	array->has_null = false;
}

/*
 * libpq counts a parameter's bytes in an int.  Batches are limited to far less
 * than that; one that is not has no way to be sent at all.
 */
static char *
make_room(TideArray *array, size_t more)
{
	char *at;

	if (more > INT_MAX || array->len + more > INT_MAX)
		tide_out_of_memory(more);
	if (array->len + more > array->capacity)
	{
		array->capacity = (array->len + more) * 2;
		array->data = tide_realloc(array->data, array->capacity);
	}
	at = array->data + array->len;
	array->len += more;
	return at;
}

void
tide_array_add(TideArray *array, const char *data, size_t len)
{
	size_t prefix = element_types[array->type].has_version_byte ? 1 : 0;
	char *at;

	array->n_elements++;
	if (data == NULL)
	{
		put_uint32(make_room(array, 4), UINT32_MAX);
		array->has_null = true;
		return;
	}
	if (len > INT_MAX)
		tide_out_of_memory(len);
	at = make_room(array, 4 + prefix + len);
	put_uint32(at, (uint32_t) (prefix + len));
	if (prefix > 0)
		at[4] = 1;
	memcpy(at + 4 + prefix, data, len);
}

void
tide_array_add_int8(TideArray *array, int64_t value)
{
	char bytes[8];

	put_uint32(bytes, (uint32_t) ((uint64_t) value >> 32));
	put_uint32(bytes + 4, (uint32_t) ((uint64_t) value & UINT32_MAX));
	tide_array_add(array, bytes, sizeof(bytes));
}

const char *
tide_array_data(TideArray *array, int *len)
{
	bool empty = array->n_elements == 0;

	put_uint32(array->data, empty ? 0 : 1);
	put_uint32(array->data + 4, array->has_null ? 1 : 0);
	put_uint32(array->data + 8, element_types[array->type].oid);
	put_uint32(array->data + 12, array->n_elements);
	put_uint32(array->data + 16, 1); /* subscripts begin at 1 */
	*len = empty ? EMPTY_HEADER_SIZE : (int) array->len;
	return array->data;
}
