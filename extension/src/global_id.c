/*
 * global_id.c
 *		tide.global_id(): numbers that no two regions, sessions or points in time give.
 *
 * Owns: giving them out.  Does not own: reading them in SQL, node numbers (73_global_id.sql).
 *
 * A number is a tick (milliseconds since 2020, and 12 bits that count within each) with the
 * region's node in between.  A session takes ticks in blocks: under a lock it moves the sequence
 * tide.global_id_seq to the end of the block, which begins at the clock, or where the last block
 * ended if that is later.  So blocks never overlap, whatever the clock does; if it
 * goes back, or more ids are wanted than a millisecond has, ticks run ahead of it until it has
 * caught up.  The sequence's WAL comes before the commit of whatever uses an id of the block, so after a
 * crash no block is given out again of which anything was kept.
 *
 * What is left of a block that is older than KEEP_MS is thrown away: ids stay in order of
 * time, about.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "catalog/namespace.h"
#include "commands/sequence.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "apply.h"
#include "inbox.h"
#include "pg_tide.h"
#include "compat.h"

PG_FUNCTION_INFO_V1(tide_sql_global_id);

#define BLOCK 256
#define KEEP_MS 100
#define TICK_BITS 12
#define NODE_BITS 10
#define MAX_TICK (INT64CONST(1) << (41 + TICK_BITS))

/* 2020-01-01 in the server's microseconds since 2000. */
#define BEGINNING ((int64) 7305 * USECS_PER_DAY)

static int64 next_tick = 0;
static int64 end_tick = 0; /* of the block; next_tick == end_tick: none is left */
static int64 taken_ms = 0; /* the clock when it was taken */
static int node = 0;

static int64
clock_ms(void)
{
	return (GetCurrentTimestamp() - BEGINNING) / 1000;
}

static int64
query_number(const char *sql, const char *hint)
{
	bool isnull;
	int64 number;

	if (SPI_execute(sql, false, 1) != SPI_OK_SELECT || SPI_processed != 1)
		elog(ERROR, "query failed: %s", sql);
	number = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
	if (isnull)
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("this database's region has no name"), errhint("%s", hint)));
	return number;
}

/* The end of everything that was given out moves to the end of the block. */
static void
move_sequence(Oid sequence, int64 now)
{
	int64 first = Max(nextval_internal(sequence, false), now << TICK_BITS);
	int64 end = first + BLOCK;

	if (end >= MAX_TICK)
		ereport(ERROR, (errcode(ERRCODE_SEQUENCE_GENERATOR_LIMIT_EXCEEDED),
						errmsg("the ids of this region have run out, or its clock is wrong")));
	(void) DirectFunctionCall2(setval_oid, ObjectIdGetDatum(sequence), Int64GetDatum(end));
	next_tick = first;
	end_tick = end;
}

static void
take_block(FunctionCallInfo fcinfo)
{
	TideIdentity self;
	Oid sequence;

	tide_act_as_owner(fcinfo, &self);
	SPI_connect();
	sequence = tide_catalog("global_id_seq");
	node = (int) query_number("SELECT tide._own_node()::bigint",
							  "Name it with SELECT tide.region_init('name').");
	LockDatabaseObject(sequence, 0, 0, ExclusiveLock);
	taken_ms = clock_ms();
	move_sequence(sequence, taken_ms);
	UnlockDatabaseObject(sequence, 0, 0, ExclusiveLock);
	SPI_finish();
	tide_act_as_self(&self);
}

/* global_id() */
Datum
tide_sql_global_id(PG_FUNCTION_ARGS)
{
	int64 now = clock_ms();
	int64 tick;

	if (next_tick == end_tick || now < taken_ms || now - taken_ms > KEEP_MS)
	{
		next_tick = end_tick; /* nothing is left of it, should the following fail */
		take_block(fcinfo);
	}
	tick = next_tick++;
	PG_RETURN_INT64((tick >> TICK_BITS) << (TICK_BITS + NODE_BITS) | (int64) node << TICK_BITS |
					(tick & ((1 << TICK_BITS) - 1)));
}
