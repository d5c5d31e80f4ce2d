/*
 * relay_arena.c
 *		Tests of relay/src/arena.c and event.c: lifetimes, alignment, growth.
 */
#include "relay_test.h"

#include "arena.h"
#include "event.h"

static void
keeps_what_it_gave(void **state)
{
	TideArena *arena = tide_arena_new();
	unsigned char *pieces[3000];
	size_t sizes[3000];

	(void) state;
	assert_int_equal(tide_arena_bytes(arena), 0);
	for (size_t i = 0; i < 3000; i++)
	{
		sizes[i] = i % 100 == 99 ? 50000 : i % 700;
		pieces[i] = tide_arena_alloc(arena, sizes[i]);
		assert_int_equal((uintptr_t) pieces[i] % 16, 0);
		memset(pieces[i], (int) (i % 251), sizes[i]);
	}
	for (size_t i = 0; i < 3000; i++)
	{
		for (size_t b = 0; b < sizes[i]; b++)
			assert_int_equal(pieces[i][b], i % 251);
	}
	tide_arena_free(arena);
	tide_arena_free(NULL);
}

static void
reset_gives_memory_back(void **state)
{
	TideArena *arena = tide_arena_new();

	(void) state;
	for (int i = 0; i < 5000; i++)
		tide_arena_alloc(arena, 1000);
	assert_true(tide_arena_bytes(arena) > 4000000);
	tide_arena_reset(arena);
	assert_true(tide_arena_bytes(arena) <= 1100000);

	/* One huge allocation, the arena's first or not, is not kept. */
	tide_arena_free(arena);
	arena = tide_arena_new();
	tide_arena_alloc(arena, 50000000);
	tide_arena_reset(arena);
	assert_true(tide_arena_bytes(arena) <= 1100000);
	tide_arena_free(arena);
}

static void
copies_text(void **state)
{
	TideArena *arena = tide_arena_new();
	char *copy = tide_arena_memdup(arena, "a\0b", 3);

	(void) state;
	assert_memory_equal(copy, "a\0b", 4);
	assert_string_equal(tide_arena_memdup(arena, NULL, 0), "");
	assert_string_equal(tide_arena_strdup(arena, "text"), "text");
	assert_string_equal(tide_arena_printf(arena, "%s-%05d", "n", 7), "n-00007");
	assert_int_equal(*(char *) tide_arena_zalloc(arena, 100), 0);
	tide_arena_free(arena);
}

static void
batches_grow(void **state)
{
	TideBatch *batch = tide_batch_new();

	(void) state;
	for (int round = 0; round < 2; round++)
	{
		for (uint64_t i = 0; i < 5000; i++)
		{
			TideEvent *event = tide_batch_add(batch);

			assert_null(event->id.ptr);
			assert_int_equal(event->position, 0);
			event->position = i + 1;
		}
		assert_int_equal(batch->n_events, 5000);
		for (uint64_t i = 0; i < 5000; i++)
			assert_int_equal(batch->events[i].position, i + 1);
		batch->more = true;
		tide_batch_reset(batch);
		assert_int_equal(batch->n_events, 0);
		assert_false(batch->more);
		assert_non_null(batch->arena);
	}
	tide_batch_free(batch);
	tide_batch_free(NULL);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(keeps_what_it_gave),
		cmocka_unit_test(reset_gives_memory_back),
		cmocka_unit_test(copies_text),
		cmocka_unit_test(batches_grow),
	};

	return cmocka_run_group_tests_name("relay_arena", tests, NULL, NULL);
}
