/*
 * nats_provision.c
 *		The stream a pipeline needs: made, completed or verified.
 *
 * Owns: see nats_provision.h.
 *
 * JetStream has no compare-and-set for a stream's configuration: of two
 * updates made from the same reading, the later one wins and the earlier one's
 * addition is gone.  Within a process a lock prevents that; across processes
 * everybody reads again after writing, and pipelines look from time to time
 * whether what they need is still there.
 */
#include "nats_provision.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mem.h"
#include "tide_template.h"

#define TRIES 6
#define PLACEHOLDER "tide-placeholder"
#define NS_PER_MS INT64_C(1000000)
#define NS_PER_US 1000
#define SEQUENCE_GAP 1000000 /* more than comes between two looks at a stream */

static pthread_mutex_t provision_lock = PTHREAD_MUTEX_INITIALIZER;

/* The highest sequence number this process has seen of each stream, to know if it is deleted. */
typedef struct Seen
{
	char *name; /* domain and stream */
	uint64_t last_seq;
	struct Seen *next;
} Seen;

static pthread_mutex_t seen_lock = PTHREAD_MUTEX_INITIALIZER;
static Seen *seen_streams;

/*
 * What is wanted
 */

const char *
tide_provision_template(const json_t *config)
{
	const char *text = tide_nats_opt(config, "subject");

	if (text == NULL)
		text = tide_nats_opt(config, "subject_template");
	if (text == NULL)
		text = tide_option_find(TIDE_SIDE_SINK, "nats", "subject_template")->default_text;
	return text;
}

static bool
read_template(const char *text, const char *outbox, const char *region, TideProvision *want,
			  TideError *err)
{
	TideTemplate tpl;
	TideTemplateError te;
	TideBuf subject;

	if (!tide_template_parse(&tpl, text, strlen(text), &te))
	{
		tide_error(err, TIDE_ERR_CONFIG, "", "\"subject_template\" is no template: %s", te.message);
		tide_error_hint(err, "%s", te.hint);
		return false;
	}
	tide_buf_init_fixed(&subject, want->captures, sizeof(want->captures));
	if (!tide_template_stream_subject(&tpl, outbox, region, &subject))
		return tide_error(err, TIDE_ERR_CONFIG, "",
						  "\"subject_template\" makes subjects of more than"
						  " %d bytes",
						  TIDE_SUBJECT_MAX);
	return true;
}

bool
tide_provision_read(const json_t *config, const char *outbox, const char *region,
					TideProvision *want, TideError *err)
{
	TideSide side = outbox != NULL ? TIDE_SIDE_SINK : TIDE_SIDE_SOURCE;

	*want = (TideProvision){0};
	want->stream = tide_nats_opt(config, "stream");
	want->allowed = tide_nats_opt_bool(config, side, "provision");
	want->max_age_ms = tide_nats_opt_ms(config, side, "max_age");
	want->max_bytes = tide_nats_opt_int(config, side, "max_bytes");
	want->duplicate_window_ms = tide_nats_opt_ms(config, side, "duplicate_window");
	want->replicas = tide_nats_opt_int(config, side, "replicas");
	if (want->stream == NULL)
		return tide_error(err, TIDE_ERR_CONFIG, "", "the configuration has no \"stream\"");
	if (outbox != NULL)
		return read_template(tide_provision_template(config), outbox, region, want, err);
	want->reads = tide_nats_opt(config, "subject");
	want->peer_domain = tide_nats_opt(config, "peer_domain");
	if (want->reads == NULL)
		return tide_error(err, TIDE_ERR_CONFIG, "", "the configuration has no \"subject\"");
	return true;
}

/*
 * Looking at a stream
 */

void
tide_stream_clear(TideStreamState *state)
{
	json_decref(state->info);
	*state = (TideStreamState){0};
}

static json_t *
config_of(const TideStreamState *state)
{
	return json_object_get(state->info, "config");
}

