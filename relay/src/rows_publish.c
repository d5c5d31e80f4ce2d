/*
 * rows_publish.c
 *		Pipelines of direction "rows": this region's rows on a broker.
 *
 * Owns: see rows_publish.h; the slot's life, where a run begins, what destinations
 * say, rewinding for one that lacks something.  Does not own: messages and their
 * window (rows_send.c), the stream (nats_provision.c), decoding (wal_frames.c).
 *
 * The stream is a convenience, the slot is the copy that counts: it is confirmed
 * only up to the least position that a destination has reported as durable, as
 * the database has it, whatever the broker has acknowledged.  So a run that
 * begins anew may trust the stream: it goes on behind the stream's last frame,
 * and if the broker has lost some before that, whoever misses them asks for them.
 */
#include "rows_publish.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "log.h"
#include "mem.h"
#include "queries.h"
#include "rows_send.h"
#include "tide_frame.h"

#define POLL_MS 100
#define GATHER_MS 5 /* between two frames that are not full ... */
#define BACKLOG_GATHER_MS \
	50 /* ... while there is much to catch up with: others apply larger ones faster */
#define BACKLOG_BYTES (1 << 20)
#define HEARTBEAT_MS 1000
#define CONFIRM_MS 500 /* between two looks at what destinations said */
#define SEEN_MS 10000  /* a position that does not move is written this often */
#define LOOK_MS 5000   /* between two looks at the slot and the destinations */
#define REWIND_MS 3000 /* a rewind is given this long before the next one */
#define START_TRIES 60 /* while a stream that has ended still holds the slot */
#define START_PAUSE_MS 100
#define FREE_EVERY 5 /* tries: then one that has not heard of its relay for long is ended */

/* What comes to the mailbox. */
typedef enum Tag
{
	ACK,
	CONFIRM,
	REWIND,
	WHERE
} Tag;

typedef struct Destination
{
	char *region;
	uint64_t position; /* as it said; 0: not yet */
	uint64_t written;  /* what our database has of that */
	long long written_at;
} Destination;

typedef struct Publisher
{
	TidePipeline *pipeline;
	const TidePipelineInfo *info;

	/* tide.relay_rows() and tide.rows_identify() */
	char *slot;
	char *destination; /* whom the stream is for; NULL: all that have none of their own */
	json_t *options;
	uint64_t least;
	Destination *destinations;
	size_t n_destinations;
	uint64_t system_id;
	uint32_t timeline;
	uint64_t wal_end; /* of this server, just now */
	int server_version;

	TideNats *nats;
	TideJs *js;
	TideRowsStream stream;
	TideMailbox *box;
	TideRowsSend *send;

	TideWalFrames *frames;
	uint64_t confirmed; /* of the slot: nothing before it can be decoded again */
	uint64_t end;		/* published so far, by any run */
	uint64_t begun;		/* where this run began */
	long long begun_at;
	uint64_t rewind_to; /* 0: nobody asks */

	long long frame_at;		/* when the next frame may go that is not full */
	long long heartbeat_at; /* when each is due */
	long long confirm_at;
	long long look_at;
} Publisher;

/* ---- our database ---- */

static bool
home_exec(Publisher *p, const char *sql, int n_params, const char **values, PGresult **res,
		  TideError *err)
{
	char epoch[24];

	snprintf(epoch, sizeof(epoch), "%lld", (long long) p->info->epoch);
	if (n_params >= 2 && values[1] == NULL)
	{
		values[0] = p->info->name;
		values[1] = epoch;
	}
	return tide_pg_exec(p->pipeline->home, sql, n_params, values, res, err);
}

static void
free_destinations(Publisher *p)
{
	for (size_t i = 0; i < p->n_destinations; i++)
		free(p->destinations[i].region);
	free(p->destinations);
	p->destinations = NULL;
	p->n_destinations = 0;
}

