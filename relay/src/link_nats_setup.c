/*
 * link_nats_setup.c
 *		A link over NATS before it streams: being announced, gaps, removal.
 *
 * Owns: what the origin's database and the publisher are told and asked then, and
 * what a link's thread remembers from one attempt to the next.  Does not own:
 * streaming (link_nats.c).
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "link_nats.h"
#include "log.h"
#include "mem.h"
#include "queries.h"

#define ASK_MS 1500 /* how long the publisher's answer is waited for */

/*
 * ---- what is remembered ----
 *
 * One small entry for each link this process ever ran stays for good.
 */

typedef struct Kept
{
	char *pipeline;
	TideNatsMemory memory;
	struct Kept *next;
} Kept;

static pthread_mutex_t kept_lock = PTHREAD_MUTEX_INITIALIZER;
static Kept *kept_links;

TideNatsMemory *
tide_nats_link_memory(const TideLink *link)
{
	const char *name = link->pipeline->spec.name;
	Kept *kept;

	pthread_mutex_lock(&kept_lock);
	for (kept = kept_links; kept != NULL && strcmp(kept->pipeline, name) != 0; kept = kept->next)
		;
	if (kept == NULL)
	{
		kept = tide_zalloc(sizeof(*kept));
		kept->pipeline = tide_strdup(name);
		kept->next = kept_links;
		kept_links = kept;
	}
	pthread_mutex_unlock(&kept_lock);
	return &kept->memory;
}

/* ---- asking the publisher ---- */

const char *
tide_nats_link_region(const TideLink *link)
{
	return link->pipeline->source_info.region;
}

void
tide_nats_link_note(const TideLink *link, uint64_t position, TideRowsNote *note)
{
	note->position = position;
	snprintf(note->region, sizeof(note->region), "%s", tide_nats_link_region(link));
}

bool
tide_nats_link_where(TideLink *link, TideNats *nats, TideRowsAnswer *answer, bool *heard,
					 TideError *err)
{
	char reply[TIDE_ROWS_SUBJECT];
	natsSubscription *sub;
	natsMsg *msg = NULL;
	TideRowsNote note;
	TideError local = {0};

	*heard = false;
	tide_nats_link_note(link, link->spec.position > 0 ? link->spec.position : 1, &note);
	snprintf(reply, sizeof(reply), "%s.where", tide_nats_inbox(nats));
	if (!tide_nats_subscribe(nats, reply, &sub, err) ||
		!tide_rows_tell(nats, TIDE_ROWS_WHERE, link->spec.region, tide_link_destination(link),
						reply, &note, err))
		return false;
	tide_nats_flush(nats);
	if (!tide_nats_next(nats, sub, ASK_MS, &msg, &local))
	{
		if (strcmp(local.code, "503") == 0)
			return true;
		if (err != NULL)
			*err = local;
		return false;
	}
	*heard = msg != NULL && tide_rows_read_answer(msg, answer);
	natsMsg_Destroy(msg);
	return true;
}

/* ---- the link's set-up ---- */

bool
tide_nats_link_connect(TideLink *link, TideNats **nats, TideError *err)
{
	return tide_nats_open(link->spec.options, link->pipeline->spec.name, link->pipeline->drain,
						  nats, err);
}

/* The publisher's options: ours, with its side of those that differ. */
static char *
publisher_options(const TideLink *link)
{
	static const char *const ours[] = {"url",		"peer_url",		"domain", "peer_domain",
									   "copy",		"copy_workers", "resync", "paused",
									   "transport", "inbox_prefix"};
	json_t *options = json_deep_copy(link->spec.options);
	json_t *url = json_object_get(link->spec.options, "peer_url");
	json_t *domain = json_object_get(link->spec.options, "peer_domain");
	char *text;

	if (url == NULL)
		url = json_object_get(link->spec.options, "url");
	if (domain == NULL)
		domain = json_object_get(link->spec.options, "domain");
	for (size_t i = 0; i < sizeof(ours) / sizeof(ours[0]); i++)
		(void) json_object_del(options, ours[i]);
	(void) json_object_set(options, "url", url);
	if (domain != NULL)
		(void) json_object_set(options, "domain", domain);
	text = json_dumps(options, JSON_COMPACT);
	json_decref(options);
	return text;
}

/* The stream that is for us alone, or the one for all. */
static const char *
stream_of(const TideLink *link, bool own)
{
	return own ? tide_nats_link_region(link) : NULL;
}

/*
 * Our consumer, and the stream if nobody else reads it and it is a copy, or was for us alone:
 * that one's publisher may not be there any more to delete it.
 */
static bool
tidy_broker(TideLink *link, bool own, TideError *err)
{
	TideRowsStream stream;
	TideStreamState state = {0};
	TideNats *nats;
	TideJs *js = NULL;
	TideError ignored;
	bool ok;

	if (!tide_nats_link_connect(link, &nats, err))
		return false;
	tide_rows_stream(link->spec.options, link->spec.region, stream_of(link, own), false, &stream);
	ok = tide_js_open(nats, tide_nats_opt(link->spec.options, "domain"), &js, err);
	if (ok)
		(void) tide_js_requestf(js, NULL, NULL, &ignored, "CONSUMER.DELETE.%s.tide_%s", stream.name,
								tide_nats_link_region(link));
	ok = ok && tide_stream_load(js, stream.name, &state, err);
	if (ok && state.exists && (own || !tide_stream_captures(&state, stream.filter)) &&
		tide_js_u64(json_object_get(state.info, "state"), "consumer_count") == 0)
		ok = tide_provision_drop(js, &stream.want, err);
	tide_stream_clear(&state);
	tide_js_close(js);
	tide_nats_close(nats);
	return ok;
}

