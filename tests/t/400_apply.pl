# Applying rows beside local writers and other appliers, and what is left of it after a crash.

use strict;
use warnings;

use Test::More;

use PgTide::Region;
use PgTide::Test qw(wait_until);

my $node = PgTide::Region->make('eu', conf => "wal_level = logical\nwal_writer_delay = 10s\nlog_min_messages = log\n");
my $lib = "$ENV{TIDE_TOP}/extension/test/lib/frames.sql";

sub sql
{
	my ($sql) = @_;
	return $node->safe_psql('postgres', $sql);
}

# A frame with one transaction of these records, ready to be applied.
sub frame_sql
{
	my ($records) = @_;
	my $rel = q{f.rel('t', '*id integer', 'v text', 'tide_stamp tide.stamp')};
	return "SELECT f.apply(f.next($rel || $records))";
}

# As sql(), in a session of its own: the one before may be leaving still, and holds the origin until then.
sub apply_sql
{
	my ($sql) = @_;
	my ($rc, $out, $err);
	wait_until(sub {
		($rc, $out, $err) = $node->psql('postgres', $sql);
		return $rc == 0 || $err !~ /another session is applying/;
	}, 30, 'the origin is free');
	diag($err) if $rc != 0;
	return $out;
}

# Nobody else is there any more who could hold the origin.
sub alone
{
	wait_until(sub { sql(q{SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'client backend'}) eq 't' }, 30,
		'the sessions before are gone');
	return;
}

sub waits
{
	my ($session, $what) = @_;
	wait_until(sub { sql("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%f.apply%'") > 0 },
		30, $what);
	return;
}

sub later
{
	my ($session, $sql) = @_;
	$session->{stdin} .= "$sql;\n\\echo done\n";
	$session->{run}->pump_nb;
	return;
}

sub set_up
{
	sql("\\i $lib");
	sql('SELECT f.link(); CREATE TABLE t (id int PRIMARY KEY, v text); ');
	sql(q{SELECT tide.table_add('t', 'shop')});
	sql(q{INSERT INTO t SELECT n, 'here' FROM generate_series(1, 9) n; UPDATE t SET tide_stamp = '5@00000001'});
	return;
}

# A local transaction has the row: the change waits, and then decides by what that left.
sub test_local_writers
{
	my $local = $node->background_psql('postgres');
	my $apply = $node->background_psql('postgres', on_error_stop => 0);

	$local->query_safe(q{BEGIN; UPDATE t SET v = 'local' WHERE id = 1; DELETE FROM t WHERE id = 2; UPDATE t SET id = 30 WHERE id = 3});
	later($apply, frame_sql(q{f.upd('t', '1', 'remote', f.at('us', 1)) || f.upd('t', '2', 'back', f.at('us', 1)) || f.upd('t', '3', 'anew', f.at('us', 1))}));
	waits($apply, 'the change waits for the local transaction');
	$local->query_safe('COMMIT');
	like($apply->query('SELECT 1'), qr/1/, 'then it goes on');
	is(sql(q{SELECT id, v FROM t WHERE id IN (1, 2, 3, 30) ORDER BY id}), "1|local\n2|back\n3|anew\n30|here",
		'the newer version stays, deleted and moved rows come anew');

	# Somebody inserts the same key just now: without care that is an error, with care it is merged.
	$local->query_safe(q{BEGIN; INSERT INTO t VALUES (50, 'local')});
	later($apply, frame_sql(q{f.ins('t', '50', 'remote', f.at('us', 1))}));
	waits($apply, 'an insert waits for one of the same key');
	$local->query_safe('COMMIT');
	eval { $apply->query('SELECT 1') }; # complains of the error before it
	$local->quit;
	$apply->quit;
	(my $careful = frame_sql(q{f.ins('t', '50', 'remote', f.at('us', 1))})) =~ s/\)$/, true)/;
	is(apply_sql($careful), '1 transactions, 1 changes, 1 kept', 'with care it meets the row');
	is(sql('SELECT count(*) FROM tide.parked_change'), 0, '... and nothing is parked');
	return;
}

# Two sessions for a link: the second waits, and then knows where the first has come.
sub test_appliers
{
	alone();
	my $first = $node->background_psql('postgres');
	my $frame = sql(q{SELECT f.next(f.rel('t', '*id integer', 'v text', 'tide_stamp tide.stamp') || f.ins('t', '60', 'once', NULL))});

	$first->query_safe(qq{BEGIN; SELECT f.apply('$frame')});
	my (undef, undef, $err) = $node->psql('postgres', "SET lock_timeout = '200ms'; SELECT f.apply('$frame')");
	like($err, qr/lock timeout/, 'a second session waits for the first');
	$first->query_safe('COMMIT');
	($_, undef, $err) = $node->psql('postgres', '\set VERBOSITY verbose' . "\nSELECT f.apply('$frame')");
	like($err, qr/55P03: another session is applying rows of region "us"/, 'it is told that the first still holds the origin');
	$first->quit;
	wait_until(sub { ($node->psql('postgres', "SELECT f.apply('$frame')"))[0] == 0 }, 30, 'when that is gone');
	is(sql('SELECT count(*) FROM t WHERE id = 60'), 1, '... it applies nothing twice');
	return;
}

# Only what is durable is called so; a crash loses nothing that was.
sub test_durable
{
	alone();
	my $apply = $node->background_psql('postgres');

	$apply->query_safe(frame_sql(q{f.ins('t', '70', 'first', NULL)}));
	my $flushed = $apply->query_safe(q{SELECT tide.apply_flushed('link:us', f.epoch())});
	$apply->query_safe(frame_sql(q{f.ins('t', '71', 'second', NULL)}));
	$flushed = $apply->query_safe(q{SELECT tide.apply_flushed('link:us', f.epoch())});
	my $position = sql('SELECT f.position()');
	isnt($flushed, $position, 'a commit that did not wait for the disk is not durable yet');
	$node->stop('immediate');
	$node->start;
	is(sql("SELECT f.position() >= '$flushed'"), 't', 'after a crash: what was called durable is here');
	is(sql(q{SELECT tide.apply_flushed('link:us', f.epoch()) = f.position()}), 't', 'what is here is durable for a new session');
	apply_sql(frame_sql(q{f.ins('t', '72', 'third', NULL)}));
	return;
}

# Whoever decodes this server's WAL sees that the rows came by a link.
sub test_tagged
{
	sql(q{SELECT pg_create_logical_replication_slot('s', 'pgoutput')});
	apply_sql(frame_sql(q{f.ins('t', '80', 'from us', NULL)}));
	sql(q{INSERT INTO t VALUES (81, 'from here')});
	my $messages = sql(q{SELECT string_agg(chr(get_byte(data, 0)), '') FROM pg_logical_slot_get_binary_changes('s', NULL, NULL,
		'proto_version', '1', 'publication_names', 'tide_global')});
	like($messages, qr/^B?O?.*BO[^B]*I[^B]*C.*B[^O]*I[^B]*C$/, 'rows that were applied have an origin, others have none');
	is(sql(q{SELECT roident = 0 OR remote_lsn = '0/0' FROM pg_replication_origin o LEFT JOIN pg_replication_origin_status s ON s.local_id = o.roident
		WHERE o.roname LIKE 'tide_%us'}), 't', 'the origin is a tag only');
	return;
}

set_up();
test_local_writers();
test_appliers();
test_durable();
test_tagged();
$node->stop;
done_testing();
