/*
 * link_apply.c
 *		Handing frames to tide.apply, one at a time, without waiting.
 *
 * What is under way is a step; each knows its statement and what comes after
 * it.  A frame that holds a part of a transaction (TIDE_FRAME_OPEN) leaves the
 * database's transaction open for the next one; the position moves only when
 * that is committed.
 *
 * A frame that is refused is judged by its SQLSTATE: trouble with others
 * (deadlocks) passes, so the same frame goes out again after a pause; trouble
 * with the data is looked at change by change (careful), where the database
 * parks what it can't apply; everything else is the pipeline's to handle.
 */
#include "link_apply.h"

#include <stdlib.h>
#include <string.h>

#include "log.h"
#include "mem.h"
#include "parts.h"
#include "queries.h"
#include "tide_frame.h"

#define AGAIN_FIRST_MS 20
#define AGAIN_MAX_MS 1000
#define MAX_AGAIN 8 /* about four seconds in all */

typedef enum Step
{
	IDLE,
	BEGIN, /* a transaction for open frames */
	PARTS, /* of a frame that is too large for one statement */
	APPLY,
	COMMIT, /* ... and its end */
	FLUSHED,
	PAUSE /* before the same frame goes out again */
} Step;

/* What follows a refusal. */
typedef enum Verdict
{
	AGAIN,
	CAREFULLY,
	GIVE_UP
} Verdict;

/* By prefix of the SQLSTATE; what is not listed is the data's fault. */
static const struct
{
	const char *prefix;
	Verdict verdict;
} verdicts[] = {
	{"40", AGAIN},	 {"55P03", AGAIN}, {"TD014", CAREFULLY}, {"TD015", CAREFULLY}, {"TD", GIVE_UP},
	{"08", GIVE_UP}, {"25", GIVE_UP},  {"28", GIVE_UP},		 {"3D", GIVE_UP},	   {"53", GIVE_UP},
	{"57", GIVE_UP}, {"58", GIVE_UP},  {"F0", GIVE_UP},
};

#define N_VERDICTS (sizeof(verdicts) / sizeof(verdicts[0]))

/* What tide.apply answered, summed up over a transaction. */
typedef struct Applied
{
	uint64_t transactions;
	uint64_t changes;
	uint64_t kept;
	uint64_t skipped;
	uint64_t parked;
	uint64_t raw_bytes;
	uint64_t bytes;
} Applied;

struct TideApply
{
	TidePg *pg;
	const char *pipeline;
	char epoch[24];
	TideMetrics *metrics;

	Step step;
	TideFrame frame; /* being applied */
	TideParts parts; /* of it; len 0: it goes as a whole */
	bool in_transaction;
	bool careful;
	bool rewind;
	int again; /* how often this frame went out */
	long long again_at;
	Applied applied; /* and not committed */

	uint64_t position;
	uint64_t position_here; /* as of the last answer; position once committed */
	uint64_t flushed;
};

bool
tide_apply_new(TidePg *home, const char *pipeline, int64_t epoch, TideMetrics *metrics,
			   uint64_t position, TideApply **result, TideError *err)
{
	TideApply *apply;

	*result = NULL;
	if (!tide_pg_exec(home, tide_q_apply_session, 0, NULL, NULL, err) ||
		!tide_pg_prepare(home, tide_q_apply, err) ||
		!tide_pg_prepare(home, tide_q_apply_flushed, err))
		return false;
	apply = tide_zalloc(sizeof(*apply));
	apply->pg = home;
	apply->pipeline = pipeline;
	snprintf(apply->epoch, sizeof(apply->epoch), "%lld", (long long) epoch);
	apply->metrics = metrics;
	apply->position = apply->position_here = position;
	*result = apply;
	return true;
}

void
tide_apply_free(TideApply *apply)
{
	free(apply);
}

/* ---- sending ---- */

static bool
send_apply(TideApply *apply, TideError *err)
{
	bool there = apply->parts.len > 0; /* in parts */
	const char *values[4] = {apply->pipeline, apply->epoch, there ? "" : apply->frame.data,
							 apply->careful ? "t" : "f"};
	const int lengths[4] = {0, 0, there ? 0 : (int) apply->frame.len, 0};
	const int formats[4] = {0, 0, 1, 0};

	apply->step = APPLY;
	return tide_pg_send(apply->pg, tide_q_apply, 4, values, lengths, formats, err);
}

static bool
send_part(TideApply *apply, TideError *err)
{
	apply->step = PARTS;
	return tide_parts_send(apply->pg, &apply->parts, false, err);
}

