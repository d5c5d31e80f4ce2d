/*
 * link_copy_table.c
 *		One table's first copy: COPY at the origin, tide.copy_in here.
 *
 * Owns: the two connections of a copier, cutting the stream of rows into pieces, one
 * piece on its way into our database while the next is read.  Does not own:
 * which tables and when (link_copy.c).
 *
 * Everything of a table happens in one transaction here: after a kill it is
 * there as a whole or not at all.
 */
#include <stdlib.h>
#include <string.h>

#include "link_copy.h"
#include "mem.h"
#include "parts.h"
#include "queries.h"

/* Large enough to be worth a call, small enough to stay in a processor's cache. */
#define PIECE_BYTES ((size_t) 1 << 18)

/* Pieces on their way into our database: it begins the next as soon as it has stored one. */
#define PIECES_AHEAD 2

/* What COPY's binary format begins with: a signature, flags, the length of an extension. */
#define SIGNATURE "PGCOPY\n\377\r\n"
#define SIGNATURE_LEN 11
#define BINARY_HEADER 19

/* A copy under way. */
typedef struct Flow
{
	TideCopier *copier;
	const TideTable *table;
	TideRowFrames *merge; /* NULL: rows go in as they come */
	TideBuf piece;		  /* being filled; what is on its way libpq has */
	bool header;		  /* still to come */
	size_t piece_bytes;	  /* of rows in the piece that is filled */
	int64_t piece_rows;
} Flow;

/* ---- connections ---- */

void
tide_copier_close(TideCopier *copier)
{
	tide_pg_close(copier->there);
	tide_pg_close(copier->here);
	copier->there = copier->here = NULL;
}

static bool
take_snapshot(TideCopier *copier, TideError *err)
{
	PGconn *conn = tide_pg_conn(copier->there);
	char *name = PQescapeLiteral(conn, copier->snapshot, strlen(copier->snapshot));
	char *sql = tide_printf("SET TRANSACTION SNAPSHOT %s", name);
	bool ok = tide_pg_exec(copier->there, tide_q_copy_session, 0, NULL, NULL, err) &&
			  tide_pg_exec(copier->there, tide_q_tx_read, 0, NULL, NULL, err) &&
			  tide_pg_command(copier->there, sql, -1, NULL, err);

	PQfreemem(name);
	free(sql);
	return ok;
}

static bool
open_copier(TideCopier *copier, TideError *err)
{
	const TidePipeline *pipeline = copier->link->pipeline;

	if (copier->here == NULL)
	{
		if (!tide_pg_open(pipeline->env->conninfo, pipeline->spec.name, copier->stop, &copier->here,
						  err) ||
			!tide_pg_exec(copier->here, tide_q_copy_session, 0, NULL, NULL, err) ||
			!tide_pg_prepare(copier->here, tide_q_copy_in, err))
			return false;
	}
	if (copier->there != NULL)
		return true;
	return (tide_pg_open(copier->conninfo, pipeline->spec.name, copier->stop, &copier->there,
						 err) &&
			take_snapshot(copier, err)) ||
		   tide_link_at_origin(copier->link, err);
}

/* ---- pieces ---- */

static bool
take_row(Flow *flow, const char *row, size_t len, TideError *err)
{
	TideBuf *piece = &flow->piece;

	flow->piece_bytes += len;
	flow->piece_rows++;
	if (flow->merge != NULL)
		return tide_row_frames_add(flow->merge, row, len, err);
	if (!tide_buf_append(piece, row, len))
		tide_out_of_memory(len);
	return true;
}

/* Cuts off what is not a row; *len 0: nothing is left. */
static bool
strip_binary(Flow *flow, const char **data, size_t *len, TideError *err)
{
	static const char trailer[2] = {'\377', '\377'};
	TideCursor cursor;
	size_t skip;

	if (flow->header)
	{
		if (*len < BINARY_HEADER || memcmp(*data, SIGNATURE, SIGNATURE_LEN) != 0)
			return tide_error(err, TIDE_ERR_INTERNAL, "",
							  "table %s.%s: COPY's binary format is not known", flow->table->schema,
							  flow->table->name);
		tide_cursor_init(&cursor, *data + BINARY_HEADER - 4, 4);
		skip = BINARY_HEADER + tide_read_u32(&cursor);
		if (skip > *len)
			skip = *len;
		*data += skip;
		*len -= skip;
		flow->header = false;
	}
	if (*len == sizeof(trailer) && memcmp(*data, trailer, sizeof(trailer)) == 0)
		*len = 0;
	return true;
}

