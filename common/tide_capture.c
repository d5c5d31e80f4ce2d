/*
 * tide_capture.c
 *		From the messages of pgoutput to the records of frames.
 *
 * Owns: what is left out, which relations a frame must describe, where one frame
 * ends and the next begins.  Does not own: the layout of messages
 * (tide_pgoutput.c) and of frames (tide_frame.c), shapes (tide_shapes.c).
 *
 * Records are collected in one buffer, in three parts:
 *
 *	[ rest of a continued transaction ][ whole transactions ][ the open transaction ]
 *
 * A frame is cut from the front, so a relation that the open transaction uses may
 * have been described in what is cut off.  The open transaction therefore keeps a
 * list of the descriptions it rests on, and a cut puts those before it again.
 * Where a description is, is counted from the beginning of the stream of records:
 * whatever is cut off has an offset before the buffer's.
 */
#include "tide_capture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tide_pgoutput.h"
#include "tide_shapes.h"
#include "tide_text.h"

#define KEPT_MEMORY ((size_t) 8 << 20) /* a buffer that grew larger is given back when empty */

/* A description that the open transaction rests on, in the stream of records. */
typedef struct Use
{
	TideShape *shape;
	uint64_t offset;
	size_t len;
} Use;

typedef enum TransactionState
{
	OUTSIDE,
	INSIDE,	 /* of one that may have records */
	DROPPING /* of one that came by a link, or that is in frames already */
} TransactionState;

struct TideCapture
{
	char region[TIDE_NAME_MAX + 1];
	uint8_t region_len;
	uint64_t system_id;
	uint32_t timeline;
	char error[160];

	TideShapes shapes;

	TideBuf records;
	uint64_t base;	   /* offset in the stream of the buffer's first byte, from 1 */
	uint64_t start;	   /* where the next frame begins */
	uint64_t position; /* end of the last whole transaction */

	/* A transaction that must come, see tide_capture_expect; 0: it has, or none must. */
	uint64_t expected_end;
	int64_t expected_us;
	bool missed;

	/* The rest of a continued transaction, at the front; len 0: none. */
	size_t rest_len;
	uint64_t rest_end;
	uint32_t rest_changes;
	bool rest_sync;

	/* Whole transactions, the rest above not among them. */
	size_t whole_len; /* where the open transaction begins in the buffer */
	uint32_t transactions;
	uint32_t changes;
	bool sync; /* the commit of one of them waits */

	/* The transaction that the stream is in. */
	TransactionState state;
	uint64_t transaction; /* counts them, from 1 */
	PgBegin begin;
	bool begun;		/* has its 'B' in the buffer */
	bool continued; /* an open frame has a part of it */
	uint32_t open_changes;
	bool open_sync;
	Use *uses;
	size_t n_uses;
	size_t cap_uses;
};

/* ---- life ---- */

TideCapture *
tide_capture_new(const char *region, uint64_t system_id, uint32_t timeline, uint64_t start)
{
	size_t len = strlen(region);
	TideCapture *capture = tide_name_ok(region, len) ? calloc(1, sizeof(*capture)) : NULL;

	if (capture == NULL)
		return NULL;
	memcpy(capture->region, region, len + 1);
	capture->region_len = (uint8_t) len;
	capture->system_id = system_id;
	capture->timeline = timeline;
	capture->start = start;
	capture->position = start;
	capture->base = 1;
	tide_buf_init(&capture->records);
	return capture;
}

void
tide_capture_free(TideCapture *capture)
{
	if (capture == NULL)
		return;
	tide_shapes_free(&capture->shapes);
	tide_buf_free(&capture->records);
	free(capture->uses);
	free(capture);
}

static const char *
fail(TideCapture *capture, const char *what, char type)
{
	snprintf(capture->error, sizeof(capture->error), "pgoutput message \"%c\": %s",
			 type >= ' ' && type <= '~' ? type : '?', what);
	return capture->error;
}

/* ---- relations and types ---- */

static const char *
take_relation(TideCapture *capture, TideCursor *message)
{
	PgRelation announced;

	if (!tide_pg_relation(message, &announced))
		return fail(capture, "not as long as it says", 'R');
	return tide_shapes_relation(&capture->shapes, &announced) ? NULL
															  : fail(capture, "out of memory", 'R');
}

