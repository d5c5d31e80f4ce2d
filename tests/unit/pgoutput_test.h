/*
 * pgoutput_test.h
 *		Makes messages of pgoutput for tests.
 *
 * Owns: their layout as PostgreSQL's documentation has it, written without the
 * code under test.  Does not own: their sense.
 *
 * Every function empties buf and leaves one message in it.
 */
#ifndef PGOUTPUT_TEST_H
#define PGOUTPUT_TEST_H

#include <string.h>

#include "tide_buf.h"

static inline void
pg_int(TideBuf *buf, uint64_t value, int bytes)
{
	while (bytes-- > 0)
		tide_buf_append_char(buf, (char) (value >> (8 * bytes)));
}

static inline void
pg_string(TideBuf *buf, const char *text)
{
	tide_buf_append(buf, text, strlen(text) + 1);
}

static inline void
pg_start(TideBuf *buf, char type)
{
	tide_buf_reset(buf);
	tide_buf_append_char(buf, type);
}

static inline void
pg_begin(TideBuf *buf, uint64_t commit_lsn, int64_t pg_us, uint32_t xid)
{
	pg_start(buf, 'B');
	pg_int(buf, commit_lsn, 8);
	pg_int(buf, (uint64_t) pg_us, 8);
	pg_int(buf, xid, 4);
}

static inline void
pg_commit(TideBuf *buf, uint64_t commit_lsn, uint64_t end_lsn)
{
	pg_start(buf, 'C');
	pg_int(buf, 0, 1);
	pg_int(buf, commit_lsn, 8);
	pg_int(buf, end_lsn, 8);
	pg_int(buf, 0, 8);
}

static inline void
pg_origin(TideBuf *buf)
{
	pg_start(buf, 'O');
	pg_int(buf, 0, 8);
	pg_string(buf, "tide_link_eu");
}

/* Columns "c0", "c1" and so on; the first is the key.  All of one type. */
static inline void
pg_relation(TideBuf *buf, uint32_t relid, const char *schema, const char *name, int n_columns,
			uint32_t type)
{
	pg_start(buf, 'R');
	pg_int(buf, relid, 4);
	pg_string(buf, schema);
	pg_string(buf, name);
	tide_buf_append_char(buf, 'd');
	pg_int(buf, (uint64_t) n_columns, 2);
	for (int i = 0; i < n_columns; i++)
	{
		pg_int(buf, i == 0, 1);
		tide_buf_printf(buf, "c%d", i);
		pg_int(buf, 0, 1);
		pg_int(buf, type, 4);
		pg_int(buf, UINT32_MAX, 4);
	}
}

static inline void
pg_type(TideBuf *buf, uint32_t type, const char *schema, const char *name)
{
	pg_start(buf, 'Y');
	pg_int(buf, type, 4);
	pg_string(buf, schema);
	pg_string(buf, name);
}

/* A tuple whose first column holds a number; the others are null. */
static inline void
pg_tuple(TideBuf *buf, uint64_t number, int n_columns)
{
	pg_int(buf, (uint64_t) n_columns, 2);
	for (int i = 0; i < n_columns; i++)
	{
		tide_buf_append_char(buf, i == 0 ? 'b' : 'n');
		if (i > 0)
			continue;
		pg_int(buf, 8, 4);
		pg_int(buf, number, 8);
	}
}

/* kind: 0, 'K' or 'O', the old tuple that goes with an update or delete. */
static inline void
pg_change(TideBuf *buf, char type, uint32_t relid, char kind, uint64_t number, int n_columns)
{
	pg_start(buf, type);
	pg_int(buf, relid, 4);
	if (kind != 0)
	{
		tide_buf_append_char(buf, kind);
		pg_tuple(buf, number, n_columns);
	}
	if (type != 'D')
	{
		tide_buf_append_char(buf, 'N');
		pg_tuple(buf, number, n_columns);
	}
}

static inline void
pg_truncate(TideBuf *buf, uint8_t flags, const uint32_t *relids, int n)
{
	pg_start(buf, 'T');
	pg_int(buf, (uint64_t) n, 4);
	pg_int(buf, flags, 1);
	for (int i = 0; i < n; i++)
		pg_int(buf, relids[i], 4);
}

static inline void
pg_message(TideBuf *buf, bool transactional, const char *prefix, const char *content, uint32_t len)
{
	pg_start(buf, 'M');
	pg_int(buf, transactional, 1);
	pg_int(buf, 0x1234, 8);
	pg_string(buf, prefix);
	pg_int(buf, len, 4);
	tide_buf_append(buf, content, len);
}

/* A heartbeat as rows_heartbeat() writes it. */
static inline void
pg_heartbeat(TideBuf *buf, uint64_t number)
{
	char record[13] = {'H', 0, 0, 0, 8};

	for (int i = 0; i < 8; i++)
		record[5 + i] = (char) (number >> (56 - 8 * i));
	pg_message(buf, true, "tide", record, sizeof(record));
}

/* What a commit that waits for an answer says; see extension/src/durability.c. */
static inline void
pg_awaited(TideBuf *buf)
{
	pg_message(buf, true, "tide", "Y\0\0\0", 5);
}

#endif /* PGOUTPUT_TEST_H */
