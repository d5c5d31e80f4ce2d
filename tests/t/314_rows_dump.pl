# pg_dump of a database with replicated tables, restored into another cluster: rows with their stamps, what is
# replicated and how, but no link and no publisher.

use strict;
use warnings;

use Test::More;

use PgTide::Region;

my $us = PgTide::Region->make('us', region => 'us-east', conf => "wal_level = logical\n");
my $other = PgTide::Region->make('other', create => 0, conf => "wal_level = logical\n");

sub set_up
{
	$us->safe_psql('postgres', <<'END');
CREATE ROLE app LOGIN;
SELECT tide.region_add('eu-west', 'host=nowhere dbname=app'), tide.region_add('ap-east', 'env:AP');
SELECT tide.class_create('shop', '{"scope": "global", "slo": "2 seconds", "priority": 70}'), tide.class_create('here', '{"scope": "regional"}');
CREATE SCHEMA "odd "" schema" AUTHORIZATION app;
CREATE TABLE users (id int PRIMARY KEY, name text, bio text);
CREATE TABLE "odd "" schema"."odd "" tablé" ("odd "" key" int PRIMARY KEY, v text);
ALTER TABLE "odd "" schema"."odd "" tablé" OWNER TO app;
CREATE TABLE logs (line text);
CREATE TABLE private (id int PRIMARY KEY);
CREATE TABLE parts (id int PRIMARY KEY, twice int GENERATED ALWAYS AS (id * 2) STORED) PARTITION BY RANGE (id);
CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (100);
INSERT INTO users SELECT n, 'before', repeat(md5(n::text), 200) FROM generate_series(1, 50) n;
SELECT tide.table_add(t::regclass, 'shop') FROM unnest(ARRAY['users', '"odd "" schema"."odd "" tablé"', 'parts']) t;
SELECT tide.table_add('logs', 'shop', '{"insert_only": true}'), tide.table_add('private', 'here');
UPDATE users SET name = 'after' WHERE id <= 20;
INSERT INTO "odd "" schema"."odd "" tablé" VALUES (1, 'x');
INSERT INTO logs VALUES ('line'), ('line');
INSERT INTO parts SELECT n FROM generate_series(1, 10) n;
INSERT INTO private VALUES (1);
SELECT tide.class_create('resident', '{"scope": "global", "residency": {"column": "region", "personal": true}}');
CREATE TABLE client (id int PRIMARY KEY, region text NOT NULL, friend int REFERENCES client, twice int GENERATED ALWAYS AS (id * 2) STORED);
CREATE TABLE visit (id int, region text NOT NULL, client int REFERENCES client, PRIMARY KEY (id)) PARTITION BY RANGE (id);
CREATE TABLE visit_1 PARTITION OF visit FOR VALUES FROM (0) TO (100);
SELECT tide.table_add('client', 'resident'), tide.table_add('visit', 'resident');
INSERT INTO client VALUES (1, 'eu-west', 1);
INSERT INTO visit VALUES (1, 'eu-west', 1);
SET session_replication_role = replica;
INSERT INTO users VALUES (100, 'from eu', NULL, '1700000000000000@3ca66f25'), (101, 'reserved', NULL, '1700000000000000@3ca66f25+0102'), (102, 'none', NULL, NULL);
RESET session_replication_role;
SELECT tide.link_add('eu-west'), tide.outbox_create('orders'), tide.relay_set_outbox('orders-out', 'orders', '{"sink_type": "stdout"}');
END
	$us->safe_psql('postgres', q{SELECT tide.rows_announce('ap-east', NULL, 'nats', '{"url": "nats://h"}')});
	return;
}

sub both
{
	my ($query, $name) = @_;
	is($other->safe_psql('us', $query), $us->safe_psql('postgres', $query), $name);
	return;
}

