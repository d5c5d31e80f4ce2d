/*
 * link_watch.c
 *		What a link looks after while frames flow: heartbeats, lag, tables that appear, shapes.
 *
 * Owns: the questions to both sides that come again and again, each sent when it
 * is due and answered whenever that is; two connections of its own (control,
 * reports), so that none of it waits for an apply or makes one wait.
 *
 * Lag is measured by our own clock: from asking the origin for a heartbeat to
 * having applied the position it answered with.  While one is on its way, lag is
 * at least as long as that has been waiting.
 */
#include <stdlib.h>
#include <string.h>

#include "link_internal.h"
#include "link_leaving.h"
#include "link_shapes.h"
#include "log.h"
#include "mem.h"
#include "queries.h"

#define HEARTBEAT_MS 1000
#define HOLD_MS 500
#define TABLES_MS 2000
#define SLOT_MS 5000
#define CLASSES_MS 3000
#define AWAY_FIRST_MS 15000 /* an origin that is not needed is looked for after that long ... */
#define AWAY_MAX_MS 300000	/* ... growing to this: everything waits meanwhile */
#define LET_FINISH_MS 2000	/* what is asked when streaming ends may take so long */
#define REST_MS 5000 /* ... and what has to end before the origin is asked for something else */
#define MAX_BEATS 64 /* heartbeats on their way that are remembered */

/* Questions to the origin. */
typedef enum Question
{
	NONE,
	HEARTBEAT,
	LANES,
	TABLES,
	SLOT,
	CLASSES,
	SHAPES,
	LEAVING
} Question;

/* Questions to our own database. */
typedef enum QuestionHere
{
	NONE_HERE,
	TABLES_HERE,
	HOLD_HERE,
	CLASSES_HERE
} QuestionHere;

/* A heartbeat that is in the WAL there and not applied here. */
typedef struct Beat
{
	uint64_t position;
	long long sent_at;
} Beat;

struct TideLinkWatch
{
	TideLink *link;
	Question asked;			 /* under way on control */
	QuestionHere asked_here; /* under way on reports */

	long long heartbeat_at; /* when each is due */
	long long lanes_at;
	long long tables_at;
	long long hold_at;
	long long slot_at;
	long long classes_at;
	long long control_at;
	long long away_ms; /* pause before the next look for an origin that is away */

	char *lanes;		 /* what the origin's rows_lanes answered; NULL: nothing new */
	bool slot_in_danger; /* it has little room left at the origin */
	bool held;			 /* for more important lanes */
	TideTableList *here; /* the last answer; NULL: none, or used */
	bool ask_tables;	 /* something here is wanted: ask the origin */
	bool wanted;

	char *classes;	   /* the origin's last answer, to be told here; or NULL */
	char *differences; /* between its declarations and ours, as last logged; NULL: none */
	TideLinkShapes *shapes;
	TideLinkLeaving *leaving;

	long long beat_sent_at; /* of the one that is asked for */
	Beat beats[MAX_BEATS];
	size_t n_beats;
	long long last_beat_at; /* when the last heartbeat that has come was sent */
	long long latency_ms;	/* that it took */
};

TideLinkWatch *
tide_link_watch_new(TideLink *link)
{
	TideLinkWatch *watch = tide_zalloc(sizeof(*watch));
	long long now = tide_monotonic_ms();

	watch->link = link;
	watch->shapes = tide_link_shapes_new(link);
	watch->leaving = tide_link_leaving_new(link);
	watch->heartbeat_at = watch->slot_at = watch->classes_at = watch->last_beat_at = now;
	watch->away_ms = AWAY_FIRST_MS;
	watch->control_at = now + AWAY_FIRST_MS; /* it was tried just before streaming */
	watch->tables_at = watch->lanes_at = now + TABLES_MS;
	return watch;
}

void
tide_link_watch_free(TideLinkWatch *watch)
{
	if (watch == NULL)
		return;
	tide_tables_free(watch->here);
	free(watch->classes);
	free(watch->differences);
	free(watch->lanes);
	tide_link_shapes_free(watch->shapes);
	tide_link_leaving_free(watch->leaving);
	free(watch);
}