static Destination *
find_destination(Publisher *p, const char *region)
{
	for (size_t i = 0; i < p->n_destinations; i++)
	{
		if (strcmp(p->destinations[i].region, region) == 0)
			return &p->destinations[i];
	}
	return NULL;
}

/* Takes the list of regions over, and keeps what is known of those that stay. */
static void
set_destinations(Publisher *p, const json_t *regions)
{
	size_t n = json_array_size(regions);
	Destination *list = tide_zalloc((n + 1) * sizeof(Destination));

	for (size_t i = 0; i < n; i++)
	{
		const char *region = json_string_value(json_array_get(regions, i));
		const Destination *old = find_destination(p, region);

		if (old != NULL)
			list[i] = *old;
		list[i].region = tide_strdup(region);
	}
	free_destinations(p);
	p->destinations = list;
	p->n_destinations = n;
}

/* Who takes our rows, and how. */
static bool
read_spec(Publisher *p, TideError *err)
{
	const char *values[2] = {NULL, NULL};
	PGresult *res;
	json_t *regions;

	if (!home_exec(p, tide_q_relay_rows, 2, values, &res, err))
		return false;
	if (PQntuples(res) != 1)
	{
		PQclear(res);
		return tide_error(err, TIDE_ERR_CONFIG, "", "nobody takes rows of this region by a broker");
	}
	free(p->slot);
	free(p->destination);
	json_decref(p->options);
	p->slot = tide_strdup(PQgetvalue(res, 0, 0));
	p->destination = PQgetisnull(res, 0, 5) ? NULL : tide_strdup(PQgetvalue(res, 0, 5));
	p->options = json_loads(PQgetvalue(res, 0, 2), 0, NULL);
	p->least = tide_pg_lsn(res, 0, 3);
	regions = json_loads(PQgetvalue(res, 0, 4), 0, NULL);
	set_destinations(p, regions);
	json_decref(regions);
	PQclear(res);
	return true;
}

static bool
identify(Publisher *p, TideError *err)
{
	const char *values[1] = {p->destination};
	PGresult *res;
	bool logical;

	if (!home_exec(p, tide_q_rows_identify, 1, values, &res, err))
		return false;
	p->system_id = (uint64_t) tide_pg_int64(res, 0, 1);
	p->timeline = (uint32_t) tide_pg_int64(res, 0, 2);
	logical = strcmp(PQgetvalue(res, 0, 3), "logical") == 0;
	p->wal_end = tide_pg_lsn(res, 0, 5);
	p->server_version = (int) tide_pg_int64(res, 0, 6);
	PQclear(res);
	if (logical)
		return true;
	tide_error(err, TIDE_ERR_CONFIG, "55000",
			   "wal_level is not \"logical\", but rows are read from"
			   " the WAL");
	tide_error_hint(err, "set wal_level = logical on this server and restart it");
	return false;
}

/* ---- the slot ---- */

typedef enum SlotState
{
	SLOT_GOOD,
	SLOT_MISSING,
	SLOT_LOST,
	SLOT_USELESS
} SlotState;

static const char *const why_lost[] = {
	[SLOT_GOOD] = "",
	[SLOT_MISSING] = "dropped",
	[SLOT_LOST] = "too far behind, see max_slot_wal_keep_size",
	[SLOT_USELESS] = "a publication was dropped: the WAL before that can't be decoded any more",
};

static bool
look_at_slot(Publisher *p, SlotState *state, TideError *err)
{
	const char *values[1] = {p->slot};
	PGresult *res;

	*state = SLOT_MISSING;
	if (!home_exec(p, tide_q_rows_slot, 1, values, &res, err))
		return false;
	if (PQntuples(res) == 1)
	{
		*state = strcmp(PQgetvalue(res, 0, 2), "lost") == 0 ? SLOT_LOST : SLOT_GOOD;
		p->confirmed = tide_pg_lsn(res, 0, 3);
		tide_gauge(p->info->metrics, TIDE_G_SLOT_RETAINED, tide_pg_int64(res, 0, 5));
	}
	PQclear(res);
	return true;
}