static void
state_fill(TideStreamState *state, json_t *info)
{
	json_t *numbers = json_object_get(info, "state");
	const char *created = json_string_value(json_object_get(info, "created"));
	const char *description;

	*state = (TideStreamState){.exists = true, .info = info};
	snprintf(state->created, sizeof(state->created), "%s", created != NULL ? created : "");
	state->first_seq = tide_js_u64(numbers, "first_seq");
	state->last_seq = tide_js_u64(numbers, "last_seq");
	state->messages = tide_js_u64(numbers, "messages");
	state->duplicate_window_us = (int64_t) (tide_js_u64(config_of(state), "duplicate_window") /
											NS_PER_US);
	description = json_string_value(json_object_get(config_of(state), "description"));
	state->ours = description != NULL &&
				  strncmp(description, TIDE_NATS_MADE_BY, strlen(TIDE_NATS_MADE_BY)) == 0;
}

/* Takes note of last_seq; returns the highest one noted.  One small entry for each stream stays for good. */
static uint64_t
highest_seen(TideJs *js, const char *stream, uint64_t last_seq)
{
	const char *domain = tide_js_domain(js);
	char *name = tide_printf("%s %s", domain != NULL ? domain : "", stream);
	Seen *seen;

	pthread_mutex_lock(&seen_lock);
	for (seen = seen_streams; seen != NULL && strcmp(seen->name, name) != 0; seen = seen->next)
		;
	if (seen == NULL)
	{
		seen = tide_zalloc(sizeof(*seen));
		seen->name = name;
		seen->next = seen_streams;
		seen_streams = seen;
		name = NULL;
	}
	if (last_seq > seen->last_seq)
		seen->last_seq = last_seq;
	last_seq = seen->last_seq;
	pthread_mutex_unlock(&seen_lock);
	free(name);
	return last_seq;
}

bool
tide_stream_load(TideJs *js, const char *stream, TideStreamState *state, TideError *err)
{
	json_t *info;
	TideError local;

	*state = (TideStreamState){0};
	if (!tide_js_requestf(js, NULL, &info, &local, "STREAM.INFO.%s", stream))
	{
		if (strcmp(local.code, TIDE_JS_STREAM_NOT_FOUND) == 0)
			return true;
		if (err != NULL)
			*err = local;
		return false;
	}
	state_fill(state, info);
	(void) highest_seen(js, stream, state->last_seq);
	return true;
}

bool
tide_stream_captures(const TideStreamState *state, const char *subject)
{
	json_t *subjects = json_object_get(config_of(state), "subjects");
	size_t i;
	json_t *item;

	json_array_foreach (subjects, i, item)
	{
		if (tide_subject_covers(json_string_value(item), subject))
			return true;
	}
	return false;
}

/* The first subject the stream captures itself that overlaps subject; NULL: none. */
static const char *
captured_overlap(const json_t *config, const char *subject)
{
	json_t *subjects = json_object_get(config, "subjects");
	size_t i;
	json_t *item;

	json_array_foreach (subjects, i, item)
	{
		if (tide_subject_overlaps(json_string_value(item), subject))
			return json_string_value(item);
	}
	return NULL;
}

static const char *
source_filter(const json_t *source)
{
	const char *filter = json_string_value(json_object_get(source, "filter_subject"));

	return filter != NULL && filter[0] != '\0' ? filter : ">";
}

static const char *
source_api(const json_t *source)
{
	return json_string_value(json_object_get(json_object_get(source, "external"), "api"));
}

/* Is there a source that brings subject; from the API named, if api is not NULL? */
static bool
has_source(const json_t *config, const char *api, const char *subject)
{
	json_t *sources = json_object_get(config, "sources");
	size_t i;
	json_t *source;

	json_array_foreach (sources, i, source)
	{
		const char *from = source_api(source);

		if (api != NULL && (from == NULL || strcmp(from, api) != 0))
			continue;
		if (tide_subject_covers(source_filter(source), subject))
			return true;
	}
	return false;
}

bool
tide_stream_sources(const TideStreamState *state, const char *subject)
{
	return has_source(config_of(state), NULL, subject);
}

bool
tide_stream_touches(const TideStreamState *state, const char *subject)
{
	json_t *sources = json_object_get(config_of(state), "sources");
	size_t i;
	json_t *source;

	if (captured_overlap(config_of(state), subject) != NULL)
		return true;
	json_array_foreach (sources, i, source)
	{
		if (tide_subject_overlaps(source_filter(source), subject))
			return true;
	}
	return false;
}