/* The server that can't put a row into one message speaks of memory.  (Here the same code is of other limits.) */
static bool
explain_row(TideError *err)
{
	if (strcmp(err->code, "54000") == 0)
		tide_error_hint(err,
						"a row of it is too large for one message; split it, or remove the table: "
						"tide.table_remove()");
	return false;
}

/* Fills a piece; *end: the table's rows are at their end. */
static bool
fill_piece(Flow *flow, bool *end, TideError *err)
{
	TidePg *there = flow->copier->there;

	flow->piece_bytes = 0;
	flow->piece_rows = 0;
	tide_buf_reset(&flow->piece);
	for (*end = false; !*end && flow->piece_bytes < PIECE_BYTES;)
	{
		TideCopyStep step;
		const char *data;
		size_t len;

		if (!tide_pg_copy_next(there, &step, &data, &len, err))
			return explain_row(err) || tide_link_at_origin(flow->copier->link, err);
		if (step == TIDE_COPY_WAIT && !tide_pg_copy_wait(there, err))
			return false;
		*end = step == TIDE_COPY_END;
		if (step != TIDE_COPY_DATA)
			continue;
		if (flow->table->binary && !strip_binary(flow, &data, &len, err))
			return false;
		if (len > 0 && !take_row(flow, data, len, err))
			return false;
	}
	return flow->merge == NULL || flow->piece_rows == 0 ||
		   tide_row_frames_make(flow->merge, &flow->piece, err);
}

/* ---- our side ---- */

/* values[0..3]: pipeline, epoch, schema and table. */
static void
name_table(const Flow *flow, char epoch[24], const char **values)
{
	const TidePipelineSpec *spec = &flow->copier->link->pipeline->spec;

	snprintf(epoch, 24, "%lld", (long long) spec->epoch);
	values[0] = spec->name;
	values[1] = epoch;
	values[2] = flow->table->schema;
	values[3] = flow->table->name;
}

/* Until no more than that many pieces are on their way. */
static bool
finish_pieces(TidePg *here, int left, TideError *err)
{
	while (tide_pg_pending(here) > left)
	{
		if (!tide_pg_finish(here, -1, NULL, err))
			return false;
	}
	return true;
}

static bool
send_parts(Flow *flow, TideError *err)
{
	TidePg *here = flow->copier->here;
	TideParts parts = {.data = flow->piece.data, .len = flow->piece.len};

	tide_pg_copy_release(flow->copier->there);
	while (parts.sent < parts.len)
	{
		if (!tide_parts_send(here, &parts, true, err) ||
			!finish_pieces(here, PIECES_AHEAD - 1, err))
			return false;
	}
	return true;
}

static bool
send_piece(Flow *flow, TideError *err)
{
	bool parts = tide_parts_needed(flow->piece.len);
	const char *rows = parts ? "" : tide_buf_cstr(&flow->piece);
	int rows_len = parts ? 0 : (int) flow->piece.len;
	char epoch[24];
	const char *values[7];
	int lengths[7] = {0};
	int formats[7] = {0};

	if (parts && !send_parts(flow, err))
		return false;
	name_table(flow, epoch, values);
	if (flow->merge != NULL)
	{
		values[2] = rows;
		lengths[2] = rows_len;
		formats[2] = 1;
		return tide_pg_pipeline_start(flow->copier->here, tide_q_copy_merge, 3, values, lengths,
									  formats, err);
	}
	values[4] = flow->table->columns;
	values[5] = flow->table->binary ? "binary" : "text";
	values[6] = rows;
	lengths[6] = rows_len;
	formats[6] = 1;
	return tide_pg_pipeline_start(flow->copier->here, tide_q_copy_in, 7, values, lengths, formats,
								  err);
}