static bool
in_use(const TideError *err)
{
	return strcmp(err->code, "55006") == 0;
}

/* Another relay may own the pipeline by now, and the slot: nothing is done to it on an old lease. */
static bool
pause_for_slot(Publisher *p, int try, TideError *err)
{
	const char *values[1] = {p->slot};

	if (!p->info->lease_fresh(p->info))
		return tide_error(err, TIDE_ERR_STALE, "",
						  "this relay may have lost pipeline \"%s\": its slot is left alone",
						  p->info->name);
	if (try % FREE_EVERY == 0 && !home_exec(p, tide_q_rows_slot_free, 1, values, NULL, err))
		return false;
	return tide_stop_sleep(p->pipeline->drain, START_PAUSE_MS) ||
		   tide_error(err, TIDE_ERR_STOPPED, "", "asked to stop");
}

static bool
drop_slot(Publisher *p, TideWal *wal, TideError *err)
{
	for (int n = 1;; n++)
	{
		if (tide_wal_drop_slot(wal, p->slot, err))
			return true;
		if (!in_use(err) || n == START_TRIES || !pause_for_slot(p, n, err))
			return false;
	}
}

/*
 * Makes the slot.  If there were destinations before, what they had not got is
 * gone: they find out as the new chain begins behind their positions.
 */
static bool
make_slot(Publisher *p, SlotState state, TideError *err)
{
	TideWal *wal;
	TideWalSlot slot;
	char lsn[TIDE_LSN_TEXT];
	bool ok;

	if (!tide_wal_open(p->info->conninfo, p->info->name, p->pipeline->drain, &wal, err))
		return false;
	ok = (state == SLOT_MISSING || drop_slot(p, wal, err)) &&
		 tide_wal_create_slot(wal, p->slot, false, -1, &slot, err);
	tide_wal_close(wal);
	if (!ok)
		return false;
	p->confirmed = slot.position;
	tide_lsn_format(slot.position, lsn);
	if (state != SLOT_MISSING || p->end > 0)
		tide_log(
			TIDE_LOG_ERROR,
			"slot \"%s\" was lost (%s); a new one begins at %s: regions that had not everything"
			" before that copy rows again",
			p->slot, why_lost[state], lsn);
	else
		tide_log(TIDE_LOG_INFO, "slot \"%s\" keeps rows from %s on", p->slot, lsn);
	return true;
}

static bool
ensure_slot(Publisher *p, TideError *err)
{
	SlotState state;

	return look_at_slot(p, &state, err) && (state == SLOT_GOOD || make_slot(p, state, err));
}

/* ---- runs ---- */

/* Runs of the same cluster and timeline have names that begin alike. */
static void
run_prefix(const Publisher *p, char *prefix, size_t size)
{
	snprintf(prefix, size, "%" PRIx64 "-%u-", p->system_id, (unsigned) p->timeline);
}

/* How far has this region published, by what the stream still has?  0: nothing there of use. */
static bool
find_published(Publisher *p, uint64_t *end, TideError *err)
{
	char prefix[TIDE_ROWS_RUN];
	TideRowsLabel label;
	uint64_t seq = 0;

	*end = 0;
	run_prefix(p, prefix, sizeof(prefix));
	if (!tide_rows_label_at(p->js, &p->stream, &seq, &label, err))
		return false;
	if (label.parts == 0 || strncmp(label.run, prefix, strlen(prefix)) != 0)
		return true;
	/* Part of a frame or of a transaction: that one has to come from its beginning. */
	*end = label.part == label.parts && !(label.flags & TIDE_FRAME_OPEN) ? label.end : label.start;
	return true;
}