static void
let_finish(TidePg *pg)
{
	TideError ignored = {0};

	if (pg == NULL || tide_pg_pending(pg) == 0 ||
		tide_pg_finish(pg, LET_FINISH_MS, NULL, &ignored) || ignored.class != TIDE_ERR_TIMEOUT)
		return;
	tide_pg_cancel(pg);
}

void
tide_link_watch_end(TideLinkWatch *watch)
{
	let_finish(watch->link->reports);
	let_finish(watch->link->control);
	watch->asked_here = NONE_HERE;
	watch->asked = NONE;
}

bool
tide_link_watch_wanted(const TideLinkWatch *watch)
{
	return watch->wanted;
}

/* A slot that loses its WAL costs a copy of everything: worse than any lateness. */
bool
tide_link_watch_held(const TideLinkWatch *watch)
{
	return watch->held && !watch->slot_in_danger;
}

static int
poll_pending(TidePg *pg, struct pollfd *fd)
{
	if (pg == NULL || !tide_pg_pending(pg))
		return 0;
	fd->fd = PQsocket(tide_pg_conn(pg));
	fd->events = tide_pg_poll_events(pg);
	fd->revents = 0;
	return 1;
}

int
tide_link_watch_poll(const TideLinkWatch *watch, struct pollfd *fds)
{
	int n = poll_pending(watch->link->control, fds);

	return n + poll_pending(watch->link->reports, fds + n);
}

/* ---- lag ---- */

static void
note_beat(TideLinkWatch *watch, uint64_t position)
{
	TideLink *link = watch->link;

	if (position > link->origin.wal_end)
		link->origin.wal_end = position;
	if (link->transport->wal_end != NULL)
		link->transport->wal_end(link->source, position);
	/* With so many on their way a few more don't matter: the oldest tells the lag. */
	if (watch->n_beats < MAX_BEATS)
		watch->beats[watch->n_beats++] = (Beat){position, watch->beat_sent_at};
}

/* Takes off the heartbeats that have been applied. */
static void
take_beats(TideLinkWatch *watch, uint64_t applied, long long now)
{
	size_t n = 0;

	while (n < watch->n_beats && watch->beats[n].position <= applied)
	{
		watch->last_beat_at = watch->beats[n].sent_at;
		watch->latency_ms = now - watch->last_beat_at;
		tide_histogram_add(&watch->link->pipeline->spec.metrics->commit_to_delivered,
						   watch->latency_ms * 1000);
		n++;
	}
	watch->n_beats -= n;
	memmove(watch->beats, watch->beats + n, watch->n_beats * sizeof(Beat));
}

/* Nobody there answers: by the clock of the region that made the frame. */
static long long
lag_of_frames(const TideLink *link)
{
	return link->origin.built_us != 0 ? (tide_wall_us() - link->origin.built_us) / 1000 : 0;
}

static void
measure_lag(TideLinkWatch *watch)
{
	TideMetrics *metrics = watch->link->pipeline->spec.metrics;
	long long now = tide_monotonic_ms();
	uint64_t applied = tide_apply_position(watch->link->apply);
	uint64_t wal_end = watch->link->origin.wal_end;
	long long lag;

	take_beats(watch, applied, now);
	/* None has come for longer than one takes: that long we know nothing. */
	lag = now - watch->last_beat_at - HEARTBEAT_MS;
	if (watch->n_beats > 0 && now - watch->beats[0].sent_at > lag)
		lag = now - watch->beats[0].sent_at;
	if (lag < watch->latency_ms)
		lag = watch->latency_ms;
	if (watch->link->control == NULL)
		lag = lag_of_frames(watch->link);
	tide_gauge(metrics, TIDE_G_LAG_US, lag * 1000);
	tide_gauge(metrics, TIDE_G_LAG_BYTES, wal_end > applied ? (int64_t) (wal_end - applied) : 0);
}

/* ---- our own database: is anything wanted, and do we declare what the origin does? ---- */