uint64_t
tide_stream_source_lag(const TideStreamState *state, int64_t stale_ms)
{
	json_t *sources = json_object_get(state->info, "sources");
	uint64_t lag = 0;
	size_t i;
	json_t *source;

	json_array_foreach (sources, i, source)
	{
		int64_t active = json_integer_value(json_object_get(source, "active"));

		lag += tide_js_u64(source, "lag");
		if (active < 0 || active > stale_ms * NS_PER_MS)
			lag++; /* not heard of lately: who knows what waits there */
	}
	return lag;
}

/*
 * Making and changing
 */

static json_t *
new_source(const TideProvision *want, const char *domain, const char *filter)
{
	char api[300];

	snprintf(api, sizeof(api), "$JS.%s.API", domain);
	return json_pack("{s:s, s:s, s:{s:s, s:s}}", "name", want->stream, "filter_subject", filter,
					 "external", "api", api, "deliver", "");
}

/*
 * With max_bytes a full stream refuses (discard new): messages nobody has read
 * are never dropped to make room, the outbox keeps what does not fit.
 */
static json_t *
new_config(const TideProvision *want)
{
	int64_t window = want->duplicate_window_ms;

	if (want->max_age_ms > 0 && window > want->max_age_ms)
		window = want->max_age_ms; /* the server insists */
	return json_pack("{s:s, s:s, s:[], s:[], s:s, s:s, s:s, s:I, s:I, s:I, s:I}", "name",
					 want->stream, "description", TIDE_NATS_MADE_BY, "subjects", "sources",
					 "storage", "file", "retention", "limits", "discard",
					 want->max_bytes > 0 && !want->drop_old ? "new" : "old", "max_bytes",
					 (json_int_t) (want->max_bytes > 0 ? want->max_bytes : -1), "max_age",
					 (json_int_t) want->max_age_ms * NS_PER_MS, "duplicate_window",
					 (json_int_t) window * NS_PER_MS, "num_replicas",
					 (json_int_t) (want->replicas > 0 ? want->replicas : 1));
}

/* Takes out what an update in two steps left when it was interrupted. */
static int
remove_placeholders(json_t *config)
{
	json_t *subjects = json_object_get(config, "subjects");
	int removed = 0;

	for (size_t i = json_array_size(subjects); i > 0; i--)
	{
		if (strstr(json_string_value(json_array_get(subjects, i - 1)), PLACEHOLDER) == NULL)
			continue;
		json_array_remove(subjects, i - 1);
		removed++;
	}
	return removed;
}

/* Adds subject; narrower ones that it covers go, as newer servers refuse overlaps in one stream. */
static void
add_subject(json_t *config, const char *subject)
{
	json_t *old = json_object_get(config, "subjects");
	json_t *kept = json_array();
	size_t i;
	json_t *item;

	json_array_foreach (old, i, item)
	{
		if (!tide_subject_covers(subject, json_string_value(item)))
			json_array_append(kept, item);
	}
	json_array_append_new(kept, json_string(subject));
	json_object_set_new(config, "subjects", kept);
}

/* Would the stream take back from elsewhere what it captures itself?  That never ends. */
static bool
check_loop(const json_t *config, TideError *err)
{
	json_t *sources = json_object_get(config, "sources");
	const char *stream = json_string_value(json_object_get(config, "name"));
	size_t i;
	json_t *source;

	json_array_foreach (sources, i, source)
	{
		const char *own = captured_overlap(config, source_filter(source));

		if (own == NULL || source_api(source) == NULL)
			continue;
		tide_error(err, TIDE_ERR_CONFIG, "",
				   "stream \"%s\" captures \"%s\" itself and would also take"
				   " \"%s\" from %s: such messages would go round in circles",
				   stream, own, source_filter(source), source_api(source));
		tide_error_hint(err,
						"Give each region subjects of its own, for example with {region} or the"
						" region's name in \"subject_template\", and narrow \"subject\".");
		return false;
	}
	return true;
}

/*
 * Puts what is missing into config.  Returns how many things that were,
 * and says in missing which.
 */
