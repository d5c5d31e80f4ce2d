/*
 * confirm.c
 *		Asking destinations what they have committed, and sending again what they lack.
 *
 * Owns: one question at a time about the oldest events that a broker accepted
 * and no destination has confirmed; who has answered it; when to ask again and
 * when to send again.  Does not own: the wire (the sink), reading (the source).
 *
 * A broker can lose what it acknowledged: it may not sync to disk, its store
 * may be wiped, a stream deleted.  So an event counts as confirmed when every
 * region that answers at all says that it has committed it.  Until one does,
 * nothing is confirmed and the broker's word has to do.
 *
 * Sending again is always safe, since inboxes drop what they have.  It is held
 * back for a while, because what is missing is usually on its way.
 */
#include <stdlib.h>
#include <string.h>

#include "log.h"
#include "mem.h"
#include "pipeline_internal.h"
#include "queries.h"

#define QUESTION_SIZE 2048	/* events per question */
#define RESEND_SLICE 64		/* events per repetition: bounds memory */
#define FIRST_REPEAT_MS 250 /* pause before the same question again, growing … */
#define MAX_REPEAT_MS 5000	/* … to this */
#define PATIENCE_MS 10000	/* how long something may be missing before it is sent again */
#define STUCK_MS 30000		/* how long what "waits in the broker" may not get less */
#define MAX_REGIONS 64

typedef struct Region
{
	char *name;
	bool has_all;		/* answered the current question with nothing missing */
	size_t n_missing;	/* the least it ever answered ... */
	long long moved_ms; /* ... and when */
} Region;

struct TideConfirmation
{
	TideBatch *question; /* ids; n_events == 0: none is open */
	long long opened_ms; /* when the question was first asked, or events last sent again */
	long long ask_again_ms;
	int repeat_ms;
	Region regions[MAX_REGIONS];
	int n_regions;
	TideBatch *again; /* events to be sent again */
	TideArena *arena; /* answers of one step */
};

/* Regions that answered in the past are waited for, also after a restart. */
static bool
load_regions(TidePipeline *pipeline, TideConfirmation *c, TideError *err)
{
	const char *values[1] = {pipeline->spec.name};
	PGresult *res;

	if (!tide_pipeline_home(pipeline, err) ||
		!tide_pg_exec(pipeline->home, tide_q_relay_destinations, 1, values, &res, err))
		return false;
	while (c->n_regions < PQntuples(res) && c->n_regions < MAX_REGIONS)
	{
		c->regions[c->n_regions].name = tide_strdup(PQgetvalue(res, c->n_regions, 0));
		c->n_regions++;
	}
	PQclear(res);
	return true;
}

static bool
exchange_store(TidePipeline *pipeline, const char *store, bool *changed, TideError *err)
{
	char epoch[24];
	const char *values[3] = {pipeline->spec.name, epoch, store};
	PGresult *res;

	snprintf(epoch, sizeof(epoch), "%lld", (long long) pipeline->spec.epoch);
	if (!tide_pg_exec(pipeline->home, tide_q_relay_store, 3, values, &res, err))
		return false;
	if (changed != NULL)
		*changed = !PQgetisnull(res, 0, 0);
	PQclear(res);
	return true;
}

/*
 * A stream that was deleted took what it had accepted with it, and the one made
 * in its place has room for later events: sent first, they would overtake the
 * lost ones of their key.  So reading goes back before anything else is sent,
 * and only then is the new stream's name remembered.
 */
static bool
check_store(TidePipeline *pipeline, TideError *err)
{
	const char *store = pipeline->sink_ops->store ? pipeline->sink_ops->store(pipeline->sink)
												  : NULL;
	bool changed;

	if (store == NULL || pipeline->source_ops->rewind == NULL)
		return true;
	if (!exchange_store(pipeline, store, &changed, err))
		return false;
	return !changed || (pipeline->source_ops->rewind(pipeline->source, err) &&
						exchange_store(pipeline, store, NULL, err));
}

bool
tide_confirmation_open(TidePipeline *pipeline, TideConfirmation **confirmation, TideError *err)
{
	TideConfirmation *c = tide_zalloc(sizeof(*c));

	*confirmation = c;
	c->question = tide_batch_new();
	c->again = tide_batch_new();
	c->arena = tide_arena_new();
	return load_regions(pipeline, c, err) && check_store(pipeline, err);
}

void
tide_confirmation_free(TideConfirmation *c)
{
	if (c == NULL)
		return;
	for (int i = 0; i < c->n_regions; i++)
		free(c->regions[i].name);
	tide_batch_free(c->question);
	tide_batch_free(c->again);
	tide_arena_free(c->arena);
	free(c);
}

/* A question is new to it. */
static void
begin_waiting(Region *region)
{
	region->has_all = false;
	region->n_missing = SIZE_MAX;
	region->moved_ms = tide_monotonic_ms();
}

/* A region that answers for the first time is remembered before its word counts. */
static bool
add_region(TidePipeline *pipeline, const char *name, TideError *err)
{
	TideConfirmation *c = pipeline->confirmation;
	char epoch[24];
	const char *values[3] = {pipeline->spec.name, epoch, name};

	if (c->n_regions == MAX_REGIONS)
		return tide_error(err, TIDE_ERR_CONFIG, "", "more than %d regions confirm pipeline \"%s\"",
						  MAX_REGIONS, pipeline->spec.name);
	snprintf(epoch, sizeof(epoch), "%lld", (long long) pipeline->spec.epoch);
	if (!tide_pipeline_home(pipeline, err) ||
		!tide_pg_exec(pipeline->home, tide_q_relay_add_destination, 3, values, NULL, err))
		return false;
	tide_log(TIDE_LOG_INFO, "region \"%s\" confirms this pipeline's events from now on", name);
	begin_waiting(&c->regions[c->n_regions]);
	c->regions[c->n_regions++].name = tide_strdup(name);
	return true;
}