static bool
find_publications(Publisher *p, char **publications, TideError *err)
{
	const char *values[2] = {p->destination, "main,low"}; /* one stream has everything */
	PGresult *res;

	*publications = NULL;
	if (!home_exec(p, tide_q_rows_publications, 2, values, &res, err))
		return false;
	if (!PQgetisnull(res, 0, 0))
		*publications = tide_strdup(PQgetvalue(res, 0, 0));
	PQclear(res);
	return *publications != NULL ||
		   tide_error(err, TIDE_ERR_UNAVAILABLE, "42704", "this region publishes no tables");
}

static bool
open_frames(Publisher *p, uint64_t start, const char *publications, TideError *err)
{
	const TideWalFramesOptions opts = {
		.conninfo = p->info->conninfo,
		.what = p->info->name,
		.stop = p->pipeline->drain,
		.slot = p->slot,
		.publications = publications,
		.region = p->info->region,
		.system_id = p->system_id,
		.timeline = p->timeline,
		.server_version = p->server_version,
		.start = start,
		.max_frame = (size_t) tide_nats_opt_int(p->options, TIDE_SIDE_LINK, "max_frame"),
		.level = (int) tide_nats_opt_int(p->options, TIDE_SIDE_LINK, "compression"),
	};

	for (int n = 1;; n++)
	{
		if (tide_wal_frames_open(&opts, &p->frames, err))
			return true;
		if (!in_use(err) || n == START_TRIES || !pause_for_slot(p, n, err))
			return false;
	}
}

/* Begins a run at start, which the slot still has. */
static bool
begin_run(Publisher *p, uint64_t start, TideError *err)
{
	char *publications;
	char prefix[TIDE_ROWS_RUN];
	char run[2 * TIDE_ROWS_RUN];
	char lsn[TIDE_LSN_TEXT];
	bool ok;

	tide_wal_frames_close(p->frames);
	p->frames = NULL;
	p->rewind_to = 0;
	if (!find_publications(p, &publications, err))
		return false;
	ok = open_frames(p, start, publications, err);
	free(publications);
	if (!ok)
		return false;
	tide_wal_frames_confirm(p->frames, p->least);
	tide_wal_frames_wal_end(p->frames, p->wal_end);
	run_prefix(p, prefix, sizeof(prefix));
	snprintf(run, sizeof(run), "%s%llx", prefix, tide_wall_us());
	tide_rows_send_begin(p->send, run);
	p->begun = start;
	p->begun_at = tide_monotonic_ms();
	tide_lsn_format(start, lsn);
	tide_log(TIDE_LOG_INFO, "run %s publishes rows from %s on", run, lsn);
	return true;
}

/* Behind what the stream has, if that is a continuation of what the slot has. */
static bool
begin(Publisher *p, TideError *err)
{
	uint64_t published;
	uint64_t start;
	char lsn[TIDE_LSN_TEXT];

	if (!find_published(p, &published, err))
		return false;
	if (published > p->wal_end)
	{
		tide_lsn_format(published, lsn);
		tide_log(TIDE_LOG_ERROR,
				 "rows up to %s were published, but this server's WAL does not go that far: it went"
				 " back in time, and regions that have those rows must copy again",
				 lsn);
		published = 0;
	}
	p->end = published;
	if (!ensure_slot(p, err))
		return false;
	start = published > p->confirmed ? published : p->confirmed;
	if (p->end < start)
		p->end = start;
	return begin_run(p, start, err);
}

/* ---- what destinations say ---- */

/* Knows a region that has announced itself since we last looked. */
static bool
look_up(Publisher *p, const char *region, Destination **destination, TideError *err)
{
	*destination = find_destination(p, region);
	if (*destination == NULL)
	{
		if (!read_spec(p, err))
			return false;
		*destination = find_destination(p, region);
	}
	return true;
}

static bool
answer(Publisher *p, natsMsg *msg, bool known, TideError *err)
{
	const char *domain = tide_js_domain(p->js);
	TideRowsAnswer told = {
		.from = p->confirmed,
		.end = p->end,
		.wal_end = p->wal_end > p->end ? p->wal_end : p->end,
		.system_id = p->system_id,
		.timeline = p->timeline,
		.known = known,
	};

	if (natsMsg_GetReply(msg) == NULL)
		return true;
	snprintf(told.domain, sizeof(told.domain), "%s", domain != NULL ? domain : "");
	return tide_rows_reply(p->nats, natsMsg_GetReply(msg), &told, err);
}