static int
complete(const TideProvision *want, const char *domain, const char *filter, json_t *config,
		 TideBuf *missing)
{
	/* Whoever only reads leaves them to those who are just making the stream, perhaps. */
	bool reads_only = want->captures[0] == '\0' && domain == NULL;
	int changes = reads_only ? 0 : remove_placeholders(config);
	char api[300];

	if (changes > 0)
		tide_buf_append_str(missing, "subjects must not have " PLACEHOLDER);
	if (want->captures[0] != '\0')
	{
		TideStreamState probe = {.info = json_pack("{s:O}", "config", config)};

		if (!tide_stream_captures(&probe, want->captures))
		{
			tide_buf_printf(missing, "subjects must cover \"%s\"", want->captures);
			add_subject(config, want->captures);
			changes++;
		}
		json_decref(probe.info);
	}
	if (domain != NULL)
	{
		snprintf(api, sizeof(api), "$JS.%s.API", domain);
		if (!has_source(config, api, filter))
		{
			json_t *sources = json_object_get(config, "sources");

			tide_buf_printf(missing,
							"%ssources must have {\"name\": \"%s\", \"filter_subject\": \"%s\","
							" \"external\": {\"api\": \"%s\"}}",
							changes > 0 ? ", and its " : "", want->stream, filter, api);
			if (!json_is_array(sources))
				json_object_set_new(config, "sources", sources = json_array());
			json_array_append_new(sources, new_source(want, domain, filter));
			changes++;
		}
	}
	return changes;
}

static bool
wrong_stream(const TideProvision *want, const char *what, const char *hint, TideError *err)
{
	tide_error(err, TIDE_ERR_CONFIG, "", "stream \"%s\" can't be used: %s", want->stream, what);
	tide_error_hint(err, "%s", hint);
	return false;
}

/* What no update of ours would cure. */
static bool
verify(const TideProvision *want, const TideStreamState *state, TideError *err)
{
	json_t *config = config_of(state);
	const char *storage = json_string_value(json_object_get(config, "storage"));

	if (json_is_object(json_object_get(config, "mirror")))
		return wrong_stream(want, "it is a mirror of another stream",
							"Name another stream in \"stream\".", err);
	if (json_is_true(json_object_get(config, "sealed")))
		return wrong_stream(want, "it is sealed", "Name another stream in \"stream\".", err);
	if (storage != NULL && strcmp(storage, "file") != 0)
		return wrong_stream(want, "its storage is memory: a restart of the server loses it",
							"Create it anew with storage file.", err);
	if (want->captures[0] != '\0' && json_is_true(json_object_get(config, "no_ack")))
		return wrong_stream(want, "it has no_ack set: it never says what it stored",
							"Set no_ack to false.", err);
	return true;
}

/* A subject that filter covers and that nobody publishes. */
static json_t *
placeholder(const char *filter)
{
	TideBuf out;
	char memory[TIDE_SUBJECT_MAX + 1];

	tide_buf_init_fixed(&out, memory, sizeof(memory));
	for (const char *c = filter; *c != '\0'; c++)
	{
		if (*c == '*' || *c == '>')
			tide_buf_append_str(&out, PLACEHOLDER);
		else
			tide_buf_append_char(&out, *c);
	}
	return json_string(tide_buf_cstr(&out));
}

/*
 * As wanted, but it takes nothing, neither from publishers nor from other
 * streams.  The placeholders of the sources' filters spare an update in two steps.
 */
static json_t *
without_content(const json_t *wanted)
{
	json_t *bare = json_deep_copy(wanted);
	json_t *subjects = json_array();
	size_t i;
	json_t *source;

	json_array_append_new(subjects, json_sprintf(PLACEHOLDER ".%s",
												 json_string_value(json_object_get(bare, "name"))));
	json_array_foreach (json_object_get(wanted, "sources"), i, source)
	{
		if (strpbrk(source_filter(source), "*>") != NULL)
			json_array_append_new(subjects, placeholder(source_filter(source)));
	}
	json_object_set_new(bare, "subjects", subjects);
	json_object_set_new(bare, "sources", json_array());
	return bare;
}