static void
count_piece(Flow *flow)
{
	TideCopier *copier = flow->copier;
	TideMetrics *metrics = copier->link->pipeline->spec.metrics;

	atomic_fetch_add(&copier->rows, flow->piece_rows);
	atomic_fetch_add(&copier->bytes, (int64_t) flow->piece_bytes);
	tide_count(metrics, TIDE_ROWS_COPIED, (uint64_t) flow->piece_rows);
	tide_count(metrics, TIDE_BYTES_COPIED, (uint64_t) flow->piece_bytes);
}

/* While our database works on one piece the next is read. */
static bool
move_rows(Flow *flow, TideError *err)
{
	TidePg *here = flow->copier->here;
	bool end = false;

	flow->header = flow->table->binary;
	if (!tide_pg_pipeline_begin(here, err))
		return false;
	while (!end)
	{
		if (!fill_piece(flow, &end, err) || !finish_pieces(here, PIECES_AHEAD - 1, err))
			return false;
		if (flow->piece_rows > 0 && !send_piece(flow, err))
			return false;
		count_piece(flow);
	}
	return finish_pieces(here, 0, err) && tide_pg_pipeline_end(here, err);
}

static bool
begin_table(Flow *flow, TideError *err)
{
	char epoch[24];
	char lsn[TIDE_LSN_TEXT];
	const char *values[7];
	PGresult *res;
	bool merge;

	name_table(flow, epoch, values);
	/* By itself, before: what the other lane has brought must be seen. */
	if (!tide_pg_exec(flow->copier->here, tide_q_relay_link_takes, 4, values, NULL, err))
		return false;
	tide_lsn_format(flow->copier->position, lsn);
	values[4] = lsn;
	values[5] = flow->table->columns;
	values[6] = flow->table->types;
	if (!tide_pg_exec(flow->copier->here, tide_q_tx_begin, 0, NULL, NULL, err) ||
		!tide_pg_exec(flow->copier->here, tide_q_copy_begin, 7, values, &res, err))
		return false;
	merge = strcmp(PQgetvalue(res, 0, 0), "merge") == 0;
	PQclear(res);
	if (!merge)
		return true;
	flow->merge = tide_row_frames_new(flow->copier, flow->table, err);
	return flow->merge != NULL && tide_pg_prepare(flow->copier->here, tide_q_copy_merge, err);
}

static bool
end_table(Flow *flow, TideError *err)
{
	char epoch[24];
	char lsn[TIDE_LSN_TEXT];
	char rows[24];
	char bytes[24];
	char wish[24];
	const char *values[8];

	name_table(flow, epoch, values);
	tide_lsn_format(flow->copier->position, lsn);
	snprintf(wish, sizeof(wish), "%lld", (long long) flow->table->wish);
	snprintf(rows, sizeof(rows), "%lld", (long long) atomic_load(&flow->copier->rows));
	snprintf(bytes, sizeof(bytes), "%lld", (long long) atomic_load(&flow->copier->bytes));
	values[4] = lsn;
	values[5] = rows;
	values[6] = bytes;
	values[7] = wish;
	return tide_pg_exec(flow->copier->here, tide_q_copy_end, 8, values, NULL, err) &&
		   tide_pg_exec(flow->copier->here, tide_q_tx_commit, 0, NULL, NULL, err);
}

bool
tide_copy_table(TideCopier *copier, const TideTable *table, TideError *err)
{
	Flow flow = {.copier = copier, .table = table};
	bool ok;

	atomic_store(&copier->rows, 0);
	atomic_store(&copier->bytes, 0);
	tide_buf_init(&flow.piece);
	ok = open_copier(copier, err) && begin_table(&flow, err);
	if (ok && !tide_pg_copy_start(copier->there, table->copy_sql, err))
		ok = tide_link_at_origin(copier->link, err);
	ok = ok && move_rows(&flow, err) && end_table(&flow, err);
	if (!ok)
		tide_copier_close(copier); /* whatever is half done on them ends with them */
	tide_row_frames_free(flow.merge);
	tide_buf_free(&flow.piece);
	return ok;
}