static void
tidy(TideLink *link, bool own)
{
	TideError err = {0};

	if (!tidy_broker(link, own, &err))
		tide_log_error(TIDE_LOG_WARN, &err, "a consumer on the broker stays behind");
}

/*
 * position 0: from now on.  *gone: the origin does not keep what follows position.  If we were in
 * another stream, nothing of ours stays with it.
 */
static bool
announce(TideLink *link, uint64_t position, bool *gone, TideError *err)
{
	char lsn[TIDE_LSN_TEXT];
	char *options = publisher_options(link);
	const char *values[4] = {tide_nats_link_region(link), position > 0 ? lsn : NULL, "nats",
							 options};
	PGresult *res = NULL;
	bool moved;
	bool ok;

	tide_lsn_format(position, lsn);
	ok = tide_pg_exec(link->control, tide_q_rows_announce, 4, values, &res, err);
	moved = ok && tide_pg_bool(res, 0, 0);
	free(options);
	if (ok)
		PQclear(res);
	if (moved)
		tidy(link, tide_link_destination(link) == NULL);
	*gone = !ok && err != NULL && strcmp(err->code, "TD011") == 0;
	return ok || tide_link_at_origin(link, err);
}

/*
 * Once we are announced nothing is confirmed to the slot that is not before the
 * end of the WAL at that time: what commits behind the end as it is now comes.
 */
bool
tide_nats_link_reserve(TideLink *link, uint64_t *position, TideError *err)
{
	const char *values[1] = {NULL};
	PGresult *res;
	bool gone;

	if (!tide_link_control(link, err) || !announce(link, 0, &gone, err))
		return false;
	if (!tide_pg_exec(link->control, tide_q_rows_identify, 1, values, &res, err))
		return tide_link_at_origin(link, err);
	*position = tide_pg_lsn(res, 0, 5);
	PQclear(res);
	return true;
}

/*
 * The publisher does not wait for us: somebody made us leave, it lost its memory, or we want
 * another stream.
 */
static bool
announce_again(TideLink *link, char *gap, size_t gap_size, TideError *err)
{
	TideError local = {0};
	bool gone = false;

	if (tide_link_control(link, &local) && announce(link, link->spec.position, &gone, &local))
		return true;
	if (gone)
		snprintf(gap, gap_size, "%s", local.message);
	else if (tide_error_retryable(&local))
		tide_log_error(
			TIDE_LOG_WARN, &local,
			"the publisher does not answer for this region, and its database can't be told");
	else
	{
		*err = local;
		return false;
	}
	return true;
}

static bool
judge_answer(TideLink *link, const TideRowsAnswer *answer, char *gap, size_t gap_size,
			 TideError *err)
{
	char from[TIDE_LSN_TEXT];
	char position[TIDE_LSN_TEXT];

	tide_lsn_format(answer->from, from);
	tide_lsn_format(link->spec.position, position);
	if (answer->system_id != link->spec.system_id)
	{
		tide_error(err, TIDE_ERR_CONFIG, "TD012",
				   "region \"%s\" is another database cluster than the one rows were taken from",
				   link->spec.region);
		tide_error_hint(err,
						"if that is meant to be: SELECT tide.link_resync('%s') copies its rows"
						" again",
						link->spec.region);
		return false;
	}
	if (answer->timeline != link->spec.timeline)
		snprintf(gap, gap_size, "the server is on timeline %u, was %u: a standby was promoted",
				 (unsigned) answer->timeline, (unsigned) link->spec.timeline);
	else if (answer->from > link->spec.position)
		snprintf(gap, gap_size,
				 "the origin keeps what follows %s, this database has what is before %s", from,
				 position);
	else if (answer->wal_end < link->spec.position)
	{
		tide_lsn_format(answer->wal_end, from);
		snprintf(gap, gap_size,
				 "the origin went back in time: its WAL ends at %s, rows up to %s were taken", from,
				 position);
	}
	else if (!answer->known)
		return announce_again(link, gap, gap_size, err);
	return true;
}

bool
tide_nats_link_check(TideLink *link, char *gap, size_t gap_size, TideError *err)
{
	TideNatsMemory *memory = tide_nats_link_memory(link);
	TideRowsAnswer answer;
	TideNats *nats;
	bool heard;
	bool ok;

	if (memory->hopeless == link->spec.position)
	{
		snprintf(
			gap, gap_size,
			"the publisher was asked again and again for what is missing, and it did not come");
		memory->hopeless = 0;
		return true;
	}
	if (!tide_nats_link_connect(link, &nats, err))
		return false;
	ok = tide_nats_link_where(link, nats, &answer, &heard, err);
	tide_nats_close(nats);
	/* Silence: its relay is away, or nothing is published where we listen now. */
	if (ok)
		ok = heard ? judge_answer(link, &answer, gap, gap_size, err)
				   : announce_again(link, gap, gap_size, err);
	return ok;
}

bool
tide_nats_link_release(TideLink *link, TideError *err)
{
	const char *values[1] = {tide_nats_link_region(link)};
	bool own = tide_link_destination(link) != NULL;
	PGresult *res;

	if (!tide_link_control(link, err))
		return false;
	if (!tide_pg_exec(link->control, tide_q_rows_leave, 1, values, &res, err))
		return tide_link_at_origin(link, err);
	/* The option may have been changed since. */
	if (!PQgetisnull(res, 0, 0))
		own = tide_pg_bool(res, 0, 0);
	PQclear(res);
	tidy(link, own);
	return true;
}
