/*
 * tide_capture.c
 *		From the messages of pgoutput to the records of frames.
 *
 * Owns: what is left out, which relations a frame must describe, where one frame
 * ends and the next begins.  Does not own: the layout of messages
 * (tide_pgoutput.c) and of frames (tide_frame.c).
 *
 * Records are collected in one buffer, in three parts:
 *
 *	[ rest of a continued transaction ][ whole transactions ][ the open transaction ]
 *
 * A frame is cut from the front, so a relation that the open transaction uses may
 * have been described in what is cut off.  Offsets into the buffer are therefore
 * counted from the beginning of the stream, and the open transaction keeps a list
 * of the descriptions it rests on: a cut puts those before it again.
 */
#include "tide_capture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tide_oidmap.h"
#include "tide_pgoutput.h"
#include "tide_text.h"

#define KEPT_MEMORY ((size_t) 8 << 20) /* a buffer that grew larger is given back when empty */

/* A relation as last announced. */
typedef struct Relation
{
	TideBuf record; /* the whole 'R' record */
	int n_columns;
	uint64_t offset;	  /* where it was written last, in the stream of records; 0: not yet */
	uint64_t transaction; /* the transaction that used it last */
} Relation;

/* A description that the open transaction rests on and that stands before it. */
typedef struct Borrowed
{
	Relation *relation;
	uint64_t offset;
	size_t len;
} Borrowed;

typedef struct Type
{
	TideBuf schema;
	TideBuf name;
} Type;

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

	TideOidMap relations;
	TideOidMap types;

	TideBuf records;
	uint64_t base;	   /* offset in the stream of the buffer's first byte, from 1 */
	uint64_t start;	   /* where the next frame begins */
	uint64_t position; /* end of the last whole transaction */

	/* The rest of a continued transaction, at the front; len 0: none. */
	size_t rest_len;
	uint64_t rest_end;
	uint32_t rest_changes;

	/* Whole transactions, the rest above not among them. */
	size_t whole_len; /* where the open transaction begins in the buffer */
	uint32_t transactions;
	uint32_t changes;

	/* The transaction that the stream is in. */
	TransactionState state;
	uint64_t transaction; /* counts them, from 1 */
	PgBegin begin;
	bool begun;		/* has its 'B' in the buffer */
	bool continued; /* an open frame has a part of it */
	uint32_t open_changes;
	Borrowed *borrowed;
	size_t n_borrowed;
	size_t cap_borrowed;
};

/* ---- life ---- */

static void
free_relation(void *value)
{
	Relation *relation = value;

	tide_buf_free(&relation->record);
	free(relation);
}

static void
free_type(void *value)
{
	Type *type = value;

	tide_buf_free(&type->schema);
	tide_buf_free(&type->name);
	free(type);
}

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
	tide_oidmap_free(&capture->relations, free_relation);
	tide_oidmap_free(&capture->types, free_type);
	tide_buf_free(&capture->records);
	free(capture->borrowed);
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

/* The announced name of a type, or NULL for those that have the same number everywhere. */
static const Type *
type_of(const TideCapture *capture, uint32_t oid)
{
	return tide_oidmap_get(&capture->types, oid);
}

static void
write_relation(const TideCapture *capture, const PgRelation *announced, TideBuf *out)
{
	TideCursor columns = announced->columns;
	PgColumn column;

	tide_write_u8(out, announced->replident);
	if (announced->schema.len > 0)
		tide_write_str(out, announced->schema.data, announced->schema.len);
	else
		tide_write_str(out, "pg_catalog", strlen("pg_catalog"));
	tide_write_str(out, announced->name.data, announced->name.len);
	tide_write_u16(out, announced->n_columns);
	for (int i = 0; i < announced->n_columns && tide_pg_column(&columns, &column); i++)
	{
		const Type *type = type_of(capture, column.type);

		tide_write_u8(out, column.flags & 1);
		tide_write_str(out, column.name.data, column.name.len);
		tide_write_u32(out, column.type);
		tide_write_u32(out, column.typmod);
		tide_write_str(out, type ? type->schema.data : "", type ? type->schema.len : 0);
		tide_write_str(out, type ? type->name.data : "", type ? type->name.len : 0);
	}
}

/* FNV-1a of 64 bits. */
static uint64_t
fingerprint(const TideBuf *shape)
{
	uint64_t hash = UINT64_C(0xCBF29CE484222325);

	for (size_t i = 0; i < shape->len; i++)
		hash = (hash ^ (uint8_t) shape->data[i]) * UINT64_C(0x100000001B3);
	return hash;
}