sub test_same
{
	my ($how) = @_;
	both('SELECT name FROM tide.local_region', "$how: the region's name");
	both('SELECT name, region_id, conninfo, added_at FROM tide.region ORDER BY 1', '... the other regions');
	both('SELECT * FROM tide.class ORDER BY name', '... classes');
	both('SELECT "table"::text, class, scope, published, key, insert_only, options, added_at FROM tide.tables ORDER BY 1', '... tables');
	both(q{SELECT pubname, pubinsert, pubupdate, pubdelete, pubtruncate, pubviaroot FROM pg_publication ORDER BY 1}, '... publications');
	# A dump leaves out that tables of an extension are published; whoever takes rows puts that right.
	$other->safe_psql('us', 'SELECT tide.rows_identify(NULL)');
	both(q{SELECT pubname, schemaname, tablename, attnames, rowfilter FROM pg_publication_tables ORDER BY 1, 2, 3}, '... and what they publish');
	both('SELECT relid::text, region, filter, columns FROM tide.residency_rule ORDER BY 1, 2', '... residency');
	both(q{SELECT i.indrelid::regclass, x.relname ~ '^tide_residency', tide._table_key(i.indrelid) FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid
		WHERE i.indisreplident ORDER BY i.indrelid::regclass::text}, '... replica identities, and the keys behind them');
	both(q{SELECT tgrelid::regclass::text, tgname, tgenabled FROM pg_trigger WHERE tgfoid = 'tide._stamp_row()'::regprocedure ORDER BY 1}, '... triggers');
	both(q{SELECT c.oid::regclass::text, a::text FROM pg_class c, unnest(relacl) a WHERE a::text ~ '^tide_relay=' AND relkind IN ('r', 'p')
		AND relnamespace <> 'tide'::regnamespace ORDER BY 1}, '... what relays may');
	both(qq{SELECT count(*), md5(string_agg(t::text, '|' ORDER BY t::text)) FROM $_ t}, "... rows of $_, stamps and all")
	  for 'users', 'logs', 'parts', 'private', 'client', 'visit', '"odd "" schema"."odd "" tablé"';
	is($other->safe_psql('us', q{SELECT (SELECT count(*) FROM tide.link), (SELECT count(*) FROM tide.rows_publisher), string_agg(name, ' ') FROM tide.pipeline}),
		'0|0|orders-out', '... but no link, no publisher, and pipelines of events only');
	return;
}

# What was restored works: it stamps, can be added again, changed, linked, dropped.
sub test_works
{
	is($other->safe_psql('us', q{INSERT INTO users VALUES (200, 'new'); UPDATE users SET name = 'newer' WHERE id = 102;
		SELECT count(*) FROM users WHERE id IN (102, 200) AND tide.stamp_region(tide_stamp) = 'us-east' AND tide.stamp_time(tide_stamp) > now() - interval '1 minute'}), 2,
		'local writes are stamped');
	$other->safe_psql('us', q{SELECT tide.table_add('users', 'shop'), tide.table_add('logs', 'shop', '{"insert_only": true}'), tide.link_add('eu-west'), tide.maintain()});
	$other->safe_psql('us', q{UPDATE client SET region = 'ap-east'; UPDATE visit SET region = 'ap-east'; SELECT tide.table_add('client', 'resident'), tide.table_add('visit', 'resident');
		ALTER TABLE client ADD COLUMN secret text; CREATE TABLE visit_2 PARTITION OF visit FOR VALUES FROM (100) TO (200)});
	both(q{SELECT pubname, attnames, rowfilter FROM pg_publication_tables WHERE tablename = 'client' ORDER BY 1}, 'residency holds: a column that comes is denied');
	is($other->safe_psql('us', q{SELECT count(*) FROM pg_class WHERE relname ~ '^tide_residency'}), 2, '... with the indexes that were restored');
	is($other->safe_psql('us', 'SELECT count(*) FROM tide.tables'), 7, 'tables can be added again, links too');
	is($other->safe_psql('us', q{SELECT count(*) FROM tide.rows_tables()}), 4, '... and others can read what is published');
	$other->safe_psql('us', q{DROP TABLE logs; SELECT tide.table_remove('users', drop_column => true)});
	is($other->safe_psql('us', 'SELECT count(*) FROM tide.tables'), 5, 'dropping and removing is noticed');
	return;
}

set_up();
for my $form ([ 'custom', '-Fc' ], [ 'directory, in parallel', '-Fd' ])
{
	my ($how, $option) = @$form;
	my $file = "$ENV{TIDE_DATA}/us$option.dump";
	$us->command_ok([ 'pg_dump', $option, '-f', $file, '-d', $us->connstr('postgres') ], "pg_dump, $how");
	$other->safe_psql('postgres', 'DROP DATABASE IF EXISTS us');
	$other->safe_psql('postgres', 'CREATE DATABASE us');
	$other->safe_psql('postgres', 'CREATE ROLE app LOGIN') if $option eq '-Fc';
	my @jobs = $option eq '-Fd' ? ('-j', 3) : ('--exit-on-error');
	$other->command_ok([ 'pg_restore', @jobs, '-d', $other->connstr('us'), $file ], '... pg_restore, without one error');
	test_same($how);
	test_works();
}
$_->stop for $us, $other;
done_testing();