static bool
send_frame(TideApply *apply, TideError *err)
{
	apply->parts = (TideParts){0};
	if (!tide_parts_needed(apply->frame.len))
		return send_apply(apply, err);
	apply->parts.data = apply->frame.data;
	apply->parts.len = apply->frame.len;
	return send_part(apply, err);
}

static bool
send_plain(TideApply *apply, Step step, const char *sql, TideError *err)
{
	apply->step = step;
	return tide_pg_send(apply->pg, sql, 0, NULL, NULL, NULL, err);
}

bool
tide_apply_start(TideApply *apply, const TideFrame *frame, TideError *err)
{
	if (apply->step != IDLE)
		return tide_error(err, TIDE_ERR_INTERNAL, "", "a frame is being applied already");
	apply->frame = *frame;
	apply->again = 0;
	if ((frame->flags & TIDE_FRAME_OPEN) && !apply->in_transaction)
		return send_plain(apply, BEGIN, tide_q_tx_begin, err);
	return send_frame(apply, err);
}

bool
tide_apply_ask_flushed(TideApply *apply, TideError *err)
{
	const char *values[2] = {apply->pipeline, apply->epoch};

	if (apply->step != IDLE || apply->in_transaction || apply->flushed >= apply->position)
		return true;
	apply->step = FLUSHED;
	return tide_pg_send(apply->pg, tide_q_apply_flushed, 2, values, NULL, NULL, err);
}

/* ---- answers ---- */

static void
count_applied(TideApply *apply)
{
	const Applied *applied = &apply->applied;

	tide_count(apply->metrics, TIDE_ROWS_APPLIED, applied->changes - applied->kept);
	tide_count(apply->metrics, TIDE_ROW_TRANSACTIONS, applied->transactions);
	tide_count(apply->metrics, TIDE_ROWS_KEPT, applied->kept);
	tide_count(apply->metrics, TIDE_ROWS_SKIPPED, applied->skipped);
	tide_count(apply->metrics, TIDE_ROWS_PARKED, applied->parked);
	tide_count(apply->metrics, TIDE_ROW_BYTES_RAW, applied->raw_bytes);
	tide_count(apply->metrics, TIDE_ROW_BYTES_WIRE, applied->bytes);
	if (applied->changes > 0)
		tide_gauge(apply->metrics, TIDE_G_LAST_DELIVERY_US, tide_wall_us());
	memset(&apply->applied, 0, sizeof(apply->applied));
}

/* The frame is here, and everything before it. */
static void
finish_frame(TideApply *apply)
{
	apply->position = apply->position_here;
	apply->careful = false;
	apply->in_transaction = false;
	apply->step = IDLE;
	count_applied(apply);
}

static void
note_flushed(TideApply *apply, uint64_t flushed)
{
	if (flushed > apply->flushed)
		apply->flushed = flushed;
}

static void
read_answer(TideApply *apply, const PGresult *res)
{
	Applied *applied = &apply->applied;

	apply->position_here = tide_pg_lsn(res, 0, 0);
	note_flushed(apply, tide_pg_lsn(res, 0, 1));
	applied->transactions += (uint64_t) tide_pg_int64(res, 0, 2);
	applied->changes += (uint64_t) tide_pg_int64(res, 0, 3);
	applied->kept += (uint64_t) tide_pg_int64(res, 0, 4);
	applied->skipped += (uint64_t) tide_pg_int64(res, 0, 5);
	applied->parked += (uint64_t) tide_pg_int64(res, 0, 6);
	applied->raw_bytes += apply->frame.raw_bytes;
	applied->bytes += apply->frame.len;
}

/*
 * The database wants what it has so far committed before the rest: the same frame
 * again, of which it skips what is there.
 */
static bool
wants_rest(const TideApply *apply, uint64_t before)
{
	return !apply->in_transaction && !(apply->frame.flags & TIDE_FRAME_OPEN) &&
		   apply->position_here > before && apply->position_here < apply->frame.end;
}

static bool
send_rest(TideApply *apply, TideError *err)
{
	apply->position = apply->position_here;
	apply->careful = false;
	apply->applied.raw_bytes -= apply->frame.raw_bytes; /* counted when it comes to its end */
	apply->applied.bytes -= apply->frame.len;
	return send_frame(apply, err);
}