/* Makes the stream, still without content; it is completed like any other. */
static bool
create_stream(TideJs *js, const TideProvision *want, const char *domain, const char *filter,
			  TideError *err)
{
	json_t *config = new_config(want);
	json_t *bare;
	TideBuf missing;
	char memory[64];
	bool ok;

	tide_buf_init_fixed(&missing, memory, sizeof(memory));
	(void) complete(want, domain, filter, config, &missing);
	bare = without_content(config);
	ok = check_loop(config, err) &&
		 tide_js_requestf(js, bare, NULL, err, "STREAM.CREATE.%s", want->stream);
	json_decref(bare);
	json_decref(config);
	return ok;
}

/*
 * A stream that is made anew after it was deleted must not use its numbers
 * again: another region's stream asks for what comes after the last one it had,
 * and would skip all before.  Only for a stream that never had a message,
 * before it takes any, so it does no harm if several do it.  Not being allowed
 * to is no reason to stop.
 */
static bool
begin_sequence(TideJs *js, const TideProvision *want, const TideStreamState *state, TideError *err)
{
	uint64_t last = highest_seen(js, want->stream, 0);
	json_t *request;
	TideError local = {0};
	bool ok;

	if (state->last_seq > 0 || last == 0)
		return true;
	request = json_pack("{s:I}", "seq", (json_int_t) last + SEQUENCE_GAP);
	ok = tide_js_requestf(js, request, NULL, &local, "STREAM.PURGE.%s", want->stream);
	json_decref(request);
	if (ok || local.class == TIDE_ERR_PERMISSION)
		return true;
	if (err != NULL)
		*err = local;
	return false;
}

/*
 * Servers before 2.10 compare a source's filter with the subjects that the
 * local stream of that name had before the update, although the source is in
 * another domain, and refuse what does not overlap.  So first the stream gets
 * placeholder subjects that overlap the filters, and no sources; then what is
 * wanted.  Publishers notice nothing.  A source that is taken away and put back
 * goes on behind the last message it brought (the messages say which), while
 * one whose filter is changed and changed back would skip what came meanwhile.
 */
static bool
update_in_two_steps(TideJs *js, const TideProvision *want, json_t *wanted, TideError *err)
{
	json_t *step = json_deep_copy(wanted);
	json_t *subjects = json_object_get(step, "subjects");
	size_t i;
	json_t *source;
	bool ok;

	json_array_foreach (json_object_get(wanted, "sources"), i, source)
	{
		if (captured_overlap(step, source_filter(source)) == NULL)
			json_array_append_new(subjects, placeholder(source_filter(source)));
	}
	json_object_set_new(step, "sources", json_array());
	ok = tide_js_requestf(js, step, NULL, err, "STREAM.UPDATE.%s", want->stream) &&
		 tide_js_requestf(js, wanted, NULL, err, "STREAM.UPDATE.%s", want->stream);
	json_decref(step);
	return ok;
}

static bool
update_stream(TideJs *js, const TideProvision *want, json_t *wanted, TideError *err)
{
	TideError local = {0};

	if (tide_js_requestf(js, wanted, NULL, &local, "STREAM.UPDATE.%s", want->stream))
		return true;
	if (strcmp(local.code, TIDE_JS_INVALID_CONFIG) != 0 ||
		strstr(local.message, "does not overlap") == NULL)
	{
		if (err != NULL)
			*err = local;
		return false;
	}
	return update_in_two_steps(js, want, wanted, err);
}

/* Brings an existing stream to what is wanted; *again: somebody else changed it meanwhile. */
static bool
complete_stream(TideJs *js, const TideProvision *want, const char *domain, const char *filter,
				TideStreamState *state, bool *again, TideError *err)
{
	json_t *config = json_deep_copy(config_of(state));
	TideBuf missing;
	char memory[sizeof(err->message) / 2];
	int changes;
	bool ok;

	tide_buf_init_fixed(&missing, memory, sizeof(memory));
	changes = complete(want, domain, filter, config, &missing);
	ok = changes == 0 || check_loop(config, err);

	*again = false;
	if (ok && changes > 0 && (!state->ours || !want->allowed))
	{
		tide_error(err, TIDE_ERR_CONFIG, "", "stream \"%s\" %s, so it is left as it is; its %s",
				   want->stream,
				   state->ours ? "may not be changed (\"provision\" is false)"
							   : "was not made by pg_tide",
				   tide_buf_cstr(&missing));
		tide_error_hint(err,
						"Change that setting with the nats command (nats stream edit %s), or name"
						" another stream.",
						want->stream);
		ok = false;
	}
	else if (ok && changes > 0)
	{
		ok = begin_sequence(js, want, state, err) && update_stream(js, want, config, err);
		*again = ok;
	}
	json_decref(config);
	return ok;
}

