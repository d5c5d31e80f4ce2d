# Residency, proved from outside: every byte that the origin's server sends to the destination's relay is kept and
# searched for values that must not cross; values that may are there, so the search can find.

use strict;
use warnings;

use Test::More;

use PgTide::Mesh;
use PgTide::Process;
use PgTide::Recorder;
use PgTide::Test qw(wait_until);

my $mesh = PgTide::Mesh->new(know => 0);
my ($US, $EU) = @PgTide::Mesh::REGION{qw(us eu)};
my $wire = PgTide::Recorder->new(name => 'wire', port => 6543, server => $mesh->node('us'), dir => "$ENV{TESTDATADIR}/wire");

# What must not be seen, as text and as eight bytes; and what must be.
my ($FORBIDDEN, $ALLOWED) = map { unpack 'Q>', pack 'H*', $_ } qw(5ec2e7deadbeef11 0a110ed5eef00d22);
my %bytes = (
	forbidden => [ 'forbidden', pack('Q>', $FORBIDDEN), "$FORBIDDEN", unpack('H*', pack('Q>', $FORBIDDEN)) ],
	allowed   => [ 'allowed', pack('Q>', $ALLOWED) ]);

sub seen
{
	my ($what, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return is(join(' ', map { $wire->seen($_) } @{ $bytes{$what} }), '0 0 0 0', "$name: nothing forbidden crossed") if $what eq 'forbidden';
	return ok(!(grep { !$wire->seen($_) } @{ $bytes{$what} }), "$name: what is allowed did");
}

$mesh->sql_all(<<'END');
CREATE TYPE mood AS ENUM ('good', 'bad');
CREATE TABLE customer (id bigint PRIMARY KEY, region text NOT NULL, name text, code bigint, doc jsonb, big text);
CREATE TABLE moody (id bigint PRIMARY KEY, region text NOT NULL, name text, moods mood[]);
CREATE TABLE graded (id bigint PRIMARY KEY, grade bigint NOT NULL, name text);
CREATE TABLE patient (id bigint PRIMARY KEY, name text, diagnosis text, code bigint);
CREATE TABLE person (id bigint PRIMARY KEY, name text);
CREATE TABLE log (at bigint, region text NOT NULL, line text);
CREATE TABLE hidden (id bigint PRIMARY KEY, name text);
CREATE TABLE regional (id bigint PRIMARY KEY, name text);
END
# Rows that were there before, for the first copy; and one at eu, so that a copy is merged.
my $rows = <<"END";
INSERT INTO customer SELECT n, CASE WHEN n % 2 = 0 THEN '$EU' ELSE '$US' END, v, c, jsonb_build_object('v', v), (SELECT string_agg(v || md5((n * i)::text), '') FROM generate_series(1, 200) i)
	FROM generate_series(1 + :base, 40 + :base) n, LATERAL (SELECT CASE WHEN n % 2 = 0 THEN 'allowed ' ELSE 'forbidden ' END || n, CASE WHEN n % 2 = 0 THEN $ALLOWED ELSE $FORBIDDEN END) x (v, c);
INSERT INTO moody SELECT id, region, name, '{good,bad}' FROM customer WHERE id > :base;
INSERT INTO graded SELECT id, CASE WHEN region = '$EU' THEN 5 ELSE $FORBIDDEN END, name FROM customer WHERE id > :base;
INSERT INTO patient SELECT id, 'allowed ' || id, 'forbidden ' || id, $FORBIDDEN FROM customer WHERE id > :base;
INSERT INTO person SELECT id, 'allowed ' || id FROM customer WHERE id > :base;
INSERT INTO log SELECT id, region, name FROM customer WHERE id > :base;
INSERT INTO hidden SELECT id, 'forbidden' FROM customer WHERE id > :base;
END

sub add_rows
{
	my ($base) = @_;
	return $mesh->sql('us', $rows =~ s/:base/$base/gr);
}
add_rows(0);
$mesh->sql('us', sprintf 'SELECT tide.region_add(%s, %s)', map { PgTide::Duo::literal($_) } $EU, $mesh->conninfo('eu'));
$mesh->sql('eu', sprintf 'SELECT tide.region_add(%s, %s)', map { PgTide::Duo::literal($_) } $US, $wire->conninfo);
$mesh->class('by_region', residency => { column => 'region' });
$mesh->class('by_grade', residency => { regions => { $EU => 'grade < 10', $US => JSON::PP::true } });
$mesh->class('health', residency => { regions => { '*' => { without => [ 'diagnosis', 'code' ] } } });
$mesh->class('people', residency => { personal => JSON::PP::true });
$mesh->class('ours', residency => { regions => { $US => JSON::PP::true } });
my %class = (customer => 'by_region', moody => 'by_region', graded => 'by_grade', patient => 'health', person => 'people', hidden => 'ours');
$mesh->add_table($_, $class{$_}) for sort keys %class;
$mesh->add_table('log', 'by_region', { insert_only => JSON::PP::true });
$mesh->sql('eu', "INSERT INTO customer (id, region, name) VALUES (100000, '$EU', 'of eu')");
$mesh->link('eu', 'us');
$mesh->start_relay('eu');
ok(defined $mesh->wait_streaming('eu', 'us'), 'the link streams');
is($mesh->sql('eu', 'SELECT (SELECT count(*) FROM customer), (SELECT count(*) FROM moody), (SELECT count(*) FROM graded), (SELECT count(*) FROM patient), (SELECT count(*) FROM log)'),
	'21|20|20|40|20', 'the first copy is here');
seen($_, 'first copy') for qw(forbidden allowed);
is($mesh->sql('us', q{SELECT string_agg(DISTINCT format, ' ' ORDER BY format) FROM tide.rows_tables('eu-west')}), 'binary text', '... it came in both formats');

# ---- the stream ----

add_rows(1000);
$mesh->settle_one('us', 'eu');
seen($_, 'inserts') for qw(forbidden allowed);
$mesh->sql('us', <<"END");
-- what is forbidden, changed; what is allowed, too
UPDATE customer SET name = name || ' again', doc = doc || '{"x": 1}';
UPDATE patient SET name = name || '!', diagnosis = 'forbidden, later', code = $FORBIDDEN;
UPDATE patient SET diagnosis = 'forbidden, alone' WHERE id < 10;
-- leaves: with new values in the same statement; in a transaction with others; with another key
UPDATE customer SET region = '$US', name = 'forbidden from now on', code = $FORBIDDEN, big = repeat('forbidden', 1000) WHERE id IN (2, 4, 6);
UPDATE customer SET region = '$US', name = 'forbidden', code = $FORBIDDEN, doc = '{"v": "forbidden"}', id = id + 5000 WHERE id IN (8, 10);
BEGIN;
UPDATE customer SET name = 'allowed for now' WHERE id IN (12, 14);
UPDATE customer SET region = '$US', name = 'forbidden' WHERE id IN (12, 14);
UPDATE customer SET region = '$EU', name = 'allowed after all' WHERE id = 14;
COMMIT;
UPDATE graded SET grade = $FORBIDDEN, name = 'forbidden' WHERE id IN (2, 4);
UPDATE graded SET grade = grade + 1 WHERE grade < 10;
-- comes: what it was before stays behind
UPDATE customer SET region = '$EU', name = 'allowed now', code = $ALLOWED, doc = NULL, big = 'allowed' WHERE id IN (1, 3, 5);
UPDATE graded SET grade = 7, name = 'allowed' WHERE id IN (1, 3);
DELETE FROM customer WHERE id IN (7, 9, 16);
-- rolled back, and never committed anywhere
BEGIN;
UPDATE customer SET region = '$EU' WHERE region = '$US';
ROLLBACK;
-- larger than a frame
INSERT INTO customer SELECT 100000 + n, '$US', repeat('forbidden', 20) FROM generate_series(1, 20000) n;
UPDATE customer SET name = name || 'forbidden' WHERE id > 100000;
DELETE FROM customer WHERE id > 100000;
END
$mesh->settle_one('us', 'eu');
seen($_, 'updates') for qw(forbidden allowed);
is($mesh->sql('eu', q{SELECT string_agg(id::text, ',' ORDER BY id) FROM customer WHERE id < 20}), '1,3,5,14,18', 'rows came and went');
is($mesh->sql('eu', q{SELECT name FROM customer WHERE id = 14}), 'allowed after all', '... as they should');

# ---- a personal column, while it streams ----

$mesh->sql($_, 'ALTER TABLE person ADD COLUMN ssn text') for qw(eu us);
$mesh->sql('us', q{UPDATE person SET ssn = 'forbidden ' || id; INSERT INTO person (id, name, ssn) VALUES (90, 'allowed', 'forbidden'); UPDATE person SET name = 'allowed, too', ssn = 'forbidden' WHERE id = 90});
$mesh->settle_one('us', 'eu');
is($mesh->sql('eu', 'SELECT name, ssn FROM person WHERE id = 90'), 'allowed, too|', 'a personal column is not sent');
seen('forbidden', 'a new personal column');

# ---- copied again, into tables that have rows; then tighter while it runs ----

$mesh->sql('eu', "SELECT tide.link_resync('$US')");
ok(defined wait_until(sub { $mesh->sql('eu', q{SELECT resyncs = 1 AND phase = 'streaming' AND state = 'streaming' FROM tide.links}) eq 't' }, 60, 'the resync'), 'copied again');
$mesh->settle_one('us', 'eu');
seen('forbidden', 'a resync');
my $rule = q{SELECT tide.class_alter('by_grade', '{"residency": {"regions": {"us-east": true, "eu-west": "grade < 7"}}}')};
{
	# A transaction that began before the rule: it is waited for, and what follows is under the new one.
	my $writer = $mesh->node('us')->background_psql('postgres');
	$writer->query_safe(q{BEGIN; INSERT INTO graded VALUES (500, 8, 'allowed still')});
	my $alter = $mesh->node('us')->background_psql('postgres');
	$alter->query_until(qr/started/, "\\echo started\n$rule;\n");
	ok(defined $mesh->wait_value('us', q{SELECT count(*) > 0 FROM pg_locks WHERE relation = 'graded'::regclass AND NOT granted}, 't'), 'a new rule waits for who writes');
	$writer->query_safe(q{INSERT INTO graded VALUES (501, 8, 'allowed still'); COMMIT});
	$writer->quit;
	$alter->quit;
}
$mesh->sql('us', q{INSERT INTO graded VALUES (502, 8, 'forbidden'), (503, 3, 'allowed'); UPDATE graded SET name = 'forbidden' WHERE grade BETWEEN 7 AND 10});
$mesh->settle_one('us', 'eu');
is($mesh->sql('eu', 'SELECT string_agg(id::text, \' \' ORDER BY id) FROM graded WHERE id BETWEEN 500 AND 510'), '500 501 503', 'tighter: the stream keeps to it');
seen('forbidden', 'tighter');
$mesh->sql('eu', $rule);
ok(defined $mesh->wait_value('eu', 'SELECT count(*) FROM graded WHERE grade >= 7', 0), '... and what was there goes');
is($mesh->sql('us', 'SELECT count(*) FROM graded WHERE grade BETWEEN 7 AND 10') > 0, 1, '... there only');
is($mesh->sql('eu', 'SELECT count(*) FROM hidden'), 0, 'a table that may not go there at all');
is($mesh->sql('eu', 'SELECT count(*) FROM tide.pending_changes'), 0, 'nothing is parked');
# ---- a class that is regional, was not for a while, and is again; under load, and with a transaction that is open ----

{
	my $alter = sub { $mesh->sql($_, sprintf q{SELECT tide.class_alter('local', '{"scope": "%s"}')}, $_[0]) for reverse $mesh->sides; };
	$mesh->class('local', scope => 'regional');
	$mesh->add_table('regional', 'local');
	my $us = $mesh->node('us');
	my $load = PgTide::Process->new(
		name    => 'load',
		log     => "$ENV{TIDE_DATA}/load.log",
		command => [ 'psql', '-Xq', '-v', 'ON_ERROR_STOP=1', '-d', $us->connstr('postgres'),
			map { ('-c', "INSERT INTO regional VALUES ($_, 'seen ' || $_ % 10)", '-c', 'SELECT pg_sleep(0.01)') } 1 .. 500 ])->start;
	for my $round (1 .. 3)
	{
		$alter->('global');
		ok(defined $mesh->wait_value('eu', q{SELECT count(*) FROM tide.link_table WHERE table_name = 'regional' AND state = 'copied'}, 1, 60), "round $round: global, and copied");
		my $open = $us->background_psql('postgres');
		$open->query_safe("BEGIN; INSERT INTO regional VALUES (1000 + $round, 'open')");
		$alter->('regional');
		$open->query_safe("INSERT INTO regional VALUES (2000 + $round, 'forbidden, open'); COMMIT");
		$open->quit;
		$mesh->sql('us', "INSERT INTO regional SELECT 3000 + n, 'forbidden' FROM generate_series(1, 10) n; UPDATE regional SET name = 'forbidden again' WHERE id > 3000");
		$mesh->settle_one('us', 'eu');
		seen('forbidden', "round $round: regional again");
		$mesh->sql('us', 'DELETE FROM regional WHERE id > 1000');
	}
	is($load->wait_end(60), 0, 'the load was not disturbed');
	like($mesh->error_of('us', 'ALTER PUBLICATION tide_global ADD TABLE regional'), qr/ERROR:  55006: publication "tide_global" is pg_tide's own\n.*HINT: /s, 'nobody publishes it by hand');
	$mesh->sql('us', q{INSERT INTO regional VALUES (9000, 'forbidden')});
	$mesh->settle_one('us', 'eu');
	seen('forbidden', 'after that');
}
cmp_ok($wire->bytes, '>', 100_000, 'the recorder has kept something');
note(sprintf '%d bytes were searched', $wire->bytes);
is_deeply($mesh->stop, { eu => 0 }, 'the relay ends with status 0');
$wire->stop;
done_testing();