/* A statement ended well: the next step. */
static bool
go_on(TideApply *apply, const PGresult *res, TideError *err)
{
	uint64_t before = apply->position_here;

	switch (apply->step)
	{
		case BEGIN:
			apply->in_transaction = true;
			return send_frame(apply, err);
		case PARTS:
			return apply->parts.sent < apply->parts.len ? send_part(apply, err)
														: send_apply(apply, err);
		case APPLY:
			read_answer(apply, res);
			if (apply->frame.flags & TIDE_FRAME_OPEN)
				apply->step = IDLE;
			else if (apply->in_transaction)
				return send_plain(apply, COMMIT, tide_q_tx_commit, err);
			else if (wants_rest(apply, before))
				return send_rest(apply, err);
			else
				finish_frame(apply);
			return true;
		case COMMIT:
			finish_frame(apply);
			return true;
		case FLUSHED:
			note_flushed(apply, tide_pg_lsn(res, 0, 0));
			apply->step = IDLE;
			return true;
		case IDLE:
		case PAUSE:
			break;
	}
	return tide_error(err, TIDE_ERR_INTERNAL, "", "an answer without a question");
}

/* ---- refusals ---- */

static Verdict
judge(const TideError *err)
{
	/* Without a code it is the connection; stopping and time limits are ours. */
	if (err->code[0] == '\0' || err->class == TIDE_ERR_STOPPED)
		return GIVE_UP;
	for (size_t i = 0; i < N_VERDICTS; i++)
	{
		if (strncmp(err->code, verdicts[i].prefix, strlen(verdicts[i].prefix)) == 0)
			return verdicts[i].verdict;
	}
	return CAREFULLY;
}

static bool
pause_and_repeat(TideApply *apply, const TideError *why)
{
	int pause = AGAIN_FIRST_MS << apply->again;

	apply->again++;
	apply->again_at = tide_monotonic_ms() + (pause < AGAIN_MAX_MS ? pause : AGAIN_MAX_MS);
	apply->step = PAUSE;
	tide_log_error(TIDE_LOG_DEBUG, why, "a frame was refused; trying again");
	return true;
}

/* false: the caller's err stays as it is. */
static bool
refused(TideApply *apply, TideError *err)
{
	Verdict verdict = judge(err);
	bool frame = apply->step == APPLY || apply->step == COMMIT;

	if (!frame || verdict == GIVE_UP || (verdict == CAREFULLY && apply->careful))
		return false;
	if (verdict == AGAIN)
	{
		/* Of a transaction in parts, the earlier ones are not here any more. */
		return !apply->in_transaction && apply->again < MAX_AGAIN && pause_and_repeat(apply, err);
	}
	apply->careful = true;
	if (apply->in_transaction)
	{
		apply->rewind = true;
		return false;
	}
	tide_log_error(TIDE_LOG_WARN, err, "changes were refused; looking at each of them");
	tide_error_clear(err);
	return send_frame(apply, err);
}

bool
tide_apply_rewind(TideApply *apply)
{
	TideError ignored;

	if (!apply->rewind)
		return false;
	apply->rewind = false;
	apply->in_transaction = false;
	apply->position_here = apply->position;
	apply->step = IDLE;
	memset(&apply->applied, 0, sizeof(apply->applied));
	return tide_pg_exec(apply->pg, tide_q_tx_rollback, 0, NULL, NULL, &ignored);
}

bool
tide_apply_turn(TideApply *apply, TideError *err)
{
	PGresult *res;
	bool ok;

	if (apply->step == IDLE)
		return true;
	if (apply->step == PAUSE)
		return tide_monotonic_ms() < apply->again_at || send_frame(apply, err);
	if (!tide_pg_finish(apply->pg, 0, &res, err))
	{
		if (err->class == TIDE_ERR_TIMEOUT && tide_pg_pending(apply->pg))
		{
			tide_error_clear(err);
			return true;
		}
		return refused(apply, err);
	}
	ok = go_on(apply, res, err);
	PQclear(res);
	return ok;
}

/* ---- looking ---- */

bool
tide_apply_busy(const TideApply *apply)
{
	return apply->step != IDLE;
}

bool
tide_apply_in_transaction(const TideApply *apply)
{
	return apply->in_transaction;
}

uint64_t
tide_apply_position(const TideApply *apply)
{
	return apply->position;
}

uint64_t
tide_apply_flushed(const TideApply *apply)
{
	return apply->flushed;
}

int
tide_apply_poll(const TideApply *apply, struct pollfd *fds, int *timeout_ms)
{
	long long left = apply->again_at - tide_monotonic_ms();

	*timeout_ms = -1;
	if (apply->step == IDLE)
		return 0;
	if (apply->step == PAUSE)
	{
		*timeout_ms = left > 0 ? (int) left : 0;
		return 0;
	}
	fds[0].fd = PQsocket(tide_pg_conn(apply->pg));
	fds[0].events = tide_pg_poll_events(apply->pg);
	fds[0].revents = 0;
	return 1;
}