static const char *
take_type(TideCapture *capture, TideCursor *message)
{
	PgType announced;

	if (!tide_pg_type(message, &announced))
		return fail(capture, "not as long as it says", 'Y');
	return tide_shapes_type(&capture->shapes, &announced) ? NULL
														  : fail(capture, "out of memory", 'Y');
}

/* ---- records of a transaction ---- */

/* Writes the transaction's 'B' before its first record of a frame. */
static void
ensure_begun(TideCapture *capture)
{
	TideBuf *out = &capture->records;
	size_t begun;

	if (capture->begun)
		return;
	capture->begun = true;
	begun = tide_record_begin(out, 'B');
	tide_write_u64(out, capture->begin.commit_lsn);
	tide_write_u64(out, (uint64_t) capture->begin.commit_us);
	tide_write_u32(out, capture->begin.xid);
	tide_record_end(out, begun);
}

/* Notes that the open transaction rests on the shape's description. */
static bool
note_use(TideCapture *capture, TideShape *shape)
{
	if (capture->n_uses == capture->cap_uses)
	{
		size_t cap = capture->cap_uses > 0 ? capture->cap_uses * 2 : 16;
		Use *larger = realloc(capture->uses, cap * sizeof(Use));

		if (larger == NULL)
			return false;
		capture->uses = larger;
		capture->cap_uses = cap;
	}
	capture->uses[capture->n_uses++] = (Use){
		.shape = shape, .offset = shape->offset, .len = shape->record.len};
	shape->transaction = capture->transaction;
	return true;
}

/* Sees to it that the relation's description comes before what is written next. */
static const char *
use_relation(TideCapture *capture, char type, uint32_t relid, TideShape **used)
{
	TideShape *shape = tide_shapes_find(&capture->shapes, relid);
	bool noted;

	*used = shape;
	if (shape == NULL)
		return fail(capture, "of a relation that was not announced", type);
	ensure_begun(capture);
	/* What stands in the rest of a continued transaction goes with an earlier frame. */
	noted = shape->transaction == capture->transaction;
	if (shape->offset < capture->base + capture->rest_len)
	{
		shape->offset = capture->base + capture->records.len;
		tide_buf_append(&capture->records, shape->record.data, shape->record.len);
		noted = false;
	}
	return noted || note_use(capture, shape) ? NULL : fail(capture, "out of memory", type);
}

static const char *
take_change(TideCapture *capture, char type, TideCursor *message)
{
	TideBuf *out = &capture->records;
	PgChange change;
	TideShape *shape;
	const char *wrong;
	size_t begun;

	if (!tide_pg_change(message, type, &change))
		return fail(capture, "not as long as it says", type);
	wrong = use_relation(capture, type, change.relid, &shape);
	if (wrong != NULL)
		return wrong;
	if (change.n_columns != shape->n_columns)
		return fail(capture, "has not as many columns as its relation", type);
	begun = tide_record_begin(out, type);
	tide_write_u32(out, change.relid);
	if (type != 'I')
		tide_write_u8(out, change.kind);
	tide_buf_append(out, change.old, change.old_len);
	tide_buf_append(out, change.new, change.new_len);
	tide_record_end(out, begun);
	capture->open_changes++;
	return NULL;
}

static const char *
take_truncate(TideCapture *capture, TideCursor *message)
{
	TideBuf *out = &capture->records;
	PgTruncate truncate;
	size_t begun;

	if (!tide_pg_truncate(message, &truncate))
		return fail(capture, "not as long as it says", 'T');
	if (truncate.n == 0)
		return NULL;
	for (TideCursor relids = truncate.relids; relids.at < relids.end;)
	{
		TideShape *shape;
		const char *wrong = use_relation(capture, 'T', tide_read_u32(&relids), &shape);

		if (wrong != NULL)
			return wrong;
	}
	begun = tide_record_begin(out, 'T');
	tide_write_u8(out, truncate.flags);
	tide_write_u32(out, truncate.n);
	tide_buf_append(out, truncate.relids.at, (size_t) truncate.n * 4);
	tide_record_end(out, begun);
	capture->open_changes++;
	return NULL;
}

