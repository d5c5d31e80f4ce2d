# Residency over three regions: rows by column and by predicate, columns, personal data; rows that flip between regions under load;
# rules made tighter and looser while everything runs.  What a region may not have is not there, and nobody else loses it.

use strict;
use warnings;

use Test::More;

use PgTide::Mesh;
use PgTide::Test qw(wait_until);

my $mesh = PgTide::Mesh->new(sides => [qw(us eu ap)]);
my %REGION = map { $_ => $mesh->sql($_, 'SELECT tide.region_name()') } $mesh->sides;

sub residency
{
	my ($rule) = @_;
	return (scope => 'global', residency => $rule);
}

# What a query gives in each region, in the order us, eu, ap.
sub everywhere
{
	my ($query, $wanted, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is(join(' | ', map { $mesh->sql($_, $query) } $mesh->sides), join(' | ', @$wanted), $name) or $mesh->show_links;
	return;
}

sub alter
{
	my ($side, $class, $rule) = @_;
	return $mesh->sql($side, sprintf 'SELECT object, change FROM tide.class_alter(%s, %s)',
		PgTide::Duo::literal($class), PgTide::Duo::jsonb({ residency => $rule }));
}

sub audit
{
	my ($side, $table) = @_;
	return $mesh->sql($side, sprintf q{SELECT rows_against, values_against FROM tide.residency_audit() WHERE "table" = 'public.' || %s AND rows_against IS NOT NULL},
		PgTide::Duo::literal($table));
}

$mesh->sql_all(<<'END');
CREATE TABLE customer (id int PRIMARY KEY, region text NOT NULL, name text, n int NOT NULL DEFAULT 0);
CREATE TABLE orders (id int PRIMARY KEY, total int NOT NULL, note text);
CREATE TABLE patient (id int PRIMARY KEY, name text, diagnosis text DEFAULT 'unknown');
CREATE TABLE person (id int PRIMARY KEY, name text);
CREATE TABLE log (at int NOT NULL, region text NOT NULL, line text);
CREATE TABLE visit (id int, region text NOT NULL, day int, v text, PRIMARY KEY (id, day)) PARTITION BY RANGE (day);
CREATE TABLE visit_1 PARTITION OF visit FOR VALUES FROM (0) TO (10);
CREATE TABLE visit_2 PARTITION OF visit FOR VALUES FROM (10) TO (20);
END
$mesh->sql('us', <<"END");
INSERT INTO customer SELECT n, (ARRAY['$REGION{us}', '$REGION{eu}', '$REGION{ap}'])[n % 3 + 1], 'old ' || n FROM generate_series(1, 300) n;
INSERT INTO orders SELECT n, n * 10, 'note ' || n FROM generate_series(1, 100) n;
INSERT INTO patient SELECT n, 'p' || n, 'secret' FROM generate_series(1, 10) n;
END
$mesh->class('by_region', residency({ column => 'region', regions => { $REGION{us} => JSON::PP::true } }));
$mesh->class('large', residency({ regions => { $REGION{eu} => 'total >= 500', '*' => JSON::PP::true } }));
$mesh->class('health', residency({ regions => { $REGION{eu} => { without => ['diagnosis'] }, $REGION{us} => JSON::PP::true } }));
$mesh->class('people', residency({ personal => JSON::PP::true }));
$mesh->add_table($_, 'by_region') for qw(customer visit);
$mesh->add_table('log', 'by_region', { insert_only => JSON::PP::true });
$mesh->add_table('orders', 'large');
$mesh->add_table('patient', 'health');
$mesh->add_table('person', 'people');
$mesh->link_all;
$mesh->start_relays;
# health goes nowhere from us to ap, so its copy there stays wanted
ok(defined $mesh->wait_streaming(@$_), "$_->[0] takes rows from $_->[1]") for $mesh->ways;

# ---- the first copy, and the stream ----

$mesh->settle('the first copy');
my $ids = q{SELECT count(*) || ' ' || coalesce(string_agg(DISTINCT region, ','), '') FROM customer};
everywhere($ids, [ "300 $REGION{ap},$REGION{eu},$REGION{us}", "100 $REGION{eu}", "100 $REGION{ap}" ], 'copied: each region has its rows');
everywhere('SELECT count(*), min(total) FROM orders', [ '100|10', '51|500', '100|10' ], 'copied: a predicate');
everywhere('SELECT count(*), string_agg(DISTINCT diagnosis, \' \') FROM patient', [ '10|secret', '10|unknown', '0|' ],
	'copied: a column less, its default instead; nothing for who is not named');
$mesh->sql('us', <<"END");
INSERT INTO customer SELECT n, (ARRAY['$REGION{us}', '$REGION{eu}', '$REGION{ap}'])[n % 3 + 1], 'new ' || n FROM generate_series(301, 600) n;
INSERT INTO visit SELECT n, (ARRAY['$REGION{us}', '$REGION{eu}', '$REGION{ap}'])[n % 3 + 1], n % 20, 'v' FROM generate_series(1, 60) n;
INSERT INTO log SELECT n, (ARRAY['$REGION{us}', '$REGION{eu}', '$REGION{ap}'])[n % 3 + 1], 'l' FROM generate_series(1, 30) n;
UPDATE orders SET total = total + 1, note = note || '!';
UPDATE orders SET total = 1 WHERE id = 100;
UPDATE orders SET total = 1000 WHERE id = 1;
DELETE FROM orders WHERE id IN (2, 99);
UPDATE patient SET name = name || '+', diagnosis = 'more secret';
INSERT INTO patient VALUES (11, 'p11', 'secret');
UPDATE visit SET region = '$REGION{eu}', day = (day + 10) % 20 WHERE region = '$REGION{ap}';
INSERT INTO person VALUES (1, 'Ann'), (2, 'Bob');
END
$mesh->settle('the stream');
everywhere($ids, [ "600 $REGION{ap},$REGION{eu},$REGION{us}", "200 $REGION{eu}", "200 $REGION{ap}" ], 'streamed: each region has its rows');
everywhere(q{SELECT count(*), min(total), max(total), count(*) FILTER (WHERE note LIKE '%!') FROM orders},
	[ '98|1|1000|98', '50|501|1000|50', '98|1|1000|98' ], 'streamed: a predicate; rows that left its range, and came into it');
everywhere('SELECT count(*), string_agg(DISTINCT diagnosis, \' \' ORDER BY diagnosis) FROM patient', [ '11|more secret secret', '11|unknown', '0|' ],
	'streamed: a column less');
is($mesh->sql('eu', q{SELECT name FROM patient WHERE id = 1}), 'p1+', '... the others change');
everywhere(q{SELECT count(*) || ' ' || string_agg(DISTINCT region, ',') FROM visit}, [ "60 $REGION{eu},$REGION{us}", "40 $REGION{eu}", '' ],
	'partitions: rows that move to another region and another partition');
everywhere('SELECT count(*) FROM log', [ 30, 10, 10 ], 'insert-only');
everywhere('SELECT count(*) FROM person', [ 2, 2, 2 ], 'personal: what was there goes');

# ---- a removal is not a delete elsewhere ----

# eu writes a row for ap; us sends one from eu to ap.  eu loses it, by a change that came by a link; that does not go on.
$mesh->sql('us', "UPDATE customer SET region = '$REGION{ap}' WHERE region = '$REGION{eu}'");
$mesh->settle;
everywhere($ids, [ "600 $REGION{ap},$REGION{us}", '0 ', "400 $REGION{ap}" ], 'rows that move on are removed where they were, and are where they go');
$mesh->sql('us', "UPDATE customer SET region = (ARRAY['$REGION{us}', '$REGION{eu}', '$REGION{ap}'])[id % 3 + 1]");
$mesh->settle;
everywhere($ids, [ "600 $REGION{ap},$REGION{eu},$REGION{us}", "200 $REGION{eu}", "200 $REGION{ap}" ], '... and back');

# A row that comes back to who wrote it first, who still has it as it was: the same row, though its region is another.
$mesh->sql('eu', "INSERT INTO customer VALUES (9000, '$REGION{us}', 'from eu')");
$mesh->settle;
$mesh->sql('us', "UPDATE customer SET name = 'kept a while' WHERE id = 9000");
$mesh->sql('us', "UPDATE customer SET region = '$REGION{eu}', name = 'back' WHERE id = 9000");
$mesh->settle;
everywhere('SELECT name FROM customer WHERE id = 9000', [ 'back', 'back', '' ], 'a row that comes back meets itself');
$mesh->sql('us', 'DELETE FROM customer WHERE id = 9000');
$mesh->settle;
everywhere('SELECT count(*) FROM customer WHERE id = 9000', [ 0, 0, 0 ], '... and is deleted');

# ---- rows that flip under load ----

{
	my @writers = map { $mesh->node('us')->background_psql('postgres') } 1 .. 3;
	my $other = $mesh->node('eu')->background_psql('postgres');
	for my $round (1 .. 15)
	{
		for my $w (0 .. $#writers)
		{
			$writers[$w]->query_safe(<<~"END");
				UPDATE customer SET n = n + 1, region = (ARRAY['$REGION{us}', '$REGION{eu}', '$REGION{ap}'])[(id / 3 + n + $round) % 3 + 1] WHERE id % 3 = $w AND id < 10000;
				BEGIN;
				UPDATE customer SET region = '$REGION{eu}' WHERE id % 30 = $w AND id < 10000;
				UPDATE customer SET region = '$REGION{ap}' WHERE id % 30 = $w AND id < 10000;
				UPDATE customer SET region = '$REGION{eu}', name = name || '.' WHERE id % 60 = $w AND id < 10000;
				COMMIT;
				END
		}
		$other->query_safe("INSERT INTO customer SELECT 10000 + $round * 10 + n, CASE WHEN n % 2 = 0 THEN '$REGION{us}' ELSE '$REGION{ap}' END, 'of eu' FROM generate_series(1, 6) n");
	}
	$_->quit for @writers, $other;
}
$mesh->settle('after the flips');
for my $side (qw(eu ap))
{
	my $query = "SELECT count(*), md5(string_agg(c::text, ',' ORDER BY id)) FROM customer c WHERE region = '$REGION{$side}' AND tide.stamp_region(tide_stamp) = 'us-east'";
	is($mesh->sql($side, $query), $mesh->sql('us', $query), "$side has exactly its rows of us, as us has them");
	is($mesh->sql($side, "SELECT count(*) FROM customer WHERE region <> '$REGION{$side}' AND tide.stamp_region(tide_stamp) <> '$REGION{$side}'"), 0, "... and none of others");
}
is($mesh->sql('us', q{SELECT count(*) FROM customer WHERE name = 'of eu'}), 90, 'us has what eu wrote');
is($mesh->sql('ap', q{SELECT count(*) FROM customer WHERE name = 'of eu'}), 45, '... and ap');
ok(defined $mesh->wait_value('eu', q{SELECT count(*) FROM customer WHERE name = 'of eu'}, 0), '... and eu hands it over');
is(audit($_, 'customer'), '0|0', "$_ holds nothing against policy") for $mesh->sides;
is($mesh->sql($_, 'SELECT count(*) FROM tide.pending_changes'), 0, "nothing is parked in $_") for $mesh->sides;

# ---- a personal column added while streaming ----

{
	my $writer = $mesh->node('us')->background_psql('postgres');
	$writer->query_safe("BEGIN; INSERT INTO person VALUES (3, 'Cid')");
	$writer->query_safe("COMMIT");
	$mesh->sql($_, 'ALTER TABLE person ADD COLUMN ssn text') for qw(us eu);
	$writer->query_safe("UPDATE person SET ssn = 'ssn-' || id; INSERT INTO person VALUES (4, 'Dan')");
	$mesh->sql('us', q{UPDATE person SET ssn = 'ssn-4', name = 'Dan!' WHERE id = 4});
	$mesh->settle;
	is($mesh->sql('eu', 'SELECT count(*), count(ssn) FROM person'), '4|0', 'a column that came later is not sent');
	is($mesh->sql('ap', q{SELECT string_agg(name, ',' ORDER BY id) FROM person}), 'Ann,Bob,Cid,Dan!', '... and does not hold the others up where it is not');
	$mesh->sql('us', q{SELECT tide.residency_allow('person', 'ssn')});
	$mesh->sql('eu', q{SELECT tide.residency_allow('person', 'ssn')});
	ok(defined $mesh->wait_value('eu', q{SELECT string_agg(ssn, ',' ORDER BY id) FROM person}, 'ssn-1,ssn-2,ssn-3,ssn-4'), 'allowed: it is copied');
	$writer->query_safe("UPDATE person SET ssn = 'new' WHERE id = 1");
	# ap does not have it yet: it takes the rest when it has
	$mesh->sql('ap', 'ALTER TABLE person ADD COLUMN ssn text');
	$mesh->sql('ap', 'SELECT tide.pending_retry(id) FROM tide.pending_changes ORDER BY id');
	$writer->quit;
	$mesh->settle;
	is($mesh->sql('eu', 'SELECT ssn FROM person WHERE id = 1'), 'new', '... and streamed');
	$mesh->sql('us', q{SELECT tide.residency_deny('person', 'ssn')});
	$mesh->sql($_, q{SELECT tide.residency_deny('person', 'ssn')}) for qw(eu ap);
	ok(defined $mesh->wait_value($_, 'SELECT count(*), count(ssn) FROM person', '4|0'), "denied again: $_ forgets it") for qw(eu ap);
	is($mesh->sql('us', 'SELECT count(ssn) FROM person'), 4, '... who wrote it does not');
}

# ---- tighter and looser, live ----

{
	my $tight = { regions => { $REGION{eu} => 'total >= 800', '*' => JSON::PP::true } };
	like($mesh->sql('eu', sprintf 'SELECT object, change FROM tide.class_alter(%s, %s, dry_run => true)', "'large'", PgTide::Duo::jsonb({ residency => $tight })),
		qr/rows and 0 values of other regions are removed here/, 'a dry run says what goes');
	is($mesh->sql('eu', 'SELECT count(*) FROM orders'), 50, '... and does nothing');
	alter($_, 'large', $tight) for qw(us ap eu);
	ok(defined $mesh->wait_value('eu', 'SELECT count(*) FROM orders WHERE total < 800', 0), 'tighter: rows go');
	$mesh->sql('us', 'UPDATE orders SET total = total - 1 WHERE total BETWEEN 600 AND 900');
	$mesh->settle;
	everywhere('SELECT count(*) FROM orders', [ 98, $mesh->sql('us', 'SELECT count(*) FROM orders WHERE total >= 800'), 98 ], '... nowhere else; and the stream keeps to it');
	is(audit('eu', 'orders'), '0|0', '... so says the audit');
	# Copies that have begun by one rule when the next comes: they wait for transactions that are open where they read.
	my %open = map { $_ => $mesh->node($_)->background_psql('postgres') } qw(us ap);
	$open{$_}->query_safe("BEGIN; INSERT INTO log VALUES (99, '$REGION{$_}', 'open')") for keys %open;
	alter($_, 'large', { regions => { $REGION{eu} => 'total >= 700', '*' => JSON::PP::true } }) for qw(us ap eu);
	ok(defined $mesh->wait_value($_, q{SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'CREATE_REPLICATION_SLOT%tide_copy%' AND state = 'active'}, 1),
		"a copy from $_ waits") for keys %open;
	alter($_, 'large', { regions => { '*' => JSON::PP::true } }) for qw(us ap eu);
	$_->query_safe('COMMIT'), $_->quit for values %open;
	ok(defined $mesh->wait_value('eu', 'SELECT count(*) FROM orders', 98), 'looser: rows come');
	$mesh->settle;
	$mesh->same_tables('... and are what the others have', ['orders']);
	$mesh->sql_all(q{SELECT tide.class_alter('large', '{"residency": null}')});
	$mesh->sql('us', q{UPDATE orders SET note = 'free'});
	$mesh->settle;
	$mesh->same_tables('without residency: the same stream as before', ['orders']);
}

# ---- a region's holdings after its rule alone was changed ----

alter('us', 'health', { regions => { $REGION{us} => JSON::PP::true, $REGION{eu} => JSON::PP::false } });
$mesh->sql('us', q{UPDATE patient SET name = 'gone'});
$mesh->settle;
is($mesh->sql('eu', q{SELECT count(*), count(*) FILTER (WHERE name = 'gone') FROM patient}), '11|0', 'the source alone: nothing more comes, what is there stays');
alter('eu', 'health', { regions => { $REGION{us} => JSON::PP::true, $REGION{eu} => JSON::PP::false } });
ok(defined $mesh->wait_value('eu', 'SELECT count(*) FROM patient', 0), '... until the destination knows');
is($mesh->sql('us', 'SELECT count(*) FROM patient'), 11, '... and nobody else loses it');

is($mesh->sql($_, 'SELECT count(*) FROM tide.pending_changes'), 0, "nothing is parked in $_") for $mesh->sides;
is_deeply($mesh->stop, { us => 0, eu => 0, ap => 0 }, 'the relays end with status 0');
done_testing();
