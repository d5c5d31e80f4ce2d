/*
 * tide_pgoutput.c
 *		The messages of pgoutput, protocol version 1, one at a time.
 *
 * Owns: their layout, and that their lengths are true.  Does not own: what
 * follows from a message (tide_capture.c).
 */
#include "tide_pgoutput.h"

#include <string.h>

/* Microseconds from 1970 to 2000, where PostgreSQL's time begins. */
#define EPOCH_US (INT64_C(946684800) * 1000000)

static bool
at_end(const TideCursor *message)
{
	return !message->bad && message->at == message->end;
}

/* A string that ends with a zero byte. */
static TideStr
read_cstring(TideCursor *message)
{
	const uint8_t *start = message->at;
	const uint8_t *zero = NULL;

	if (!message->bad && message->at < message->end)
		zero = memchr(start, 0, (size_t) (message->end - start));
	if (zero == NULL || zero - start > UINT16_MAX)
	{
		message->bad = true;
		return (TideStr){.data = "", .len = 0};
	}
	message->at = zero + 1;
	return (TideStr){.data = (const char *) start, .len = (size_t) (zero - start)};
}

static int64_t
read_time(TideCursor *message)
{
	/* Unsigned, for what is sent may be anything. */
	return (int64_t) (tide_read_u64(message) + (uint64_t) EPOCH_US);
}

bool
tide_pg_begin(TideCursor *message, PgBegin *begin)
{
	begin->commit_lsn = tide_read_u64(message);
	begin->commit_us = read_time(message);
	begin->xid = tide_read_u32(message);
	return at_end(message);
}

bool
tide_pg_commit(TideCursor *message, PgCommit *commit)
{
	tide_read_u8(message); /* flags, none so far */
	commit->commit_lsn = tide_read_u64(message);
	commit->end_lsn = tide_read_u64(message);
	read_time(message);
	return at_end(message);
}

bool
tide_pg_column(TideCursor *columns, PgColumn *column)
{
	column->flags = tide_read_u8(columns);
	column->name = read_cstring(columns);
	column->type = tide_read_u32(columns);
	column->typmod = tide_read_u32(columns);
	return !columns->bad;
}

bool
tide_pg_relation(TideCursor *message, PgRelation *relation)
{
	PgColumn column;

	relation->relid = tide_read_u32(message);
	relation->schema = read_cstring(message);
	relation->name = read_cstring(message);
	relation->replident = tide_read_u8(message);
	relation->n_columns = tide_read_u16(message);
	relation->columns = *message;
	if (relation->n_columns > TIDE_FRAME_MAX_COLUMNS)
		return false;
	for (int i = 0; i < relation->n_columns; i++)
		tide_pg_column(message, &column);
	return at_end(message);
}

bool
tide_pg_type(TideCursor *message, PgType *type)
{
	type->type = tide_read_u32(message);
	type->schema = read_cstring(message);
	type->name = read_cstring(message);
	return at_end(message);
}

/* Measures a tuple; both of a change have the same number of columns. */
static bool
read_tuple(TideCursor *message, int *n_columns, const uint8_t **tuple, size_t *len)
{
	int n;

	*tuple = message->at;
	n = tide_read_tuple(message, NULL, TIDE_FRAME_MAX_COLUMNS);
	if (n < 0 || (*n_columns >= 0 && n != *n_columns))
		return false;
	*n_columns = n;
	*len = (size_t) (message->at - *tuple);
	return true;
}

bool
tide_pg_change(TideCursor *message, char type, PgChange *change)
{
	uint8_t kind;

	*change = (PgChange){.relid = tide_read_u32(message), .n_columns = -1};
	kind = tide_read_u8(message);
	if (type != 'I' && (kind == 'K' || kind == 'O'))
	{
		change->kind = kind;
		if (!read_tuple(message, &change->n_columns, &change->old, &change->old_len))
			return false;
		if (type == 'D')
			return at_end(message);
		kind = tide_read_u8(message);
	}
	if (type == 'D' || kind != 'N')
		return false;
	return read_tuple(message, &change->n_columns, &change->new, &change->new_len) &&
		   at_end(message);
}

bool
tide_pg_truncate(TideCursor *message, PgTruncate *truncate)
{
	truncate->n = tide_read_u32(message);
	truncate->flags = tide_read_u8(message);
	truncate->relids = *message;
	return !message->bad && (size_t) (message->end - message->at) == (size_t) truncate->n * 4;
}

bool
tide_pg_message(TideCursor *message, PgMessage *logical)
{
	logical->transactional = (tide_read_u8(message) & 1) != 0;
	tide_read_u64(message); /* its own position */
	logical->prefix = read_cstring(message);
	logical->len = tide_read_u32(message);
	logical->content = tide_read_bytes(message, logical->len);
	return at_end(message);
}