/*
 * A logical message.  Whoever may log in can write one with any content, so one
 * that we do not know is left out, not an error.
 */
static const char *
take_logical(TideCapture *capture, TideCursor *message)
{
	PgMessage logical;
	TideCursor content;
	TideRecord record;
	size_t len;

	if (!tide_pg_message(message, &logical))
		return fail(capture, "not as long as it says", 'M');
	if (!logical.transactional || capture->state == DROPPING)
		return NULL;
	if (capture->state == OUTSIDE)
		return fail(capture, "outside a transaction", 'M');
	if (logical.prefix.len != strlen(TIDE_MESSAGE_PREFIX) ||
		memcmp(logical.prefix.data, TIDE_MESSAGE_PREFIX, logical.prefix.len) != 0)
		return NULL;
	tide_cursor_init(&content, logical.content, logical.len);
	if (!tide_record_next(&content, &record) || content.at != content.end)
		return NULL;
	len = (size_t) (record.payload.end - record.payload.at);
	if (record.type == 'H' && len == sizeof(int64_t))
	{
		ensure_begun(capture);
		tide_buf_append(&capture->records, logical.content, logical.len);
	}
	else if (record.type == 'Y' && len == 0)
	{
		/* Whatever else there is of it: the answer needs a frame. */
		ensure_begun(capture);
		capture->open_sync = true;
	}
	return NULL;
}

/* ---- transactions ---- */

static const char *
take_begin(TideCapture *capture, TideCursor *message)
{
	if (capture->state != OUTSIDE)
		return fail(capture, "inside a transaction", 'B');
	if (!tide_pg_begin(message, &capture->begin))
		return fail(capture, "not as long as it says", 'B');
	/* What committed before the position is in frames, or on the other side, already. */
	capture->state = capture->begin.commit_lsn < capture->position ? DROPPING : INSIDE;
	capture->transaction++;
	capture->begun = false;
	capture->continued = false;
	capture->open_changes = 0;
	capture->open_sync = false;
	capture->n_uses = 0;
	return NULL;
}

/* An origin: the transaction came by a link.  The message comes before all changes. */
static const char *
take_origin(TideCapture *capture)
{
	if (capture->state == OUTSIDE || capture->begun || capture->continued)
		return fail(capture, "not at the beginning of a transaction", 'O');
	capture->state = DROPPING;
	return NULL;
}

static void
end_whole(TideCapture *capture)
{
	TideBuf *out = &capture->records;
	size_t begun = tide_record_begin(out, 'C');

	tide_write_u64(out, capture->position);
	tide_record_end(out, begun);
	if (capture->continued)
	{
		/* Alone in its last frame; what comes next belongs to another. */
		capture->rest_len = out->len;
		capture->rest_end = capture->position;
		capture->rest_changes = capture->open_changes;
		capture->rest_sync = capture->open_sync;
	}
	else
	{
		capture->sync = capture->sync || capture->open_sync;
		capture->transactions++;
		capture->changes += capture->open_changes;
	}
	capture->whole_len = out->len;
}

/* The stream has come to position; us: a transaction that committed then ended there, 0: none. */
static void
look_for_expected(TideCapture *capture, uint64_t position, int64_t us)
{
	if (capture->expected_end == 0 || position < capture->expected_end)
		return;
	if (position != capture->expected_end || us == 0 || us != capture->expected_us)
		capture->missed = true;
	capture->expected_end = 0;
}

static const char *
take_commit(TideCapture *capture, TideCursor *message)
{
	PgCommit commit;

	if (capture->state == OUTSIDE)
		return fail(capture, "outside a transaction", 'C');
	if (!tide_pg_commit(message, &commit))
		return fail(capture, "not as long as it says", 'C');
	if (commit.commit_lsn != capture->begin.commit_lsn || commit.end_lsn <= commit.commit_lsn)
		return fail(capture, "of another transaction than began", 'C');
	look_for_expected(capture, commit.end_lsn, capture->begin.commit_us);
	if (commit.end_lsn > capture->position)
		capture->position = commit.end_lsn;
	if (capture->continued)
		ensure_begun(capture);
	if (capture->state == INSIDE && capture->begun)
		end_whole(capture);
	capture->state = OUTSIDE;
	capture->open_changes = 0;
	capture->n_uses = 0;
	capture->continued = false;
	return NULL;
}