/* The relation's entry, made if this is its first announcement. */
static Relation *
relation_entry(TideCapture *capture, uint32_t relid)
{
	Relation *relation = tide_oidmap_get(&capture->relations, relid);

	if (relation != NULL)
		return relation;
	relation = calloc(1, sizeof(*relation));
	if (relation == NULL)
		return NULL;
	tide_buf_init(&relation->record);
	if (!tide_oidmap_add(&capture->relations, relid, relation))
	{
		free_relation(relation);
		return NULL;
	}
	return relation;
}

/* Takes over the record unless it is the one that is known; false: out of memory. */
static bool
remember_relation(TideCapture *capture, const PgRelation *announced, TideBuf *record)
{
	Relation *relation = relation_entry(capture, announced->relid);
	TideBuf old;

	if (relation == NULL || record->oom)
		return false;
	if (relation->record.len == record->len &&
		memcmp(relation->record.data, record->data, record->len) == 0)
		return true;
	old = relation->record;
	relation->record = *record;
	*record = old;
	relation->n_columns = announced->n_columns;
	relation->offset = 0;
	return true;
}

static const char *
take_relation(TideCapture *capture, TideCursor *message)
{
	PgRelation announced;
	TideBuf shape;
	TideBuf record;
	bool ok;
	size_t begun;

	if (!tide_pg_relation(message, &announced))
		return fail(capture, "not as long as it says", 'R');
	tide_buf_init(&shape);
	tide_buf_init(&record);
	write_relation(capture, &announced, &shape);
	begun = tide_record_begin(&record, 'R');
	tide_write_u32(&record, announced.relid);
	tide_write_u64(&record, fingerprint(&shape));
	tide_buf_append(&record, shape.data, shape.len);
	tide_record_end(&record, begun);
	ok = !shape.oom && remember_relation(capture, &announced, &record);
	tide_buf_free(&shape);
	tide_buf_free(&record);
	return ok ? NULL : fail(capture, "out of memory", 'R');
}