static bool
ask_here(TideLinkWatch *watch, QuestionHere question, const char *sql, int n, const char *third,
		 TideError *err)
{
	TidePipeline *pipeline = watch->link->pipeline;
	char epoch[24];
	const char *values[4] = {pipeline->spec.name, epoch, third, watch->link->spec.lanes};

	snprintf(epoch, sizeof(epoch), "%lld", (long long) pipeline->spec.epoch);
	watch->asked_here = question;
	return tide_pg_send(watch->link->reports, sql, n, values, NULL, NULL, err);
}

/* Gives up an answer of the origin that is passed on. */
static void
forget(char **answer)
{
	free(*answer);
	*answer = NULL;
}

static bool
ask_what_is_due(TideLinkWatch *watch, TideError *err)
{
	long long now = tide_monotonic_ms();
	bool ok = true;

	if (now >= watch->tables_at)
	{
		ok = ask_here(watch, TABLES_HERE, tide_q_relay_link_tables, 4, watch->lanes, err);
		forget(&watch->lanes);
	}
	else if (now >= watch->hold_at)
		ok = ask_here(watch, HOLD_HERE, tide_q_relay_link_hold, 2, NULL, err);
	else if (watch->classes != NULL)
	{
		ok = ask_here(watch, CLASSES_HERE, tide_q_relay_link_classes, 3, watch->classes, err);
		forget(&watch->classes);
	}
	else if (tide_link_leaving_due_here(watch->leaving))
		ok = tide_link_leaving_ask_here(watch->leaving, err);
	else if (tide_link_shapes_due_here(watch->shapes))
		ok = tide_link_shapes_ask_here(watch->shapes, err);
	return ok;
}

static void
heard_tables(TideLinkWatch *watch, const PGresult *res)
{
	tide_tables_free(watch->here);
	watch->here = tide_tables_here(res);
	for (size_t i = 0; i < watch->here->n; i++)
		watch->ask_tables = watch->ask_tables || watch->here->tables[i].wanted;
	watch->tables_at = tide_monotonic_ms() + TABLES_MS;
}

/* Regions that declare a class differently may treat its rows differently: said once for each difference. */
static void
heard_differences(TideLinkWatch *watch, const PGresult *res)
{
	const char *found = PQgetisnull(res, 0, 0) ? NULL : PQgetvalue(res, 0, 0);
	const char *known = watch->differences;

	tide_gauge(watch->link->pipeline->spec.metrics, TIDE_G_CLASSES_DIFFER, found != NULL);
	if (known == NULL ? found == NULL : found != NULL && strcmp(found, known) == 0)
		return;
	if (found != NULL)
		tide_log(TIDE_LOG_WARN, "region=%s the regions' declarations differ: %s",
				 watch->link->spec.region, found);
	else
		tide_log(TIDE_LOG_INFO, "region=%s the regions' declarations agree",
				 watch->link->spec.region);
	free(watch->differences);
	watch->differences = found != NULL ? tide_strdup(found) : NULL;
}

static void
heard_hold(TideLinkWatch *watch, const PGresult *res)
{
	bool held = !PQgetisnull(res, 0, 0);

	if (held != watch->held)
		tide_log(TIDE_LOG_INFO, held ? "held back: %s" : "goes on%s",
				 held ? PQgetvalue(res, 0, 0) : "");
	watch->held = held;
	tide_gauge(watch->link->pipeline->spec.metrics, TIDE_G_HELD, tide_link_watch_held(watch));
	watch->hold_at = tide_monotonic_ms() + HOLD_MS;
}

static void
heard_here(TideLinkWatch *watch, const PGresult *res)
{
	switch (watch->asked_here)
	{
		case TABLES_HERE:
			heard_tables(watch, res);
			break;
		case HOLD_HERE:
			heard_hold(watch, res);
			break;
		case CLASSES_HERE:
			heard_differences(watch, res);
			break;
		case NONE_HERE:
			break;
	}
	watch->asked_here = NONE_HERE;
}