/*
 * A destination lacks what follows its position.  If this run began before that
 * and not long ago, it is on its way; else a new one begins there.
 */
static void
consider_rewind(Publisher *p, const TideRowsNote *note)
{
	char lsn[TIDE_LSN_TEXT];

	if (note->position < p->confirmed || note->position >= p->end ||
		(p->begun <= note->position && tide_monotonic_ms() - p->begun_at < REWIND_MS) ||
		(p->rewind_to != 0 && p->rewind_to <= note->position))
		return;
	tide_lsn_format(note->position, lsn);
	tide_log(TIDE_LOG_WARN, "region \"%s\" lacks rows from %s on; publishing them again",
			 note->region, lsn);
	tide_count(p->info->metrics, TIDE_REWINDS, 1);
	p->rewind_to = note->position;
}

static bool
take_note(Publisher *p, natsMsg *msg, Tag tag, TideError *err)
{
	TideRowsNote note;
	Destination *destination;

	if (!tide_rows_read_note(msg, &note))
		return true;
	if (!look_up(p, note.region, &destination, err))
		return false;
	/* A position that we never published is of another history: a server that was restored. */
	if (destination != NULL && note.position <= p->end)
	{
		if (tag == CONFIRM)
			destination->position = note.position;
		else if (tag == REWIND)
			consider_rewind(p, &note);
	}
	return tag == CONFIRM || answer(p, msg, destination != NULL, err);
}

static bool
take_mail(Publisher *p, TideError *err)
{
	natsMsg *msg;
	int tag;
	bool ok = tide_mailbox_alive(p->box, err);

	while (ok && tide_mailbox_take(p->box, &msg, &tag))
	{
		if (tag == ACK)
			ok = tide_rows_send_answer(p->send, msg, err);
		else
			ok = take_note(p, msg, (Tag) tag, err);
		tide_nats_discard(p->nats, msg);
	}
	return ok;
}

/* ---- what has its own pace ---- */

static bool
write_position(Publisher *p, Destination *destination, TideError *err)
{
	char lsn[TIDE_LSN_TEXT];
	const char *values[4] = {NULL, NULL, destination->region, lsn};
	PGresult *res;

	tide_lsn_format(destination->position, lsn);
	if (!home_exec(p, tide_q_relay_rows_confirm, 4, values, &res, err))
		return false;
	p->least = tide_pg_lsn(res, 0, 0);
	PQclear(res);
	destination->written = destination->position;
	destination->written_at = tide_monotonic_ms();
	return true;
}

/* Brings what destinations said to the database first, then to the slot. */
static bool
confirm(Publisher *p, TideError *err)
{
	long long now = tide_monotonic_ms();

	if (now < p->confirm_at)
		return true;
	p->confirm_at = now + CONFIRM_MS;
	for (size_t i = 0; i < p->n_destinations; i++)
	{
		Destination *destination = &p->destinations[i];

		if (destination->position == 0 || (destination->position == destination->written &&
										   now - destination->written_at < SEEN_MS))
			continue;
		if (!write_position(p, destination, err))
			return false;
		p->pipeline->progressed = true;
	}
	if (p->least > p->confirmed)
	{
		p->confirmed = p->least;
		tide_wal_frames_confirm(p->frames, p->least);
	}
	return true;
}

static bool
heartbeat(Publisher *p, TideError *err)
{
	long long now = tide_monotonic_ms();
	PGresult *res;

	if (now < p->heartbeat_at)
		return true;
	p->heartbeat_at = now + HEARTBEAT_MS;
	if (!home_exec(p, tide_q_rows_heartbeat, 0, NULL, &res, err))
		return false;
	p->wal_end = tide_pg_lsn(res, 0, 0);
	PQclear(res);
	tide_wal_frames_wal_end(p->frames, p->wal_end);
	return true;
}

