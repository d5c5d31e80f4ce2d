# A link's first copy: what is there comes at once and exact, into empty tables and into others, while rows are written.

use strict;
use warnings;

use JSON::PP ();
use Test::More;
use Time::HiRes qw(sleep time);

use PgTide::Mesh;
use PgTide::Test qw(wait_until);

my $mesh = PgTide::Mesh->new;
my @TABLES = (qw(plain texts wide counted), '"Odd ""Name"""');

sub set_up
{
	$mesh->sql_all(<<~'END');
		CREATE TYPE mood AS ENUM ('sad', 'ok');
		CREATE TYPE pair AS (a int, b text);
		CREATE DOMAIN short AS varchar(20) CHECK (length(value) < 20);
		CREATE TABLE plain (id int PRIMARY KEY, v text, at timestamptz, m mood, s short, n numeric);
		CREATE TABLE texts (id int PRIMARY KEY, p pair, a mood[], r regclass, v text);
		CREATE TABLE wide (id int PRIMARY KEY, v text);
		CREATE TABLE "Odd ""Name""" ("a ""b"" \c" int PRIMARY KEY, "ü" text);
		CREATE TABLE counted (id int PRIMARY KEY, v text);
		END
	$mesh->sql('us', <<~'END');
		INSERT INTO plain SELECT n, repeat('x', n % 50), '2024-02-29 12:00:00.000001+00'::timestamptz + n * interval '1 s',
			CASE WHEN n % 3 = 0 THEN 'sad' WHEN n % 3 = 1 THEN 'ok' END::mood, 's' || n, n / 7.0 FROM generate_series(1, 30000) n;
		INSERT INTO texts SELECT n, ROW(n, E'tab\tline\nback\\slash \\N "quoted"')::pair, ARRAY['ok', NULL]::mood[], 'pg_catalog.pg_class',
			CASE n % 5 WHEN 0 THEN '' WHEN 1 THEN NULL WHEN 2 THEN E'\\N' WHEN 3 THEN E'\b\f\v\r\n\t\\.' ELSE '\.' END
			FROM generate_series(1, 5000) n;
		INSERT INTO wide SELECT n, repeat(md5(n::text), 40000) FROM generate_series(1, 20) n;
		INSERT INTO "Odd ""Name""" SELECT n, 'ü' || n FROM generate_series(1, 10) n;
		INSERT INTO counted SELECT n, 'us' FROM generate_series(1, 1000) n;
		END
	$mesh->class('shop');
	$mesh->add_table($_, 'shop') for @TABLES;
	return;
}

sub metric
{
	my ($name) = @_;
	return $mesh->relay('eu')->metric($name, qr/link:us-east/);
}

# Into empty tables, while us goes on writing.
sub test_empty
{
	$mesh->link('eu', 'us');
	$mesh->start_relays;
	for my $n (1 .. 20)
	{
		$mesh->sql('us', "UPDATE plain SET v = 'changed $n' WHERE id % 100 = $n; DELETE FROM plain WHERE id % 100 = 50 + $n; INSERT INTO plain (id) VALUES (100000 + $n)");
	}
	ok(defined $mesh->wait_copied('eu', 'us'), 'tables are copied');
	$mesh->settle_one('us', 'eu');
	$mesh->same_tables('... exactly, though they changed meanwhile', \@TABLES);
	is($mesh->sql('us', q{SELECT format FROM tide.rows_tables() WHERE table_name = 'texts'}), 'text', '... one of them as text');
	is($mesh->sql('us', q{SELECT format FROM tide.rows_tables() WHERE table_name = 'plain'}), 'binary', '... one in binary');
	cmp_ok(metric('pg_tide_rows_copied_total'), '>=', 35000, '... and counted');
	cmp_ok(metric('pg_tide_bytes_copied_total'), '>=', 20 * 40000 * 32, '... in bytes, too');
	is(metric('pg_tide_copy_tables'), 0, '... none is waiting');
	my $row = $mesh->link_row('eu', 'us');
	is($row->{tables_copied}, 5, 'tide.links: all tables are copied');
	is($mesh->sql('us', 'SELECT count(*) FROM pg_replication_slots'), 1, 'no slot is left of the copy');
	$mesh->nothing_special('nothing was parked');
	return;
}

# The other way: us has rows already, its own and copies of them; eu's come between them.
sub test_merge
{
	$mesh->sql('eu', <<~'END');
		INSERT INTO plain SELECT n, 'eu', now(), 'ok', 'eu', NULL FROM generate_series(200001, 203000) n;
		UPDATE plain SET v = 'eu was here', m = NULL WHERE id % 10 = 7;
		INSERT INTO texts SELECT n, ROW(NULL, E'\\N\ttab')::pair, '{}', NULL, E'eu \\N\\' FROM generate_series(200001, 200500) n;
		UPDATE texts SET v = E'eu\twas\nhere\\', p = NULL WHERE id % 10 = 7;
		INSERT INTO wide SELECT n, repeat('eu', 1000000) FROM generate_series(201, 203) n;
		INSERT INTO "Odd ""Name""" VALUES (11, 'eu');
		END
	$mesh->link('us', 'eu');
	ok(defined $mesh->wait_copied('us', 'eu'), 'the other way: copied into tables with rows');
	$mesh->settle;
	$mesh->same_tables('... and merged', \@TABLES);
	$mesh->nothing_special('nothing was parked');
	return;
}

