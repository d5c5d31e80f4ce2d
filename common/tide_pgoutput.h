/*
 * tide_pgoutput.h
 *		The messages of pgoutput, protocol version 1, one at a time.
 *
 * Owns: their layout, and that their lengths are true.  Does not own: what
 * follows from a message (tide_capture.c).
 *
 * Source: PostgreSQL documentation, "Logical Replication Message Formats", and
 * src/backend/replication/logical/proto.c.
 */
#ifndef TIDE_PGOUTPUT_H
#define TIDE_PGOUTPUT_H

#include "tide_frame.h"

typedef struct PgBegin
{
	uint64_t commit_lsn; /* where the commit record begins */
	int64_t commit_us;	 /* microseconds since 1970 */
	uint32_t xid;
} PgBegin;

typedef struct PgCommit
{
	uint64_t commit_lsn;
	uint64_t end_lsn; /* where the commit record ends */
} PgCommit;

/* 'R' or 'Y'; strings as in TideRelation, an empty schema is pg_catalog's. */
typedef struct PgRelation
{
	uint32_t relid;
	TideStr schema;
	TideStr name;
	uint8_t replident;
	uint16_t n_columns;
	TideCursor columns; /* tide_pg_column() n_columns times */
} PgRelation;

typedef struct PgColumn
{
	uint8_t flags;
	TideStr name;
	uint32_t type;
	uint32_t typmod;
} PgColumn;

typedef struct PgType
{
	uint32_t type;
	TideStr schema;
	TideStr name;
} PgType;

/*
 * 'I', 'U' or 'D'.  Tuples are encoded as in frames, so they are only measured;
 * n_columns is what both have.
 */
typedef struct PgChange
{
	uint32_t relid;
	uint8_t kind; /* of the old tuple: 0 none, 'K' or 'O' */
	int n_columns;
	const uint8_t *old;
	size_t old_len;
	const uint8_t *new;
	size_t new_len;
} PgChange;

typedef struct PgMessage
{
	bool transactional;
	TideStr prefix;
	const uint8_t *content;
	uint32_t len;
} PgMessage;

typedef struct PgTruncate
{
	uint8_t flags;
	uint32_t n;
	TideCursor relids;
} PgTruncate;

/* Each reads what follows the type byte, all of it.  false: not what it should be. */
extern bool tide_pg_begin(TideCursor *message, PgBegin *begin);
extern bool tide_pg_commit(TideCursor *message, PgCommit *commit);
extern bool tide_pg_relation(TideCursor *message, PgRelation *relation);
extern bool tide_pg_column(TideCursor *columns, PgColumn *column);
extern bool tide_pg_type(TideCursor *message, PgType *type);
extern bool tide_pg_change(TideCursor *message, char type, PgChange *change);
extern bool tide_pg_truncate(TideCursor *message, PgTruncate *truncate);
extern bool tide_pg_message(TideCursor *message, PgMessage *logical);

#endif /* TIDE_PGOUTPUT_H */