static bool
turn_here(TideLinkWatch *watch, TideError *err)
{
	PGresult *res;

	if (watch->asked_here == NONE_HERE && !tide_link_shapes_busy(watch->shapes) &&
		!tide_link_leaving_busy_here(watch->leaving))
		return ask_what_is_due(watch, err);
	if (tide_pg_finish(watch->link->reports, 0, &res, err))
	{
		if (watch->asked_here != NONE_HERE)
			heard_here(watch, res);
		else if (tide_link_leaving_busy_here(watch->leaving))
			tide_link_leaving_heard_here(watch->leaving, res);
		else
			tide_link_shapes_heard_here(watch->shapes, res);
		PQclear(res);
		return true;
	}
	if (err->class == TIDE_ERR_TIMEOUT && tide_pg_pending(watch->link->reports))
	{
		tide_error_clear(err);
		return true;
	}
	if (tide_link_leaving_busy_here(watch->leaving))
		return tide_link_leaving_refused(watch->leaving, err);
	return watch->asked_here == NONE_HERE && tide_link_shapes_refused(watch->shapes, err);
}

/* ---- the origin ---- */

static bool
ask_there(TideLinkWatch *watch, TideError *err)
{
	TideLink *link = watch->link;
	const char *slot[1] = {link->spec.slot};
	const char *destination[1] = {tide_link_destination(link)};
	long long now = tide_monotonic_ms();

	if (now >= watch->heartbeat_at)
	{
		watch->asked = HEARTBEAT;
		watch->beat_sent_at = now;
		watch->heartbeat_at = now + HEARTBEAT_MS;
		return tide_pg_send(link->control, tide_q_rows_heartbeat, 0, NULL, NULL, NULL, err);
	}
	if (now >= watch->lanes_at)
	{
		watch->asked = LANES;
		watch->lanes_at = now + TABLES_MS;
		return tide_pg_send(link->control, tide_q_rows_lanes, 0, NULL, NULL, NULL, err);
	}
	if (watch->ask_tables)
	{
		watch->asked = TABLES;
		watch->ask_tables = false;
		return tide_pg_send(link->control, tide_q_rows_tables, 1, destination, NULL, NULL, err);
	}
	if (tide_link_shapes_due_there(watch->shapes))
	{
		watch->asked = SHAPES;
		return tide_link_shapes_ask_there(watch->shapes, err);
	}
	if (tide_link_leaving_due_there(watch->leaving))
	{
		watch->asked = LEAVING;
		return tide_link_leaving_ask_there(watch->leaving, err);
	}
	if (now >= watch->slot_at && link->transport->needs_origin)
	{
		watch->asked = SLOT;
		watch->slot_at = now + SLOT_MS;
		return tide_pg_send(link->control, tide_q_rows_slot, 1, slot, NULL, NULL, err);
	}
	/* Once is enough: a low lane has the same origin. */
	if (now >= watch->classes_at && strstr(link->spec.lanes, "main") != NULL)
	{
		watch->asked = CLASSES;
		watch->classes_at = now + CLASSES_MS;
		return tide_pg_send(link->control, tide_q_rows_classes, 0, NULL, NULL, NULL, err);
	}
	return true;
}

/* What may still be written before the slot loses its WAL; NULL where nothing limits it. */
static void
heard_slot(TideLinkWatch *watch, const PGresult *res)
{
	int64_t retained = tide_pg_int64(res, 0, 5);

	watch->slot_in_danger = strcmp(PQgetvalue(res, 0, 2), "unreserved") == 0 ||
							(!PQgetisnull(res, 0, 6) && tide_pg_int64(res, 0, 6) < retained);
	tide_gauge(watch->link->pipeline->spec.metrics, TIDE_G_SLOT_RETAINED, retained);
}

static void
heard_there(TideLinkWatch *watch, const PGresult *res)
{
	TideTableList *there;
	size_t n;

	switch (watch->asked)
	{
		case HEARTBEAT:
			note_beat(watch, tide_pg_lsn(res, 0, 0));
			break;
		case LANES:
			free(watch->lanes);
			watch->lanes = tide_strdup(PQgetvalue(res, 0, 0));
			watch->tables_at = tide_monotonic_ms();
			break;
		case SLOT:
			if (PQntuples(res) == 1)
				heard_slot(watch, res);
			break;
		case TABLES:
			there = tide_tables_there(res);
			n = tide_tables_to_copy(watch->link, watch->here, there);
			watch->wanted = n > 0;
			tide_gauge(watch->link->pipeline->spec.metrics, TIDE_G_COPY_TABLES, (int64_t) n);
			tide_tables_free(there);
			break;
		case CLASSES:
			free(watch->classes);
			watch->classes = tide_strdup(PQgetvalue(res, 0, 0));
			break;
		case SHAPES:
			tide_link_shapes_heard_there(watch->shapes, res);
			break;
		case LEAVING:
			tide_link_leaving_heard_there(watch->leaving, res);
			break;
		case NONE:
			break;
	}
	watch->asked = NONE;
}