/* The slot may be lost while it is in use, by max_slot_wal_keep_size; our stream ends then. */
static bool
look_around(Publisher *p, TideError *err)
{
	long long now = tide_monotonic_ms();
	uint64_t promised = p->confirmed;
	SlotState state;
	bool ok;

	if (now < p->look_at)
		return true;
	p->look_at = now + LOOK_MS;
	ok = read_spec(p, err) && look_at_slot(p, &state, err);
	if (p->confirmed < promised)
		p->confirmed = promised; /* on its way */
	return ok;
}

/* ---- publishing ---- */

/*
 * Whoever is idle sends at once; else a moment is waited for more to go into the
 * same frame, as each costs every destination a statement and a commit.
 */
static bool
may_send(Publisher *p)
{
	long long now = tide_monotonic_ms();

	if (tide_wal_frames_full(p->frames))
		return true;
	if (now < p->frame_at)
		return false;
	p->frame_at = now + (p->wal_end > p->end + BACKLOG_BYTES ? BACKLOG_GATHER_MS : GATHER_MS);
	return true;
}

static bool
feed(Publisher *p, TideError *err)
{
	TideFrame frame;
	bool have = true;

	while (have && !tide_rows_send_busy(p->send) && may_send(p))
	{
		if (!tide_wal_frames_next(p->frames, &frame, &have, err))
			return false;
		if (!have)
			return true;
		tide_rows_send_start(p->send, &frame);
		tide_count(p->info->metrics, TIDE_ROW_BYTES_RAW, frame.raw_bytes);
		tide_count(p->info->metrics, TIDE_ROW_BYTES_WIRE, frame.len);
		tide_count(p->info->metrics, TIDE_FRAMES_SENT, 1);
		if (frame.end > p->end)
			p->end = frame.end;
		if (!tide_rows_send_turn(p->send, err))
			return false;
	}
	return tide_rows_send_turn(p->send, err);
}

static bool
wait_for_something(Publisher *p, TideError *err)
{
	struct pollfd fds[4];
	int n = tide_wal_frames_poll(p->frames, fds);
	long long wait = p->frame_at - tide_monotonic_ms();

	fds[n++] = (struct pollfd){.fd = tide_mailbox_fd(p->box), .events = POLLIN};
	fds[n++] = (struct pollfd){.fd = tide_stop_fd(p->pipeline->drain), .events = POLLIN};
	if (wait < 0)
		wait = POLL_MS;
	if (poll(fds, (nfds_t) n, (int) wait) < 0 && errno != EINTR)
		return tide_error(err, TIDE_ERR_INTERNAL, "", "poll: %s", strerror(errno));
	return true;
}

static bool
turn(Publisher *p, TideError *err)
{
	if (!wait_for_something(p, err) || !take_mail(p, err) ||
		!tide_wal_frames_turn(p->frames, err) || !feed(p, err) || !heartbeat(p, err) ||
		!confirm(p, err) || !look_around(p, err))
		return false;
	if (p->rewind_to == 0 && !tide_rows_send_busy(p->send) && tide_wal_frames_heavy(p->frames))
		p->rewind_to = p->end;
	return p->rewind_to == 0 || begin_run(p, p->rewind_to, err);
}

/* By a connection of its own: ours may be broken, and gives up when it is asked to stop. */
static bool
drop_stream(const Publisher *p, TideError *err)
{
	TideRowsStream stream;
	TideNats *nats;
	TideJs *js = NULL;
	bool ok;

	tide_rows_stream(p->options, p->info->region, p->destination, true, &stream);
	if (!tide_nats_open(p->options, p->info->name, NULL, &nats, err))
		return false;
	ok = tide_js_open(nats, tide_nats_opt(p->options, "domain"), &js, err) &&
		 tide_provision_drop(js, &stream.want, err);
	tide_js_close(js);
	tide_nats_close(nats);
	return ok;
}

