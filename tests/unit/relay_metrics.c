/*
 * relay_metrics.c
 *		Tests of relay/src/metrics.c: a valid exposition with the right numbers.
 */
#include "relay_test.h"

#include "metrics.h"

static TideMetrics first;
static TideMetrics second;

static char *
expose(const TideMetricsEntry *entries, size_t n)
{
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	tide_metrics_write(out, entries, n, "us-east", "0.1.0");
	fclose(out);
	return text;
}

static char *
expose_two(void)
{
	const TideMetricsEntry entries[] = {
		{"us-orders", "outbox", "running", true, &first},
		{"a\"b\\c\nd", "inbox", "melting", false, &second},
	};

	return expose(entries, 2);
}

static void
shows_numbers(void **state)
{
	char *text;

	(void) state;
	tide_count(&first, TIDE_EVENTS_DELIVERED, 41);
	tide_count(&first, TIDE_EVENTS_DELIVERED, 1);
	tide_count(&first, TIDE_RETRIES, 3);
	tide_gauge(&first, TIDE_G_OLDEST_UNSENT_US, 1500000);
	tide_gauge(&first, TIDE_G_LAST_DELIVERY_US, INT64_C(1795255200000001));
	tide_gauge(&first, TIDE_G_UNCONFIRMED, 7);
	text = expose_two();

#define FIRST "pipeline=\"us-orders\",direction=\"outbox\""
	assert_contains(text, "pg_tide_events_delivered_total{" FIRST "} 42\n");
	assert_contains(text, "pg_tide_retries_total{" FIRST "} 3\n");
	assert_contains(text, "pg_tide_oldest_unsent_age_seconds{" FIRST "} 1.500000\n");
	assert_contains(text, "pg_tide_last_delivery_timestamp_seconds{" FIRST "} 1795255200.000001\n");
	assert_contains(text, "pg_tide_unconfirmed_events{" FIRST "} 7\n");
	assert_contains(text, "pg_tide_pipeline_state{" FIRST ",state=\"running\"} 1\n");
	assert_contains(text, "pg_tide_pipeline_state{" FIRST ",state=\"failed\"} 0\n");
	assert_contains(text, "pg_tide_pipeline_owned{" FIRST "} 1\n");
	assert_contains(text, "pg_tide_build_info{version=\"0.1.0\",region=\"us-east\"} 1\n");
	assert_contains(text, "process_resident_memory_bytes ");
	assert_contains(text, "process_start_time_seconds ");
	assert_contains(text, "process_threads 1\n");

#define SECOND "pipeline=\"a\\\"b\\\\c\\nd\",direction=\"inbox\""
	assert_contains(text, "pg_tide_events_delivered_total{" SECOND "} 0\n");
	assert_contains(text, "pg_tide_pipeline_state{" SECOND ",state=\"melting\"} 1\n");
	assert_contains(text, "pg_tide_pipeline_owned{" SECOND "} 0\n");
	free(text);
}

/* Rows have families of their own; what both have is shown of both. */
static void
rows_and_events(void **state)
{
	const TideMetricsEntry entries[] = {
		{"us-orders", "outbox", "running", true, &first},
		{"link:us-east", "link", "running", true, &second},
	};
	char *text;

	(void) state;
	tide_count(&second, TIDE_ROWS_APPLIED, 5);
	tide_count(&second, TIDE_RETRIES, 2);
	tide_gauge(&second, TIDE_G_LAG_US, 250000);
	text = expose(entries, 2);

#define LINK "pipeline=\"link:us-east\",direction=\"link\""
	assert_contains(text, "pg_tide_rows_applied_total{" LINK "} 5\n");
	assert_contains(text, "pg_tide_row_lag_seconds{" LINK "} 0.250000\n");
	assert_contains(text, "pg_tide_retries_total{" LINK "} 2\n");
	assert_lacks(text, "pg_tide_events_read_total{" LINK);
	assert_lacks(text, "pg_tide_rows_applied_total{" FIRST);
	assert_lacks(text, "pg_tide_row_lag_seconds{" FIRST);
	assert_contains(text, "pg_tide_events_read_total{" FIRST);
	free(text);
}

/* Buckets are cumulative, and a value on a bound belongs below it. */
static void
histograms(void **state)
{
	static const int64_t values[] = {-5, 0, 250, 251, 1500, 600000000, 600000001};
	char *text;

	(void) state;
	for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++)
		tide_histogram_add(&second.commit_to_delivered, values[i]);
	text = expose_two();

#define BUCKET "pg_tide_commit_to_delivered_seconds_bucket{" SECOND ",le="
	assert_contains(text, BUCKET "\"0.000250\"} 3\n");
	assert_contains(text, BUCKET "\"0.000500\"} 4\n");
	assert_contains(text, BUCKET "\"0.001000\"} 4\n");
	assert_contains(text, BUCKET "\"0.002000\"} 5\n");
	assert_contains(text, BUCKET "\"600.000000\"} 6\n");
	assert_contains(text, BUCKET "\"+Inf\"} 7\n");
	assert_contains(text, "pg_tide_commit_to_delivered_seconds_count{" SECOND "} 7\n");
	assert_contains(text, "pg_tide_commit_to_delivered_seconds_sum{" SECOND "} 1200.002002\n");
	free(text);
}

/* Each family is announced once, before its samples; nothing else is in a line. */
static void
is_well_formed(void **state)
{
	char *text = expose_two();
	char *rest = text;
	char family[128] = "";
	char *line;

	(void) state;
	assert_int_equal(text[strlen(text) - 1], '\n');
	while ((line = strsep(&rest, "\n")) != NULL && *line != '\0')
	{
		char name[128];
		char type[16];
		char announced[160];
		size_t len = strcspn(line, "{ ");

		if (sscanf(line, "# TYPE %127s %15s", name, type) == 2)
		{
			assert_string_equal(name, family);
			assert_true(strcmp(type, "counter") == 0 || strcmp(type, "gauge") == 0 ||
						strcmp(type, "histogram") == 0);
			if (strcmp(type, "counter") == 0)
				assert_string_equal(name + strlen(name) - 6, "_total");
			continue;
		}
		if (sscanf(line, "# HELP %127s", name) == 1)
		{
			snprintf(family, sizeof(family), "%s", name);
			snprintf(announced, sizeof(announced), "# HELP %s ", name);
			assert_null(rest != NULL ? strstr(rest, announced) : NULL);
			continue;
		}
		assert_true(line[0] != '#' && strncmp(line, family, strlen(family)) == 0);
		assert_true(len >= strlen(family));
		assert_true(strrchr(line, ' ')[1] != '\0');
	}
	free(text);
}

static void
works_without_pipelines(void **state)
{
	char *text = expose(NULL, 0);

	(void) state;
	assert_contains(text, "# TYPE pg_tide_events_read_total counter\n");
	assert_lacks(text, "pipeline=");
	free(text);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(shows_numbers),
		cmocka_unit_test(rows_and_events),
		cmocka_unit_test(histograms),
		cmocka_unit_test(is_well_formed),
		cmocka_unit_test(works_without_pipelines),
	};

	return cmocka_run_group_tests_name("relay_metrics", tests, NULL, NULL);
}
