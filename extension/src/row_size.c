/*
 * row_size.c
 *		Rows that are too large to leave this server.
 *
 * Owns: the check where a row of a replicated table is written.  Does not own: the limit
 * (TIDE_MAX_ROW in common/tide_frame.h).
 *
 * The server decodes a change into one allocation of at most 1 GB.  A row that needs more ends the
 * decoding with an error, again at each attempt, and everything behind it in the WAL waits for ever.  So
 * such a row is refused while it is written, when there still is somebody to tell.
 *
 * Values count with the size that they have uncompressed.  What a type's binary form takes can be more
 * than what is stored (an array has four bytes of length for every element; 1e131071 in a jsonb
 * is so many digits), so a value for which that could matter is asked for it.
 */
#include "postgres.h"

#include "access/detoast.h"
#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "mb/pg_wchar.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "tide_frame.h"

#include "pg_tide.h"
#include "compat.h"

/* No type's binary form is so many times larger than what is stored: jsonb is the worst. */
#define MOST_GROWTH 16384

/* Neither of the server's methods compresses to less than a 255th. */
#define MOST_COMPRESSION 255

/* A tuple of so many bytes, and nothing out of line, fits whatever it is. */
#define CERTAINLY_FITS (TIDE_MAX_ROW / MOST_GROWTH / MOST_COMPRESSION)

/* A column's own bytes in a change: its kind and its length. */
#define PER_COLUMN 5

/* Is what travels just the bytes of the value? */
static bool
is_plain(Oid type)
{
	switch (type)
	{
		case BYTEAOID:
			return true;
		case TEXTOID:
		case VARCHAROID:
		case BPCHAROID:
		case JSONOID:
			/* Text travels as UTF-8. */
			return GetDatabaseEncoding() == PG_UTF8 || GetDatabaseEncoding() == PG_SQL_ASCII;
		default:
			return false;
	}
}

static void
refuse(Relation rel, const char *size)
{
	ereport(ERROR,
			(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
			 errmsg("a row of table \"%s\" is too large to be replicated",
					RelationGetRelationName(rel)),
			 errdetail("As a change it has %s bytes; at most %zu can travel.", size, TIDE_MAX_ROW),
			 errhint("Split its values over several rows, or keep them in a table that is "
					 "not replicated."),
			 errtable(rel)));
}

/* Asks the type.  What does not fit into one allocation is an error there, which speaks of memory. */
static Size
binary_size(Relation rel, Oid type, Datum value)
{
	volatile Size size = 0;
	Oid send;
	bool varlena;

	getTypeBinaryOutputInfo(type, &send, &varlena);
	PG_TRY();
	{
		bytea *sent = OidSendFunctionCall(send, value);

		size = VARSIZE(sent) - VARHDRSZ;
		pfree(sent);
	}
	PG_CATCH();
	{
		if (geterrcode() != ERRCODE_PROGRAM_LIMIT_EXCEEDED)
			PG_RE_THROW();
		FlushErrorState();
		refuse(rel, "more than 1073741823");
	}
	PG_END_TRY();
	return size;
}

static Size
sent_size(Relation rel, Form_pg_attribute att, Datum value)
{
	Size stored = toast_raw_datum_size(value) - VARHDRSZ;

	if (is_plain(getBaseType(att->atttypid)) || stored < TIDE_MAX_ROW / MOST_GROWTH)
		return stored;
	return binary_size(rel, att->atttypid, value);
}

void
tide_row_check_size(Relation rel, HeapTuple row)
{
	TupleDesc desc = RelationGetDescr(rel);
	Size total = 0;
	Datum *values;
	bool *nulls;

	if (likely(row->t_len < CERTAINLY_FITS && !HeapTupleHasExternal(row)))
		return;
	values = palloc(sizeof(Datum) * desc->natts);
	nulls = palloc(sizeof(bool) * desc->natts);
	heap_deform_tuple(row, desc, values, nulls);
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, i);

		total += PER_COLUMN;
		if (nulls[i] || att->attisdropped)
			continue;
		total += att->attlen == -1 ? sent_size(rel, att, values[i]) : NAMEDATALEN;
	}
	pfree(values);
	pfree(nulls);
	if (total > TIDE_MAX_ROW)
		refuse(rel, psprintf("%zu", total));
}