/*
 * The attempt is over.  If that is because nobody takes rows any more the stream goes, if it is
 * ours.  The database sees to the slot.
 */
static void
tidy_up(Publisher *p)
{
	const char *values[1] = {p->info->name};
	TideError err = {0};
	PGresult *res;
	bool wanted;

	if (p->options == NULL || !home_exec(p, tide_q_rows_published, 1, values, &res, &err))
		return;
	wanted = tide_pg_bool(res, 0, 0);
	PQclear(res);
	if (!wanted && !drop_stream(p, &err))
		tide_log_error(TIDE_LOG_WARN, &err,
					   "could not delete the stream that nobody reads any more");
}

/*
 * Somebody dropped a publication and it was made again: a server before 18
 * can't decode what was written in between, nor get past it.
 */
static bool
recover(Publisher *p, const TideError *why, TideError *err)
{
	if (strcmp(why->code, "42704") != 0 || strstr(why->message, "publication") == NULL)
		return false;
	tide_wal_frames_close(p->frames);
	p->frames = NULL;
	tide_error_clear(err);
	return make_slot(p, SLOT_USELESS, err) && begin_run(p, p->confirmed, err);
}

static bool
publish(Publisher *p, TideError *err)
{
	while (!tide_stop_requested(p->pipeline->drain))
	{
		TideError why;

		if (turn(p, err))
			continue;
		why = *err;
		if (!recover(p, &why, err))
			return false;
	}
	return true;
}

/* ---- opening ---- */

static bool
subscribe(Publisher *p, TideRowsTopic topic, Tag tag, TideError *err)
{
	char subject[TIDE_ROWS_SUBJECT];

	tide_rows_topic(topic, p->info->region, p->destination, subject, sizeof(subject));
	return tide_mailbox_subscribe(p->box, subject, tag, err);
}

static bool
open_stream(Publisher *p, TideError *err)
{
	TideStreamState state = {0};

	tide_rows_stream(p->options, p->info->region, p->destination, true, &p->stream);
	if (!tide_nats_open(p->options, p->info->name, p->pipeline->drain, &p->nats, err) ||
		!tide_js_open(p->nats, tide_nats_opt(p->options, "domain"), &p->js, err) ||
		!tide_provision_stream(p->js, &p->stream.want, &state, err))
		return false;
	tide_stream_clear(&state);
	return tide_mailbox_new(p->nats, &p->box, err) &&
		   tide_rows_send_new(p->info, p->js, &p->stream, p->box, ACK, &p->send, err) &&
		   subscribe(p, TIDE_ROWS_CONFIRM, CONFIRM, err) &&
		   subscribe(p, TIDE_ROWS_REWIND, REWIND, err) && subscribe(p, TIDE_ROWS_WHERE, WHERE, err);
}

static void
close_publisher(Publisher *p)
{
	tide_wal_frames_close(p->frames);
	tide_rows_send_free(p->send);
	tide_js_close(p->js);
	tide_nats_close(p->nats);
	tide_mailbox_free(p->box);
	tide_pg_close(p->pipeline->home);
	p->pipeline->home = NULL;
	free_destinations(p);
	free(p->slot);
	free(p->destination);
	json_decref(p->options);
}

bool
tide_rows_publish_run(TidePipeline *pipeline, TideError *err)
{
	Publisher p = {.pipeline = pipeline, .info = &pipeline->sink_info};
	bool ok = tide_pipeline_home(pipeline, err) && read_spec(&p, err) && identify(&p, err);

	ok = ok && open_stream(&p, err) && begin(&p, err);
	if (ok)
	{
		tide_pipeline_opened(pipeline);
		ok = publish(&p, err);
	}
	/* The pipeline may be gone before we were told to stop. */
	tidy_up(&p);
	close_publisher(&p);
	return ok;
}
