# Every type and shape of table that the documentation promises, copied and changed, equal in both regions byte for byte.

use strict;
use warnings;

use Test::More;

use PgTide::Mesh;
use PgTide::RowShapes;
use PgTide::Test qw(wait_until);

my $mesh = PgTide::Mesh->new;
my @shapes = PgTide::RowShapes->all;
my @only = split /,/, $ENV{TIDE_SHAPES} // '';
@shapes = grep { my $shape = $_; grep { $_ eq $shape->{name} } @only } @shapes if @only;

sub tables { return @{ $_[0]{tables} // [ $_[0]{name} ] }; }

# Set up everywhere, filled at us, links made: the first copy.  The regions' object numbers differ.
sub set_up
{
	$mesh->sql('us', PgTide::RowShapes->types_us);
	$mesh->sql('eu', PgTide::RowShapes->types_others);
	$mesh->class('shapes');
	for my $shape (@shapes)
	{
		$mesh->sql('us', $shape->{us} // $shape->{all});
		$mesh->sql('eu', $shape->{others} // $shape->{all});
		$mesh->add_table($_, 'shapes', $shape->{options}) for tables($shape);
		$mesh->sql('us', $shape->{first});
	}
	$mesh->link('eu', 'us');
	$mesh->start_relays;
	return;
}

# Columns that other regions have more of are theirs.
sub same
{
	my ($when) = @_;
	$mesh->same_tables("$_->{name}: $when", [ tables($_) ]) for @shapes;
	return;
}

sub stamped
{
	my ($table) = @_;
	return $mesh->sql('us', "SELECT count(*) FROM $table WHERE tide_stamp IS NULL");
}

sub test_shapes
{
	ok(defined $mesh->wait_copied('eu', 'us'), 'the first copy is done');
	$mesh->settle_one('us', 'eu');
	same('the same after the first copy');
	for my $shape (@shapes)
	{
		$mesh->sql('us', $_) for @{ $shape->{then} };
	}
	$mesh->settle_one('us', 'eu');
	same('the same after changes');
	is(join(' ', grep { stamped($_) ne '0' } map { tables($_) } @shapes), '', 'every row has its stamp');
	$mesh->nothing_special('nothing was parked, nothing copied again');
	return;
}

# What only the other region has is its own: a default when the row comes, and then left alone.
sub test_extra_columns
{
	$mesh->sql('eu', q{SET session_replication_role = replica; UPDATE other_order SET more = 'mine', note = 7 WHERE id = 7});
	$mesh->sql('us', q{UPDATE other_order SET a = 'once more' WHERE id = 7});
	$mesh->settle_one('us', 'eu');
	is($mesh->sql('eu', q{SELECT a, more, note FROM other_order WHERE id = 7}),
		'once more|mine|7', 'columns of the target alone stay as they are');
	is($mesh->sql('eu', q{SELECT DISTINCT more, note FROM other_order WHERE id <> 7}), 'here|',
		'... and get their defaults in new rows');
	return;
}

# A row that is missing comes whole, with values that the change did not touch.
sub test_missing_rows
{
	$mesh->sql('eu', q{SET session_replication_role = replica; DELETE FROM large; DELETE FROM keys; DELETE FROM ident_full});
	$mesh->sql('us', $_)
	  for 'UPDATE large SET n = n + 1', 'UPDATE keys SET v = v + 1, a = a + 1',
	  q{UPDATE ident_full SET v = 'x'};
	$mesh->settle_one('us', 'eu');
	$mesh->same_tables('rows that were missing came whole', [qw(large keys ident_full)]);
	$mesh->sql('eu', q{SET session_replication_role = replica; DELETE FROM keys});
	$mesh->sql('us', 'DELETE FROM keys');
	$mesh->settle_one('us', 'eu');
	$mesh->nothing_special('deleting what is not there is nothing special');
	return;
}

# Inserts alone cross; nobody is hindered in changing such a table at home.
sub test_insert_only
{
	my $before = $mesh->sql('eu', 'SELECT count(*) FROM keyless');
	$mesh->sql('us', q{UPDATE keyless SET v = 'changed'; DELETE FROM keyless WHERE v IS NULL; TRUNCATE keyless});
	$mesh->sql('us', q{INSERT INTO keyless (v) VALUES ('after')});
	$mesh->settle_one('us', 'eu');
	is($mesh->sql('eu', 'SELECT count(*) FROM keyless'), $before + 1, 'insert_only: inserts cross, changes don\'t');
	return;
}

# RESTART IDENTITY restarts the sequence here, too.
sub test_restart_identity
{
	is($mesh->sql('eu', q{SELECT is_called FROM emptied_id_seq}), 'f', 'RESTART IDENTITY crosses');
	return;
}

# A prepared transaction is here when it commits, and not before; the relays were away meanwhile.
sub test_two_phase
{
	$mesh->sql('us', q{BEGIN; INSERT INTO prepared VALUES (100, 'waits'); PREPARE TRANSACTION 'later'});
	$mesh->sql('us', q{INSERT INTO prepared VALUES (101, 'overtakes')});
	$mesh->settle_one('us', 'eu');
	is($mesh->sql('eu', 'SELECT string_agg(id::text, \',\') FROM prepared WHERE id >= 100'), '101',
		'a prepared transaction is overtaken, and not here');
	is($mesh->sql('us', q{SELECT who FROM tide.rows_transactions('0') WHERE state = 'prepared' AND writes}),
		'prepared transaction "later" of role tide', '... and named where the doctor looks for old transactions');
	$mesh->relay('eu')->kill9;
	$mesh->node('us')->restart;
	$mesh->start_relay('eu');
	$mesh->sql('us', q{INSERT INTO prepared VALUES (102, 'after the restart')});
	$mesh->settle_one('us', 'eu');
	is($mesh->sql('eu', 'SELECT string_agg(id::text, \',\' ORDER BY id) FROM prepared WHERE id >= 100'), '101,102',
		'... nor after a restart');
	$mesh->sql('us', q{COMMIT PREPARED 'later'});
	$mesh->settle_one('us', 'eu');
	$mesh->same_tables('... but once it commits', ['prepared']);
	return;
}

# Partitions come and go at home; nobody else need have the same.
sub test_partitions
{
	$mesh->sql('us', $_)
	  for q{CREATE TABLE parts_4 (LIKE parts INCLUDING ALL)},
	  q{INSERT INTO parts_4 (id, day, v) VALUES (700, '2026-08-01', 'was there')},
	  q{ALTER TABLE parts DETACH PARTITION parts_3},
	  q{ALTER TABLE parts ATTACH PARTITION parts_4 FOR VALUES FROM ('2026-07-01') TO (MAXVALUE)},
	  q{INSERT INTO parts VALUES (701, '2026-09-01', 'new'), (702, '2026-02-01', 'elsewhere')},
	  q{UPDATE parts SET v = 'touched' WHERE id IN (700, 702)},
	  q{UPDATE parts_3 SET v = 'no longer of it'};
	$mesh->settle_one('us', 'eu');
	is($mesh->sql('eu', q{SELECT string_agg(id || ' ' || v, ', ' ORDER BY id) FROM parts WHERE id >= 700}),
		'700 touched, 701 new, 702 touched', 'rows of an attached partition cross when they change');
	is($mesh->sql('eu', q{SELECT count(*) FROM parts WHERE v = 'no longer of it'}), '0',
		'... and what happens to a detached one does not');
	is($mesh->sql('eu', q{SELECT count(*) > 0 FROM parts WHERE v = 'in a part'}), 't',
		'... whose rows stay where they are');
	return;
}

# TRUNCATE of one partition: the server tells nobody of it, as the table is published as a whole.
sub test_truncated_partitions
{
	$mesh->sql_all(q{CREATE TABLE year (id int, day date, v text, PRIMARY KEY (id, day)) PARTITION BY RANGE (day)});
	$mesh->sql('us', <<~'END');
		CREATE TABLE year_1 PARTITION OF year FOR VALUES FROM (MINVALUE) TO ('2026-07-01');
		CREATE TABLE year_2 PARTITION OF year FOR VALUES FROM ('2026-07-01') TO (MAXVALUE) PARTITION BY LIST (id);
		CREATE TABLE year_2a PARTITION OF year_2 FOR VALUES IN (1, 2, 3);
		CREATE TABLE year_2b PARTITION OF year_2 DEFAULT;
		CREATE FUNCTION fired() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RAISE EXCEPTION 'fired'; END$$;
		CREATE TRIGGER fired BEFORE DELETE ON year FOR EACH ROW EXECUTE FUNCTION fired();
		END
	$mesh->sql('eu', 'CREATE TABLE year_all PARTITION OF year DEFAULT');
	$mesh->add_table('year', 'shapes');
	ok(defined $mesh->wait_copied('eu', 'us'), 'a table is added');
	my $fill = q{INSERT INTO year SELECT n, date '2026-01-01' + n * 30, 'v' FROM generate_series(1, 12) n;
		INSERT INTO year SELECT n, '2026-12-24', 'x' FROM generate_series(1, 5) n};
	my $empty = sub {
		my ($what, $sql) = @_;
		$mesh->sql('us', 'TRUNCATE year');
		$mesh->sql('us', $fill);
		$mesh->sql('us', $sql);
		$mesh->settle_one('us', 'eu');
		$mesh->same_tables("TRUNCATE of $what crosses", ['year']);
		return;
	};
	$empty->('a partition', 'TRUNCATE year_1');
	$empty->('a partition that is partitioned', 'TRUNCATE year_2');
	$empty->('a partition\'s partition', 'TRUNCATE ONLY year_2b');
	$empty->('partitions, taken back', 'BEGIN; SAVEPOINT a; TRUNCATE year_1, year_2; ROLLBACK TO a; DELETE FROM year_2b WHERE false; COMMIT');
	$empty->('a partition that was written before', q{BEGIN; INSERT INTO year VALUES (70, '2026-01-01', 'x'); TRUNCATE year_1;
		INSERT INTO year VALUES (71, '2026-01-01', 'x'); COMMIT});
	$empty->('the whole and a partition', q{BEGIN; TRUNCATE year_1, year; INSERT INTO year VALUES (72, '2026-01-01', 'x'); COMMIT});
	$empty->('the whole, then a partition', q{BEGIN; TRUNCATE year; INSERT INTO year VALUES (73, '2026-01-01', 'x'), (74, '2026-12-01', 'x');
		TRUNCATE year_1; COMMIT});
	$empty->('a partition made later', q{TRUNCATE year_1; ALTER TABLE year DETACH PARTITION year_1;
		CREATE TABLE year_3 PARTITION OF year FOR VALUES FROM (MINVALUE) TO ('2026-02-01');
		INSERT INTO year VALUES (75, '2026-01-01', 'x'); TRUNCATE year_3});
	my $triggers = q{SELECT string_agg(tgrelid::regclass::text, ' ' ORDER BY tgrelid::regclass::text COLLATE "C")
		FROM pg_trigger WHERE tgname = 'tide_truncate' AND tgrelid::regclass::text ~ '^year'};
	is($mesh->sql('us', $triggers), 'year year_2a year_2b year_3', 'a detached partition loses the trigger for that');
	$mesh->sql('us', q{SELECT tide.table_remove('year')});
	is($mesh->sql('us', $triggers), '', 'table_remove takes them away');
	return;
}

sub test_refused
{
	$mesh->sql('us', <<~'END');
		CREATE TABLE no_key (a int);
		CREATE TABLE no_key_full (a int); ALTER TABLE no_key_full REPLICA IDENTITY FULL;
		CREATE TABLE nothing (a int PRIMARY KEY); ALTER TABLE nothing REPLICA IDENTITY NOTHING;
		CREATE TABLE late_key (a int PRIMARY KEY DEFERRABLE);
		CREATE UNLOGGED TABLE unlogged (a int PRIMARY KEY);
		CREATE VIEW a_view AS SELECT 1 AS a;
		CREATE MATERIALIZED VIEW a_matview AS SELECT 1 AS a;
		CREATE TYPE a_row AS (a int);
		CREATE TABLE typed OF a_row (PRIMARY KEY (a));
		END
	for my $table (qw(no_key no_key_full nothing late_key unlogged a_view a_matview typed pg_class tide.link))
	{
		my $error = $mesh->error_of('us', "SELECT tide.table_add('$table', 'shapes')");
		like($error, qr/ERROR:  \w{5}: .*\Q$table\E.*HINT: /s, "$table: refused, with a hint");
	}
	is($mesh->error_of('us', q{SELECT tide.table_add('nothing', 'shapes', '{"insert_only": true}')}), '',
		'insert_only: taken without a key');
	return;
}

set_up();
test_shapes();
if (!@only)
{
	test_extra_columns();
	test_missing_rows();
	test_insert_only();
	test_restart_identity();
	test_two_phase();
	test_partitions();
	test_truncated_partitions();
	test_refused();
}
is_deeply($mesh->stop, { us => 0, eu => 0 }, 'both relays end with status 0');
done_testing();