/* An origin with an older extension can't tell everything, say; rows go on coming all the same. */
static bool
is_no_matter_there(TideLinkWatch *watch, TideError *err)
{
	long long *due = NULL;

	if (watch->asked == LEAVING && tide_link_leaving_refused(watch->leaving, err))
	{
		watch->asked = NONE;
		return true;
	}
	if (watch->asked == CLASSES)
		due = &watch->classes_at;
	else if (watch->asked == LANES)
		due = &watch->lanes_at;
	else if (watch->asked == SHAPES)
		due = tide_link_shapes_next(watch->shapes);
	if (due == NULL || strcmp(err->code, "42883") != 0)
		return false;
	tide_error_clear(err);
	watch->asked = NONE;
	*due = tide_monotonic_ms() + AWAY_MAX_MS;
	return true;
}

/* Rows go on coming without the origin's database; only new tables have to wait for it. */
static bool
lost_origin(TideLinkWatch *watch, TideError *err)
{
	TideLink *link = watch->link;

	tide_link_at_origin(link, err);
	if (link->transport->needs_origin || err->class == TIDE_ERR_STOPPED)
		return false;
	tide_log_error(TIDE_LOG_WARN, err, "the origin's database can't be asked; rows go on coming");
	tide_error_clear(err);
	tide_pg_close(link->control);
	link->control = NULL;
	tide_link_leaving_lost_there(watch->leaving);
	watch->asked = NONE;
	watch->n_beats = 0;
	watch->away_ms = AWAY_FIRST_MS;
	watch->control_at = tide_monotonic_ms() + watch->away_ms;
	return true;
}

/* This waits until the origin answers or doesn't, so it is done ever more rarely. */
static bool
look_for_origin(TideLinkWatch *watch)
{
	long long now = tide_monotonic_ms();
	TideError ignored;

	if (now < watch->control_at)
		return false;
	if (tide_link_control(watch->link, &ignored))
	{
		watch->last_beat_at = tide_monotonic_ms();
		return true;
	}
	watch->away_ms = watch->away_ms * 2 < AWAY_MAX_MS ? watch->away_ms * 2 : AWAY_MAX_MS;
	watch->control_at = tide_monotonic_ms() + watch->away_ms;
	return false;
}

/* Takes what the origin answers within the time; no answer yet is no error. */
static bool
hear_there(TideLinkWatch *watch, int timeout_ms, TideError *err)
{
	PGresult *res;

	if (tide_pg_finish(watch->link->control, timeout_ms, &res, err))
	{
		heard_there(watch, res);
		PQclear(res);
		return true;
	}
	if (err->class == TIDE_ERR_TIMEOUT && tide_pg_pending(watch->link->control))
	{
		tide_error_clear(err);
		return true;
	}
	return is_no_matter_there(watch, err) || lost_origin(watch, err);
}

static bool
turn_there(TideLinkWatch *watch, TideError *err)
{
	if (watch->link->control == NULL && !look_for_origin(watch))
		return true;
	if (watch->asked != NONE)
		return hear_there(watch, 0, err);
	return ask_there(watch, err) || lost_origin(watch, err);
}

bool
tide_link_watch_rest(TideLinkWatch *watch, TideError *err)
{
	if (watch->asked != NONE && !hear_there(watch, REST_MS, err))
		return false;
	return watch->asked == NONE ||
		   tide_error(err, TIDE_ERR_TIMEOUT, "", "region \"%s\" has not answered within %d ms",
					  watch->link->spec.region, REST_MS);
}

bool
tide_link_watch_turn(TideLinkWatch *watch, TideError *err)
{
	measure_lag(watch);
	return turn_here(watch, err) && turn_there(watch, err);
}