/* A change of rows; in a transaction that is dropped nobody looks at it. */
static const char *
take_rows(TideCapture *capture, char type, TideCursor *message)
{
	if (capture->state == OUTSIDE)
		return fail(capture, "outside a transaction", type);
	if (capture->state == DROPPING)
		return NULL;
	return type == 'T' ? take_truncate(capture, message) : take_change(capture, type, message);
}

static const char *
dispatch(TideCapture *capture, char type, TideCursor *message)
{
	switch (type)
	{
		case 'I':
		case 'U':
		case 'D':
		case 'T':
			return take_rows(capture, type, message);
		case 'B':
			return take_begin(capture, message);
		case 'C':
			return take_commit(capture, message);
		case 'O':
			return take_origin(capture);
		case 'R':
			return take_relation(capture, message);
		case 'Y':
			return take_type(capture, message);
		case 'M':
			return take_logical(capture, message);
		default:
			return fail(capture, "not known", type);
	}
}

const char *
tide_capture_message(TideCapture *capture, const void *data, size_t len)
{
	TideCursor message;
	const char *wrong;
	char type;

	tide_cursor_init(&message, data, len);
	type = (char) tide_read_u8(&message);
	wrong = dispatch(capture, type, &message);
	if (capture->records.oom && wrong == NULL)
		wrong = fail(capture, "out of memory", type);
	return wrong;
}

void
tide_capture_expect(TideCapture *capture, uint64_t end, int64_t commit_us)
{
	capture->expected_end = end;
	capture->expected_us = commit_us;
}

bool
tide_capture_missed(const TideCapture *capture)
{
	return capture->missed;
}

/* ---- looking ---- */

size_t
tide_capture_size(const TideCapture *capture)
{
	return capture->records.len;
}

uint32_t
tide_capture_transactions(const TideCapture *capture)
{
	return capture->transactions + (capture->rest_len > 0 ? 1 : 0);
}

bool
tide_capture_in_transaction(const TideCapture *capture)
{
	return capture->state != OUTSIDE;
}

bool
tide_capture_expects(const TideCapture *capture)
{
	return capture->expected_end != 0;
}

int64_t
tide_capture_commit_us(const TideCapture *capture)
{
	return capture->begin.commit_us;
}

uint64_t
tide_capture_position(const TideCapture *capture)
{
	return capture->position;
}

void
tide_capture_advance(TideCapture *capture, uint64_t position)
{
	if (capture->state != OUTSIDE)
		return;
	look_for_expected(capture, position, 0);
	if (position > capture->position)
		capture->position = position;
}

/* ---- frames ---- */

/* What of the buffer goes into the next frame. */
typedef enum Cut
{
	CUT_NOTHING,
	CUT_REST,  /* of a continued transaction */
	CUT_WHOLE, /* transactions */
	CUT_OPEN   /* the part of a transaction that is there so far */
} Cut;

/* Drops len bytes from the front of the buffer. */
static void
drop_front(TideCapture *capture, size_t len)
{
	TideBuf *records = &capture->records;

	if (len == 0)
		return;
	memmove(records->data, records->data + len, records->len - len + 1);
	records->len -= len;
	capture->base += len;
	if (records->len == 0 && records->cap > KEPT_MEMORY)
		tide_buf_free(records);
}

/* Copies the descriptions that the open transaction rests on and that stand before it. */
static bool
copy_kept(const TideCapture *capture, TideBuf *out)
{
	for (size_t i = 0; i < capture->n_uses; i++)
	{
		const Use *use = &capture->uses[i];

		if (use->offset < capture->base + capture->whole_len)
			tide_buf_append(out, capture->records.data + (use->offset - capture->base), use->len);
	}
	return !out->oom;
}

/*
 * Drops the whole transactions, but keeps what the open one rests on, in front
 * of it.  In memory that fits, for it is made of pieces of what is dropped.  In
 * the stream it is put in: offsets before the open transaction become invalid,
 * all of them, and what stays moves on.
 */