static const char *
take_type(TideCapture *capture, TideCursor *message)
{
	PgType announced;
	Type *type;

	if (!tide_pg_type(message, &announced))
		return fail(capture, "not as long as it says", 'Y');
	type = tide_oidmap_get(&capture->types, announced.type);
	if (type == NULL)
	{
		type = calloc(1, sizeof(*type));
		if (type == NULL || !tide_oidmap_add(&capture->types, announced.type, type))
		{
			free(type);
			return fail(capture, "out of memory", 'Y');
		}
		tide_buf_init(&type->schema);
		tide_buf_init(&type->name);
	}
	tide_buf_reset(&type->schema);
	tide_buf_reset(&type->name);
	if (announced.schema.len > 0)
		tide_buf_append(&type->schema, announced.schema.data, announced.schema.len);
	else
		tide_buf_append_str(&type->schema, "pg_catalog");
	if (!tide_buf_append(&type->name, announced.name.data, announced.name.len) || type->schema.oom)
		return fail(capture, "out of memory", 'Y');
	return NULL;
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

/* Notes that the open transaction rests on a description before it. */
static bool
borrow(TideCapture *capture, Relation *relation)
{
	if (capture->n_borrowed == capture->cap_borrowed)
	{
		size_t cap = capture->cap_borrowed > 0 ? capture->cap_borrowed * 2 : 16;
		Borrowed *larger = realloc(capture->borrowed, cap * sizeof(Borrowed));

		if (larger == NULL)
			return false;
		capture->borrowed = larger;
		capture->cap_borrowed = cap;
	}
	capture->borrowed[capture->n_borrowed++] = (Borrowed){
		.relation = relation, .offset = relation->offset, .len = relation->record.len};
	return true;
}

/* Sees to it that the relation's description comes before what is written next. */
static const char *
use_relation(TideCapture *capture, char type, uint32_t relid, Relation **used)
{
	Relation *relation = tide_oidmap_get(&capture->relations, relid);

	*used = relation;
	if (relation == NULL)
		return fail(capture, "of a relation that was not announced", type);
	ensure_begun(capture);
	/* What stands in the rest of a continued transaction goes with an earlier frame. */
	if (relation->offset >= capture->base + capture->rest_len)
	{
		if (relation->transaction != capture->transaction && !borrow(capture, relation))
			return fail(capture, "out of memory", type);
	}
	else
	{
		relation->offset = capture->base + capture->records.len;
		tide_buf_append(&capture->records, relation->record.data, relation->record.len);
	}
	relation->transaction = capture->transaction;
	return NULL;
}

static const char *
take_change(TideCapture *capture, char type, TideCursor *message)
{
	TideBuf *out = &capture->records;
	PgChange change;
	Relation *relation;
	const char *wrong;
	size_t begun;

	if (!tide_pg_change(message, type, &change))
		return fail(capture, "not as long as it says", type);
	wrong = use_relation(capture, type, change.relid, &relation);
	if (wrong != NULL)
		return wrong;
	if (change.n_columns != relation->n_columns)
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
		Relation *relation;
		const char *wrong = use_relation(capture, 'T', tide_read_u32(&relids), &relation);

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
 * that is not a heartbeat is left out, not an error.
 */
static const char *
take_logical(TideCapture *capture, TideCursor *message)
{
	PgMessage logical;
	TideCursor content;
	TideRecord record;

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
	if (!tide_record_next(&content, &record) || content.at != content.end || record.type != 'H' ||
		record.payload.end - record.payload.at != sizeof(int64_t))
		return NULL;
	ensure_begun(capture);
	tide_buf_append(&capture->records, logical.content, logical.len);
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
	capture->n_borrowed = 0;
	return NULL;
}

/* An origin: the transaction came by a link.  The message comes before all changes. */
static const char *
take_origin(TideCapture *capture)
{
	if (capture->state == OUTSIDE || capture->begun)
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
	}
	else
	{
		capture->transactions++;
		capture->changes += capture->open_changes;
	}
	capture->whole_len = out->len;
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
	if (commit.end_lsn > capture->position)
		capture->position = commit.end_lsn;
	if (capture->continued)
		ensure_begun(capture);
	if (capture->state == INSIDE && capture->begun)
		end_whole(capture);
	capture->state = OUTSIDE;
	capture->open_changes = 0;
	capture->n_borrowed = 0;
	capture->continued = false;
	return NULL;
}

const char *
tide_capture_message(TideCapture *capture, const void *data, size_t len)
{
	TideCursor message;
	char type;
	const char *wrong = NULL;

	tide_cursor_init(&message, data, len);
	type = (char) tide_read_u8(&message);
	switch (type)
	{
		case 'B':
			wrong = take_begin(capture, &message);
			break;
		case 'C':
			wrong = take_commit(capture, &message);
			break;
		case 'O':
			wrong = take_origin(capture);
			break;
		case 'R':
			wrong = take_relation(capture, &message);
			break;
		case 'Y':
			wrong = take_type(capture, &message);
			break;
		case 'M':
			wrong = take_logical(capture, &message);
			break;
		case 'I':
		case 'U':
		case 'D':
		case 'T':
			if (capture->state == OUTSIDE)
				wrong = fail(capture, "outside a transaction", type);
			else if (capture->state == INSIDE)
				wrong = type == 'T' ? take_truncate(capture, &message)
									: take_change(capture, type, &message);
			break;
		default:
			wrong = fail(capture, "not known", type);
	}
	if (wrong == NULL && capture->records.oom)
		wrong = fail(capture, "out of memory", type);
	return wrong;
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

uint64_t
tide_capture_position(const TideCapture *capture)
{
	return capture->position;
}

void
tide_capture_advance(TideCapture *capture, uint64_t position)
{
	if (capture->state == OUTSIDE && position > capture->position)
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

/* Copies the descriptions that the open transaction rests on. */
static bool
copy_borrowed(const TideCapture *capture, TideBuf *out)
{
	for (size_t i = 0; i < capture->n_borrowed; i++)
	{
		const Borrowed *borrowed = &capture->borrowed[i];

		tide_buf_append(out, capture->records.data + (borrowed->offset - capture->base),
						borrowed->len);
	}
	return !out->oom;
}

/*
 * Drops the whole transactions, but keeps what the open one rests on, in front
 * of it.  That fits, for it is made of pieces of what is dropped; the offsets of
 * what stays do not change.
 */
static void
drop_whole(TideCapture *capture, const TideBuf *kept)
{
	size_t front = capture->whole_len - kept->len;
	uint64_t offset = capture->base + front;

	if (kept->len > 0)
		memcpy(capture->records.data + front, kept->data, kept->len);
	for (size_t i = 0; i < capture->n_borrowed; i++)
	{
		Borrowed *borrowed = &capture->borrowed[i];

		/* One that changed since is described in the open transaction itself. */
		if (borrowed->relation->offset == borrowed->offset)
			borrowed->relation->offset = offset;
		borrowed->offset = offset;
		offset += borrowed->len;
	}
	drop_front(capture, front);
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
			header->flags = TIDE_FRAME_CONTINUES;
			header->end = capture->rest_end;
			header->n_transactions = 1;
			header->n_changes = capture->rest_changes;
			return capture->rest_len;
		case CUT_WHOLE:
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
			break;
		case CUT_OPEN:
			drop_front(capture, capture->records.len);
			capture->begun = false;
			capture->continued = true;
			capture->open_changes = 0;
			capture->n_borrowed = 0;
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
	ok = (cut != CUT_WHOLE || copy_borrowed(capture, &kept)) &&
		 tide_frame_build(&header, capture->records.data, len, level, out);
	if (ok)
	{
		drop_cut(capture, cut, &kept);
		capture->start = header.end;
	}
	tide_buf_free(&kept);
	return ok;
}