static Region *
find_region(TideConfirmation *c, TideSlice name)
{
	for (int i = 0; i < c->n_regions; i++)
	{
		if (strcmp(c->regions[i].name, name.ptr) == 0)
			return &c->regions[i];
	}
	return NULL;
}

static bool
ask(TidePipeline *pipeline, TideError *err)
{
	TideConfirmation *c = pipeline->confirmation;

	c->ask_again_ms = tide_monotonic_ms() + c->repeat_ms;
	c->repeat_ms = c->repeat_ms * 2 < MAX_REPEAT_MS ? c->repeat_ms * 2 : MAX_REPEAT_MS;
	return pipeline->sink_ops->ask(pipeline->sink, c->question, err);
}

/* Opens a question about the oldest unconfirmed events, if there are any. */
static bool
open_question(TidePipeline *pipeline, TideError *err)
{
	TideConfirmation *c = pipeline->confirmation;

	if (!pipeline->source_ops->unconfirmed(pipeline->source, c->question, QUESTION_SIZE, err))
		return false;
	tide_gauge(pipeline->spec.metrics, TIDE_G_UNCONFIRMED, (int64_t) c->question->n_events);
	if (c->question->n_events == 0)
		return true;
	for (int i = 0; i < c->n_regions; i++)
		begin_waiting(&c->regions[i]);
	c->opened_ms = tide_monotonic_ms();
	c->repeat_ms = FIRST_REPEAT_MS;
	return ask(pipeline, err);
}

/* All known regions have everything: the question is settled. */
static bool
settle(TidePipeline *pipeline, TideError *err)
{
	TideConfirmation *c = pipeline->confirmation;

	for (int i = 0; i < c->n_regions; i++)
	{
		if (!c->regions[i].has_all)
			return true;
	}
	tide_count(pipeline->spec.metrics, TIDE_EVENTS_CONFIRMED, c->question->n_events);
	if (!pipeline->source_ops->settled(pipeline->source, c->question->position, err))
		return false;
	tide_batch_reset(c->question);
	return true;
}

static bool
send_again(TidePipeline *pipeline, const TideAnswer *answer, TideError *err)
{
	TideConfirmation *c = pipeline->confirmation;

	tide_log(TIDE_LOG_WARN,
			 "region \"%s\" lacks %zu events that the broker had accepted; sending them again",
			 answer->region.ptr, answer->n_missing);
	for (size_t i = 0; i < answer->n_missing; i += RESEND_SLICE)
	{
		size_t left = answer->n_missing - i;

		if (!pipeline->source_ops->reread(
				pipeline->source, c->question->position, answer->missing + i,
				left < RESEND_SLICE ? left : RESEND_SLICE, c->again, err) ||
			(c->again->n_events > 0 && !tide_deliver_again(pipeline, c->again, err)))
			return false;
	}
	c->opened_ms = tide_monotonic_ms();
	return true;
}

static bool
take_answer(TidePipeline *pipeline, const TideAnswer *answer, TideError *err)
{
	TideConfirmation *c = pipeline->confirmation;
	Region *region = find_region(c, answer->region);
	long long now = tide_monotonic_ms();

	if (region == NULL)
	{
		if (!add_region(pipeline, answer->region.ptr, err))
			return false;
		region = find_region(c, answer->region);
	}
	/* An answer to an earlier question tells nothing about this one. */
	if (c->question->n_events == 0 || strcmp(answer->position.ptr, c->question->position.ptr) != 0)
		return true;
	if (answer->n_missing == 0)
	{
		region->has_all = true;
		return settle(pipeline, err);
	}
	if (answer->n_missing < region->n_missing)
	{
		region->n_missing = answer->n_missing;
		region->moved_ms = now;
	}
	/*
	 * What waits in the broker for that region is not lost, as long as it arrives.  A purge can
	 * leave a count behind that stays: that nothing arrives tells more than the broker does.
	 */
	if ((answer->pending > 0 && now - region->moved_ms < STUCK_MS) ||
		now - c->opened_ms < PATIENCE_MS)
		return true;
	region->moved_ms = now;
	return send_again(pipeline, answer, err);
}

static bool
take_answers(TidePipeline *pipeline, TideError *err)
{
	TideConfirmation *c = pipeline->confirmation;
	bool got = true;

	tide_arena_reset(c->arena);
	while (got)
	{
		TideAnswer answer = {0};

		if (!pipeline->sink_ops->answer(pipeline->sink, c->arena, &answer, &got, 0, err))
			return false;
		if (got && !take_answer(pipeline, &answer, err))
			return false;
	}
	return true;
}

bool
tide_confirmation_step(TidePipeline *pipeline, TideError *err)
{
	TideConfirmation *c = pipeline->confirmation;

	if (!take_answers(pipeline, err))
		return false;
	if (c->question->n_events == 0)
		return open_question(pipeline, err);
	if (tide_monotonic_ms() >= c->ask_again_ms)
		return ask(pipeline, err);
	return true;
}