static void
drop_whole(TideCapture *capture, const TideBuf *kept)
{
	size_t front = capture->whole_len - kept->len;
	uint64_t border = capture->base + capture->whole_len;
	uint64_t next = border;

	if (kept->len > 0)
		memcpy(capture->records.data + front, kept->data, kept->len);
	drop_front(capture, front);
	capture->base = border;
	for (size_t i = 0; i < capture->n_uses; i++)
	{
		Use *use = &capture->uses[i];
		uint64_t was = use->offset;

		if (was >= border)
			use->offset = was + kept->len;
		else
		{
			use->offset = next;
			next += use->len;
		}
		/* A shape that changed since is described elsewhere, or not yet. */
		if (use->shape->offset == was)
			use->shape->offset = use->offset;
	}
}

static Cut
choose_cut(const TideCapture *capture, bool partial)
{
	if (capture->rest_len > 0)
		return CUT_REST;
	if (capture->transactions > 0)
		return CUT_WHOLE;
	if (partial && capture->records.len > 0)
		return CUT_OPEN;
	return CUT_NOTHING;
}

/* Fills in what depends on the cut; returns how many bytes of records it takes. */
static size_t
describe_cut(const TideCapture *capture, Cut cut, TideFrameHeader *header)
{
	uint8_t continues = capture->continued ? TIDE_FRAME_CONTINUES : 0;

	switch (cut)
	{
		case CUT_REST:
			header->flags = TIDE_FRAME_CONTINUES | (capture->rest_sync ? TIDE_FRAME_SYNC : 0);
			header->end = capture->rest_end;
			header->n_transactions = 1;
			header->n_changes = capture->rest_changes;
			return capture->rest_len;
		case CUT_WHOLE:
			header->flags = capture->sync ? TIDE_FRAME_SYNC : 0;
			header->end = capture->position;
			header->n_transactions = capture->transactions;
			header->n_changes = capture->changes;
			return capture->whole_len;
		case CUT_OPEN:
			header->flags = continues | TIDE_FRAME_OPEN;
			header->end = capture->start;
			header->n_changes = capture->open_changes;
			return capture->records.len;
		default:
			/* Inside a continued transaction there is no position to tell. */
			header->flags = continues ? continues | TIDE_FRAME_OPEN : 0;
			header->end = continues ? capture->start : capture->position;
			return 0;
	}
}

/* Forgets what is in the frame that was made. */
static void
drop_cut(TideCapture *capture, Cut cut, const TideBuf *kept)
{
	switch (cut)
	{
		case CUT_REST:
			drop_front(capture, capture->rest_len);
			capture->whole_len -= capture->rest_len;
			capture->rest_len = 0;
			break;
		case CUT_WHOLE:
			drop_whole(capture, kept);
			capture->whole_len = 0;
			capture->transactions = 0;
			capture->changes = 0;
			capture->sync = false;
			break;
		case CUT_OPEN:
			drop_front(capture, capture->records.len);
			capture->begun = false;
			capture->continued = true;
			capture->open_changes = 0;
			capture->n_uses = 0;
			break;
		default:
			break;
	}
}

bool
tide_capture_frame(TideCapture *capture, bool partial, bool even_empty, int level, int64_t built_us,
				   uint64_t wal_end, TideBuf *out, bool *made)
{
	Cut cut = choose_cut(capture, partial);
	TideBuf kept;
	size_t len;
	bool ok;
	TideFrameHeader header = {.start = capture->start,
							  .system_id = capture->system_id,
							  .timeline = capture->timeline,
							  .built_us = built_us,
							  .wal_end = wal_end,
							  .origin = capture->region,
							  .origin_len = capture->region_len};

	*made = cut != CUT_NOTHING || even_empty;
	if (!*made)
		return true;
	len = describe_cut(capture, cut, &header);
	tide_buf_init(&kept);
	ok = (cut != CUT_WHOLE || copy_kept(capture, &kept)) &&
		 tide_frame_build(&header, capture->records.data, len, level, out);
	if (ok)
	{
		drop_cut(capture, cut, &kept);
		capture->start = header.end;
	}
	tide_buf_free(&kept);
	return ok;
}