static bool
ensure(TideJs *js, const TideProvision *want, const char *domain, const char *filter,
	   TideStreamState *state, TideError *err)
{
	for (int i = 0; i < TRIES; i++)
	{
		TideError local = {0};
		bool again;

		tide_stream_clear(state);
		if (!tide_stream_load(js, want->stream, state, err))
			return false;
		if (state->exists)
		{
			if (!verify(want, state, err) ||
				!complete_stream(js, want, domain, filter, state, &again, err))
				return false;
			if (!again)
				return true;
			continue; /* read what became of it */
		}
		if (want->captures[0] == '\0' && domain == NULL)
			return true;
		if (!want->allowed)
		{
			tide_error(err, TIDE_ERR_CONFIG, TIDE_JS_STREAM_NOT_FOUND,
					   "stream \"%s\" does not exist and \"provision\" is false", want->stream);
			tide_error_hint(err, "Create the stream, or set \"provision\" to true.");
			return false;
		}
		if (!create_stream(js, want, domain, filter, &local) &&
			strcmp(local.code, TIDE_JS_STREAM_EXISTS) != 0)
		{
			if (err != NULL)
				*err = local;
			return false;
		}
	}
	return tide_error(err, TIDE_ERR_UNAVAILABLE, "",
					  "stream \"%s\" keeps being changed by somebody"
					  " else",
					  want->stream);
}

bool
tide_provision_stream(TideJs *js, const TideProvision *want, TideStreamState *state, TideError *err)
{
	const char *own = tide_js_domain(js);
	bool ok;

	*state = (TideStreamState){0};
	if (want->peer_domain != NULL && own != NULL && strcmp(own, want->peer_domain) == 0)
	{
		tide_error(err, TIDE_ERR_CONFIG, "",
				   "\"peer_domain\" is \"%s\", which is the JetStream domain"
				   " of \"%s\" itself",
				   own, tide_nats_url(tide_js_nats(js)));
		tide_error_hint(err,
						"peer_domain names the other region's domain; leave it out if both regions"
						" use one server.");
		return false;
	}
	pthread_mutex_lock(&provision_lock);
	ok = ensure(js, want, want->peer_domain, want->reads, state, err);
	pthread_mutex_unlock(&provision_lock);
	if (!ok)
		tide_stream_clear(state);
	return ok;
}

bool
tide_provision_source(TideJs *js, const TideProvision *want, const char *domain, const char *filter,
					  TideStreamState *state, TideError *err)
{
	bool ok;

	*state = (TideStreamState){0};
	pthread_mutex_lock(&provision_lock);
	ok = ensure(js, want, domain, filter, state, err);
	pthread_mutex_unlock(&provision_lock);
	if (!ok)
		tide_stream_clear(state);
	return ok;
}

/* Is it only for that: no other subject, no other source? */
static bool
is_alone(const TideProvision *want, const TideStreamState *state)
{
	const char *filter = want->reads != NULL ? want->reads : want->captures;
	size_t i;
	json_t *item;

	json_array_foreach (json_object_get(config_of(state), "subjects"), i, item)
	{
		if (!tide_subject_covers(filter, json_string_value(item)) &&
			strstr(json_string_value(item), PLACEHOLDER) == NULL)
			return false;
	}
	json_array_foreach (json_object_get(config_of(state), "sources"), i, item)
	{
		if (!tide_subject_covers(filter, source_filter(item)))
			return false;
	}
	return true;
}

bool
tide_provision_drop(TideJs *js, const TideProvision *want, TideError *err)
{
	TideStreamState state;
	bool ok = tide_stream_load(js, want->stream, &state, err);

	if (ok && state.exists && state.ours && want->allowed && is_alone(want, &state))
		ok = tide_js_requestf(js, NULL, NULL, err, "STREAM.DELETE.%s", want->stream);
	tide_stream_clear(&state);
	return ok;
}