# One that can't be copied keeps no other, and comes when it can.
sub test_refused
{
	$mesh->sql_all('CREATE TABLE shaped (id int PRIMARY KEY, v text); CREATE TABLE good (id int PRIMARY KEY, v text)');
	$mesh->sql('us', q{ALTER TABLE shaped ADD COLUMN more int; INSERT INTO shaped VALUES (1, 'x', 7); INSERT INTO good VALUES (1, 'x')});
	$mesh->add_table($_, 'shop') for qw(shaped good);
	ok(defined $mesh->wait_value('eu', 'SELECT count(*) FROM good', 1, 20), 'a table that can\'t be copied: the others are');
	ok(defined $mesh->wait_value('eu', q{SELECT coalesce(last_error, '') FROM tide.links WHERE region = 'us-east'}, qr/shaped.*more/),
		'... the link says which, and why');
	$mesh->sql('us', q{INSERT INTO good VALUES (2, 'y')});
	$mesh->settle_one('us', 'eu');
	is($mesh->sql('eu', 'SELECT count(*) FROM good'), 2, '... and streams');
	is($mesh->sql('eu', 'SELECT count(*) FROM tide.parked_change'), 0, '... and parks nothing');
	$mesh->sql('us', q{INSERT INTO shaped VALUES (2, 'y', 8)});
	$mesh->sql('eu', 'ALTER TABLE shaped ADD COLUMN more int');
	ok(defined $mesh->wait_value('eu', 'SELECT count(*) FROM shaped', 2, 40), 'put right: copied by itself');
	$mesh->same_tables('... and equal', [qw(shaped good)]);
	return;
}

# The row is short enough to travel; it is said what is wrong with it here, and nothing else.
sub test_refused_by_index
{
	$mesh->sql_all('CREATE TABLE indexed (id int PRIMARY KEY, v text)');
	$mesh->sql('eu', 'CREATE INDEX too_long ON indexed (v)');
	$mesh->sql('us', q{INSERT INTO indexed SELECT 1, string_agg(md5(n::text), '') FROM generate_series(1, 500) n});
	$mesh->add_table('indexed', 'shop');
	ok(defined $mesh->wait_value('eu', q{SELECT coalesce(last_error, '') FROM tide.links WHERE region = 'us-east'}, qr/indexed.*index row requires/),
		'a value too long for an index here: the link says so');
	unlike($mesh->relay('eu')->log_text, qr/too large for one message/, '... and speaks of no other limit');
	$mesh->sql('eu', 'DROP INDEX too_long');
	ok(defined $mesh->wait_value('eu', 'SELECT count(*) FROM indexed', 1, 40), '... put right: copied by itself');
	$mesh->same_tables('... and equal', ['indexed']);
	return;
}

# A transaction that is open at the origin: a snapshot has to wait for it, the stream has not.
sub test_open_transaction
{
	$mesh->sql_all('CREATE TABLE patient (id int PRIMARY KEY, v text)');
	my $session = $mesh->node('us')->background_psql('postgres');
	$session->query_safe(q{BEGIN; INSERT INTO counted VALUES (-1, 'late')});
	$mesh->sql('us', q{INSERT INTO patient VALUES (1, 'x')});
	$mesh->add_table('patient', 'shop');
	my $late = 0;
	my $end = time + 12;
	for (my $n = 5000; time < $end; $n++)
	{
		$mesh->sql('us', "INSERT INTO counted VALUES ($n, 'stream')");
		my $took = $mesh->wait_value('eu', "SELECT count(*) FROM counted WHERE id = $n", 1, 20);
		$late = $took // 99 if ($took // 99) > $late;
		sleep 0.3;
	}
	cmp_ok($late, '<', 8, sprintf 'an open transaction: rows are never held up for long (%.1f s)', $late);
	is($mesh->sql('eu', 'SELECT count(*) FROM patient'), 0, '... the new table is not copied yet');
	is($mesh->sql('us', 'SELECT count(*) FROM pg_replication_slots WHERE temporary AND NOT active'), 0, '... no slot is left of trying');
	$session->query_safe('COMMIT');
	$session->quit;
	ok(defined $mesh->wait_value('eu', 'SELECT count(*) FROM patient', 1, 40), '... but when it has ended');
	$mesh->settle_one('us', 'eu');
	$mesh->same_tables('... and all is equal', [ 'patient', 'counted' ]);
	return;
}

# Stopped in the middle of a table that is not let in.
sub test_stop
{
	$mesh->sql_all('CREATE TABLE held (id int PRIMARY KEY, v text)');
	$mesh->sql('us', q{INSERT INTO held SELECT n, 'x' FROM generate_series(1, 1000) n});
	my $session = $mesh->node('eu')->background_psql('postgres');
	$mesh->add_table('held', 'shop');
	$session->query_safe('BEGIN; LOCK TABLE held IN ACCESS EXCLUSIVE MODE');
	ok(defined $mesh->wait_value('eu', q{SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%copy_begin%'}, 't'),
		'a copy waits for a lock');
	my $start = time;
	is($mesh->relay('eu')->stop, 0, '... and its relay ends with status 0');
	cmp_ok(time - $start, '<', 8, '... at once');
	$session->query_safe('COMMIT');
	$session->quit;
	$mesh->start_relay('eu');
	ok(defined $mesh->wait_value('eu', 'SELECT count(*) FROM held', 1000), '... then it is copied');
	return;
}

set_up();
test_empty();
test_merge();
test_refused();
test_refused_by_index();
test_open_transaction();
test_stop();
is_deeply($mesh->stop, { us => 0, eu => 0 }, 'both relays end with status 0');
done_testing();
